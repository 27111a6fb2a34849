//! s3cors: a reverse proxy that adds S3-compliant CORS in front of any upstream.

pub mod cors;
#[cfg(feature = "proxy")]
pub mod metrics;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "proxy")]
pub mod server;
