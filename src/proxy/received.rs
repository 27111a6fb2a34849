//! An HTTP/1.1 request whose head was read.

use std::time::Instant;

use http::Method;
use http::header::MAX_FORWARDS;

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
    /// How it names its host; empty where it does not (HTTP/1.0).
    pub(crate) authority: &'b [u8],
    pub(crate) method: Method,
    pub(crate) client: Client,
    pub(crate) start: Instant,
    /// Whether the connection ends with the response.
    pub(crate) closes: bool,
}

impl ReceivedRequest<'_, '_> {
    /// Who asks for what, as counts and logs tell it.
    pub(crate) fn asking(&self, kind: Kind) -> DeniedRequest<'_> {
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

    /// Whether the connection ends with a response that was made without a look at the body: what
    /// comes of the body would be read as the next request.
    pub(crate) fn closes_unread(&self) -> bool {
        self.closes || self.head.framing != Framing::Length(0)
    }

    /// What the request says of how far it may go; `None`: nothing. Only TRACE and OPTIONS do
    /// ([RFC 9110 §7.6.2]).
    ///
    /// [RFC 9110 §7.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.2
    pub(crate) fn max_forwards(&self) -> Option<u64> {
        if !matches!(self.method, Method::TRACE | Method::OPTIONS) {
            return None;
        }
        let mut values = self.head.fields.field_values(&MAX_FORWARDS);
        let value = values.next().filter(|_| values.next().is_none())?;
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        // One that is beyond what we count with may become less.
        let hops = std::str::from_utf8(value).map(|value| value.parse().unwrap_or(u64::MAX));
        hops.ok()
    }
}
