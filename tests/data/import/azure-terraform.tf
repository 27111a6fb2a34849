resource "azurerm_storage_account" "photos" {
  name = "photos"

  blob_properties {
    cors_rule {
      allowed_headers    = ["*"]
      allowed_methods    = ["GET", "PUT"]
      allowed_origins    = ["https://*.example.com"]
      exposed_headers    = ["ETag"]
      max_age_in_seconds = 3600
    }
  }
}
