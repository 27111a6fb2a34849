//! Why a request's body cannot be forwarded.

use std::io;

/// Why a request's body cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// The client's HTTP/1.1 connection failed, or the body is invalid.
    #[error("the client's connection failed")]
    Http1(#[source] io::Error),
    /// The client's HTTP/2 stream failed.
    #[error("the client's stream failed")]
    Http2(#[source] h2::Error),
    /// The body is longer or shorter than `Content-Length`.
    #[error("the length of the body differs from Content-Length")]
    WrongLength,
}

impl From<RequestBodyError> for io::Error {
    fn from(error: RequestBodyError) -> Self {
        match error {
            RequestBodyError::Http1(error) => error,
            RequestBodyError::Http2(error) => Self::other(error),
            RequestBodyError::WrongLength => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}
