resource "google_storage_bucket" "photos" {
  name = "photos"

  cors {
    origin          = ["https://app.example.com"]
    method          = ["GET", "HEAD"]
    response_header = ["ETag"]
    max_age_seconds = 3600
  }
}
