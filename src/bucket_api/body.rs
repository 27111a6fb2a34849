//! Reads the complete body of a request.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::cors::{MALFORMED_XML, MAX_DOCUMENT};
use crate::upstream::request_body::RequestBody;

use super::error::ApiError;

/// The time limit for a client to send a document.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Reads a body of at most [`MAX_DOCUMENT`].
pub(super) async fn read(body: &mut RequestBody) -> Result<Bytes, ApiError> {
    let limited = Limited::new(body, MAX_DOCUMENT);
    match tokio::time::timeout(BODY_TIME, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ApiError::bad_request("MalformedXML", MALFORMED_XML))
        }
        Ok(Err(_)) => {
            let message = "You did not provide the number of bytes specified by the Content-Length \
                           HTTP header.";
            Err(ApiError::bad_request("IncompleteBody", message))
        }
        Err(_) => {
            let message = "Your socket connection to the server was not read from or written to \
                           within the timeout period.";
            Err(ApiError::bad_request("RequestTimeout", message))
        }
    }
}
