//! Converts HTTP/1.1 heads between bytes and header maps: the request from a client, and the
//! response to it.

use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, response};
use http_body::Body as _;

use crate::http1::body_writer::BodyFraming;
use crate::http1::client_head::{ends, write_line};
use crate::http1::fields::Fields as _;
use crate::http1::request_head::{parse_length, read_request};
use crate::http1::request_rules::expects_continue;

use super::Proxy;
use super::response_body::Body;

/// The reason phrase of an upstream's response, if it is not the usual one for its status.
#[derive(Clone, Debug)]
pub(super) struct ReasonPhrase(pub(super) Bytes);

/// What a client's request says about its connection and its capabilities.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest {
    /// Whether the request is HTTP/1.0.
    pub is_http10: bool,
    /// Whether it is a `HEAD`.
    pub is_head: bool,
    /// Whether the connection may stay open after it.
    pub keeps_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// How a response is sent.
#[derive(Clone, Copy, Debug)]
pub struct ResponseForm {
    /// How its body is framed.
    pub framing: BodyFraming,
    /// Whether the connection closes after it.
    pub closes: bool,
}

impl Proxy {
    /// The request whose head `bytes` begin with. `None`: a part of it does not fit a header map.
    #[must_use]
    pub fn read_head(&self, bytes: &[u8]) -> Option<(Request<()>, ClientRequest)> {
        let read = read_request(bytes, &self.limits, |head| {
            let mut request = Request::new(());
            *request.method_mut() = Method::from_bytes(head.method.as_bytes()).ok()?;
            *request.uri_mut() = Uri::try_from(head.target).ok()?;
            *request.version_mut() = match head.is_http10 {
                true => Version::HTTP_10,
                false => Version::HTTP_11,
            };
            // One buffer for all values.
            let bytes = Bytes::copy_from_slice(head.bytes);
            let fields = request.headers_mut();
            for field in head.fields {
                let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
                let start = crate::http1::fields::offset(head.bytes, field.value);
                let value = bytes.slice(start..start + field.value.len());
                fields.append(name, HeaderValue::from_maybe_shared(value).ok()?);
            }
            Some(request)
        });
        let request = read.ok()??;
        let request = request?;
        let fields = request.headers();
        let is_http10 = request.version() == Version::HTTP_10;
        let client = ClientRequest {
            is_http10,
            is_head: request.method() == Method::HEAD,
            keeps_alive: match is_http10 {
                true => fields.lists(&CONNECTION, b"keep-alive"),
                false => !fields.lists(&CONNECTION, b"close"),
            },
            expects_continue: expects_continue(request.version(), fields),
        };
        Some((request, client))
    }
}

impl ClientRequest {
    /// How a response with this head and body is sent; with `closes`, the connection closes in any
    /// case.
    #[must_use]
    pub fn form_of(&self, head: &response::Parts, body: &Body, closes: bool) -> ResponseForm {
        let closes = closes || !self.keeps_alive || head.headers.lists(&CONNECTION, b"close");
        let framing = match (length_of(head, body), self.is_http10) {
            _ if self.has_no_body(head.status) => BodyFraming::Absent,
            (Some(length), _) => BodyFraming::Length(length),
            (None, true) => BodyFraming::UntilClose,
            (None, false) => BodyFraming::Chunked,
        };
        let closes = closes || framing == BodyFraming::UntilClose;
        ResponseForm { framing, closes }
    }

    /// Whether a response with this status has no body, regardless of its fields ([RFC 9112 §6.3]).
    ///
    /// [RFC 9112 §6.3]: https://www.rfc-editor.org/rfc/rfc9112#section-6.3
    fn has_no_body(&self, status: StatusCode) -> bool {
        let is_bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.is_head || is_bodiless || status.is_informational()
    }

    /// Writes a response's head.
    pub fn write_head(
        &self,
        head: &response::Parts,
        form: ResponseForm,
        proxy: &Proxy,
        out: &mut Vec<u8>,
    ) {
        // The proxy's own version, whatever the client's (RFC 9112 §2.3).
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(head.status.as_str().as_bytes());
        out.push(b' ');
        match head.extensions.get::<ReasonPhrase>() {
            Some(ReasonPhrase(reason)) => out.extend_from_slice(reason),
            None => {
                let reason = head.status.canonical_reason().unwrap_or_default();
                out.extend_from_slice(reason.as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in &head.headers {
            // `Connection` is written below.
            if switches || *name != CONNECTION {
                write_line(name.as_str().as_bytes(), value.as_bytes(), out);
            }
        }
        match form.framing {
            BodyFraming::Length(length) if !head.headers.contains_key(CONTENT_LENGTH) => {
                write_line(b"content-length", length.to_string().as_bytes(), out);
            }
            BodyFraming::Chunked => write_line(b"transfer-encoding", b"chunked", out),
            BodyFraming::Length(_) | BodyFraming::UntilClose | BodyFraming::Absent => {}
        }
        if !switches {
            out.extend_from_slice(ends(form.closes, self.is_http10));
        }
        if head.headers.contains_key(DATE) {
            out.extend_from_slice(b"\r\n");
        } else {
            proxy.date.write(Instant::now(), out);
        }
    }
}

/// The length of a response's body, if known.
fn length_of(head: &response::Parts, body: &Body) -> Option<u64> {
    match head.headers.get(CONTENT_LENGTH) {
        Some(length) => parse_length(length.as_bytes()),
        None => body.size_hint().exact(),
    }
}
