//! An HTTP/1.1 request whose head was parsed.

use std::time::Instant;

use http::Method;

use crate::cors::{Kind, RequestedHeaders};
use crate::http1::fields::Fields as _;
use crate::http1::request_head::{Framing, RequestHead};
use crate::http1::target::Target;
use crate::routing::client::{Client, X_FORWARDED_FOR};
use crate::telemetry::denial::DeniedRequest;

/// A request whose head, target and host are valid.
pub(crate) struct ReceivedRequest<'h, 'b> {
    pub(crate) head: &'h RequestHead<'h, 'b>,
    pub(crate) target: Target<'b>,
    /// The host it names; empty if none (HTTP/1.0).
    pub(crate) authority: &'b [u8],
    pub(crate) method: Method,
    pub(crate) client: Client,
    pub(crate) start: Instant,
    /// Whether the connection closes after the response.
    pub(crate) closes: bool,
}

impl ReceivedRequest<'_, '_> {
    /// Its host and its path.
    pub(crate) fn named(&self) -> (&[u8], &str) {
        (self.authority, self.target.path())
    }

    /// The description of the request for counts and logs.
    pub(crate) fn denied_request(&self, kind: Kind) -> DeniedRequest<'_> {
        let first = |name| self.head.field(name);
        DeniedRequest {
            kind,
            host: self.authority,
            origin: first("origin").unwrap_or_default(),
            method: first("access-control-request-method")
                .unwrap_or(self.method.as_str().as_bytes()),
            path: self.target.path(),
            headers: first("access-control-request-headers")
                .map_or(RequestedHeaders::NONE, RequestedHeaders::from_value),
            client: self.client,
            forwarded_for: self.head.fields.field_values(&X_FORWARDED_FOR).next_back(),
        }
    }

    /// Whether the connection must close after a response that ignores the body: the rest of the
    /// body would be misread as the next request.
    pub(crate) fn closes_unread(&self) -> bool {
        self.closes || self.head.framing != Framing::Length(0)
    }
}
