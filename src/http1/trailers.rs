//! Which fields may be trailers.

use bytes::Bytes;
use http::header::TRAILER;
use http::{HeaderMap, HeaderName};
use http_body::Frame;

use super::claims::{imitates_framing, is_claim};
use super::fields::Fields as _;

/// Fields that a recipient might treat as part of the head ([RFC 9110 §6.5.1]).
///
/// [RFC 9110 §6.5.1]: https://www.rfc-editor.org/rfc/rfc9110#section-6.5.1
const HEAD_FIELDS: [&str; 19] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a field may be a trailer.
pub(crate) fn may_be_trailer(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !HEAD_FIELDS.contains(&&*name)
        && !name.starts_with("access-control-")
        && !is_claim(&name)
        && !imitates_framing(&name)
}

/// Removes forbidden fields from a trailer section. HTTP/1.1 messages are refused instead; for
/// HTTP/2, the library has already read the whole section.
pub(crate) fn without_head_fields(piece: Frame<Bytes>) -> Frame<Bytes> {
    match piece.into_trailers() {
        Ok(mut trailers) => {
            let may_be_none = |name: &&http::HeaderName| !may_be_trailer(name.as_str());
            while let Some(name) = trailers.keys().find(may_be_none).cloned() {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(data) => data,
    }
}

/// The trailers to send after a body: those that the head's `Trailer` lists, because a recipient
/// decides by that field whether to keep any.
#[must_use]
pub(crate) fn listed_trailers(head: &HeaderMap, mut trailers: HeaderMap) -> HeaderMap {
    let is_unlisted = |name: &&HeaderName| !head.lists(&TRAILER, name.as_str().as_bytes());
    while let Some(name) = trailers.keys().find(is_unlisted).cloned() {
        trailers.remove(name);
    }
    trailers
}
