//! s3cors: a reverse proxy that adds S3-compliant CORS in front of any upstream.

pub mod cors;
