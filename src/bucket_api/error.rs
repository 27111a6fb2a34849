//! S3's errors: code, message, status and additional elements.

use http::{Method, StatusCode};

use crate::cors::error_document;

/// An error in S3's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The response's status.
    pub status: StatusCode,
    /// `Code`, for programs and metrics.
    pub code: &'static str,
    /// `Message`, for people.
    pub message: String,
    /// The document's elements between `Message` and `RequestId`.
    pub details: Vec<(&'static str, String)>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            details: Vec::new(),
        }
    }

    /// 400.
    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 403.
    pub(super) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 403 `AccessDenied`.
    pub(super) fn access_denied(message: impl Into<String>) -> Self {
        Self::forbidden("AccessDenied", message)
    }

    /// Adds an element.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    /// The document, with the request's ids from the log.
    #[must_use]
    pub fn to_xml(&self, request_id: &str, host_id: &str) -> String {
        let details = self.details.iter().map(|(name, value)| (*name, &**value));
        error_document(self.code, &self.message, details, request_id, host_id)
    }
}

pub(super) fn internal_error() -> ApiError {
    let message = "We encountered an internal error. Please try again.";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
}

/// An ambiguous request: storage servers could read it differently.
pub(super) fn unclear(reason: &str) -> ApiError {
    let message =
        format!("Couldn't parse the specified URI: stores can read it differently: {reason}.");
    ApiError::bad_request("InvalidURI", message)
}

/// A method that a bucket or the service does not support.
pub(super) fn method_not_allowed(method: &Method, resource: &str) -> ApiError {
    let message = "The specified method is not allowed against this resource.";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
        .with("Method", method.as_str())
        .with("ResourceType", resource)
}
