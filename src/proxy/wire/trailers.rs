//! Which fields may come behind a body.

use bytes::Bytes;
use http_body::Frame;

use crate::proxy::claims::{imitates_framing, is_claim};

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
pub(super) fn may_be_trailer(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !HEAD_FIELDS.contains(&&*name)
        && !name.starts_with("access-control-")
        && !is_claim(&name)
        && !imitates_framing(&name)
}

/// Leaves out of a piece that is a trailer section what may be none. HTTP/1.1's are refused for it;
/// of HTTP/2's, the library has read the whole by then.
pub(in crate::proxy) fn without_head_fields(piece: Frame<Bytes>) -> Frame<Bytes> {
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
