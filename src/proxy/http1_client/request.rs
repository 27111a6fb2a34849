//! Writes a request's head for an HTTP/1.1 upstream from a header map.

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, HOST};

use crate::http1::body_writer::BodyFraming;
use crate::http1::client_head::write_line;
use crate::http1::request_head::parse_length;
use crate::routing::snapshot::HostHeader;
use crate::upstream::endpoint::Upstream;
use crate::upstream::request_body::RequestBody;

use super::send::Http1Request;

impl Http1Request<'_> {
    /// How the body is framed: by its declared length, or in chunks.
    pub(super) fn framing(&self, body: &RequestBody) -> BodyFraming {
        let length = self.parts.headers.get(CONTENT_LENGTH);
        match length.and_then(|length| parse_length(length.as_bytes())) {
            Some(length) => BodyFraming::Length(length),
            None if body.is_empty() => BodyFraming::Length(0),
            None => BodyFraming::Chunked,
        }
    }

    /// Writes the head; `framing` is `None` if the request has no body.
    pub(super) fn write_head(
        &self,
        upstream: &Upstream,
        framing: Option<BodyFraming>,
        out: &mut Vec<u8>,
    ) {
        let uri = &self.parts.uri;
        for part in [self.parts.method.as_str(), " ", uri.path()] {
            out.extend_from_slice(part.as_bytes());
        }
        if let Some(query) = uri.query() {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let replaced = self.route.host_header == HostHeader::Upstream
            || !self.parts.headers.contains_key(HOST);
        if replaced {
            write_line(HOST.as_str().as_bytes(), upstream.authority.as_bytes(), out);
        }
        for (name, value) in &self.parts.headers {
            if !(replaced && *name == HOST) {
                write_line(name.as_str().as_bytes(), HeaderValue::as_bytes(value), out);
            }
        }
        if framing == Some(BodyFraming::Chunked) {
            write_line(b"transfer-encoding", b"chunked", out);
        }
        out.extend_from_slice(b"\r\n");
    }
}
