//! An allowed request's CORS fields as bytes: for who makes no map of them.

use super::request::RequestedHeaders;
use super::rule::Rule;

/// The CORS fields of an allowed request's response, ready to be written.
#[derive(Debug)]
pub struct AllowedFields<'p> {
    pub(super) rule: &'p Rule,
    /// The request's origin, or `*`.
    pub(super) origin: &'p [u8],
    pub(super) headers: RequestedHeaders<'p>,
    pub(super) pattern: usize,
}

impl AllowedFields<'_> {
    /// The pattern that matched, as an index into
    /// [`Policy::origin_patterns`](super::Policy::origin_patterns).
    #[must_use]
    pub fn pattern(&self) -> usize {
        self.pattern
    }

    /// Writes the fields in the order in which S3 sends them, `Vary` apart: the same that
    /// [`Policy::mark`](super::Policy::mark) sets.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"access-control-allow-origin: ");
        out.extend_from_slice(self.origin);
        out.extend_from_slice(&self.rule.grant.wire.methods);
        if !self.headers.is_empty() {
            out.extend_from_slice(b"access-control-allow-headers: ");
            write_allow_headers(self.headers, out);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&self.rule.grant.wire.rest);
    }
}

/// The value of `Access-Control-Allow-Headers`: the requested names in lower case, in request
/// order.
pub(super) fn write_allow_headers(requested: RequestedHeaders<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    for name in requested.names() {
        if out.len() > start {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(name);
    }
    if let Some(list) = out.get_mut(start..) {
        list.make_ascii_lowercase();
    }
}
