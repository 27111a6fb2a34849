resource "aws_s3_bucket" "photos" {
  dynamic "cors_rule" {
    for_each = var.rules
    content {
      allowed_methods = cors_rule.value.methods
      allowed_origins = cors_rule.value.origins
    }
  }
}
