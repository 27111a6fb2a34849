resource "b2_bucket" "photos" {
  bucket_name = "photos"
  cors_rules {
    cors_rule_name     = "downloads"
    allowed_operations = ["s3_get", "s3_head"]
    allowed_origins    = ["https://app.example.com"]
    max_age_seconds    = 3600
  }
}
