resource "cloudflare_r2_bucket_cors" "photos" {
  bucket_name = "photos"
  rules = [{
    allowed = {
      methods = ["GET"]
      origins = ["https://app.example.com"]
    }
    expose_headers  = ["ETag"]
    max_age_seconds = 3600
  }]
}
