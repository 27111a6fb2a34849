//! Which fields may come behind a body.

use bytes::Bytes;
use http::header::TRAILER;
use http::{HeaderMap, HeaderName};
use http_body::Frame;

use super::claims::{imitates_framing, is_claim};
use super::fields::Fields as _;

/// Fields that a receiver might take for the head's ([RFC 9110 §6.5.1]).
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

/// Leaves out of a piece that is a trailer section what may be none. HTTP/1.1's are refused for it;
/// of HTTP/2's, the library has read the whole by then.
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

/// The trailers that go out after a body: those that the head's `Trailer` lists, for a receiver
/// decides by that whether to keep any.
#[must_use]
pub(crate) fn listed_trailers(head: &HeaderMap, mut trailers: HeaderMap) -> HeaderMap {
    let is_unlisted = |name: &&HeaderName| !head.lists(&TRAILER, name.as_str().as_bytes());
    while let Some(name) = trailers.keys().find(is_unlisted).cloned() {
        trailers.remove(name);
    }
    trailers
}
