//! The proxy's own responses: to an allowed preflight, a refusal, a failure.

use std::time::Instant;

use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::cors::{Denial, ResourceType, S3Error};
use crate::upstream::error::Error;

use super::date_line::DateLine;
use super::request_id::{REQUEST_ID, RequestId, host_id};
use super::response_body::Body;

const HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");

/// The response to an allowed preflight; the policy adds its fields.
pub(crate) fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response
        .headers_mut()
        .insert(http::header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// The response to a refused preflight: S3's status and document.
pub(crate) fn denial(denial: &Denial, resource: ResourceType, id: RequestId) -> Response<Body> {
    let mut response = document(denial.status(), &S3Error::of(denial, resource), id);
    if denial.status() == StatusCode::BAD_REQUEST {
        // S3 does so, too.
        close(&mut response);
    }
    response
}

/// The response to a failure: S3's error document for S3 clients, otherwise a line of text. It
/// reveals nothing that the client must not know.
pub(crate) fn failure(error: &Error, s3: bool, id: RequestId) -> Response<Body> {
    let answer = error.answer();
    let mut response = if s3 {
        let error = S3Error {
            code: answer.code,
            message: public_message(error).into(),
            resource: None,
        };
        document(answer.status, &error, id)
    } else {
        let mut response = Response::new(Body::fixed(format!("{}\n", public_message(error))));
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        *response.status_mut() = answer.status;
        identify(&mut response, id);
        response
    };
    if let Some(seconds) = answer.retry_after {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if answer.status == StatusCode::METHOD_NOT_ALLOWED {
        allow(&mut response);
    }
    if answer.close {
        close(&mut response);
    }
    response
}

/// The response to a request for a bucket's CORS configuration.
pub(super) fn of_api(status: StatusCode, xml: Option<String>, id: RequestId) -> Response<Body> {
    let mut response = match xml {
        Some(xml) => xml_document(status, xml, id),
        None => {
            let mut response = preflight();
            *response.status_mut() = status;
            identify(&mut response, id);
            response
        }
    };
    if status == StatusCode::NO_CONTENT {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let methods = HeaderValue::from_static("OPTIONS");
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

/// Refuses every method that S3 has for a subresource.
pub(super) fn not_allowed(error: &S3Error<'_>, id: RequestId) -> Response<Body> {
    let mut response = document(StatusCode::METHOD_NOT_ALLOWED, error, id);
    let methods = HeaderValue::from_static("OPTIONS");
    response.headers_mut().insert(ALLOW, methods);
    response
}

/// The response to an `OPTIONS` request for the proxy itself: for `*` ([RFC 9110 §9.3.7]), or with
/// `Max-Forwards: 0`.
///
/// [RFC 9110 §9.3.7]: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.7
pub(crate) fn own_options() -> Response<Body> {
    let mut response = preflight();
    allow(&mut response);
    response
}

/// Lists the supported methods.
fn allow(response: &mut Response<Body>) {
    let methods = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE, OPTIONS, PATCH");
    response.headers_mut().insert(ALLOW, methods);
}

/// The message for clients, which does not reveal the upstreams' addresses.
fn public_message(error: &Error) -> &'static str {
    match error {
        Error::MalformedRequest(what) => what,
        Error::Loop => "The request came back to the proxy that forwarded it.",
        Error::RequestHeadTimeout => "The request head did not arrive in time.",
        Error::InvalidHost => "The request's host is missing, repeated or invalid.",
        Error::InvalidTarget => "The request target is invalid for a reverse proxy.",
        Error::TraceEnds => "The specified method is not allowed against this resource.",
        Error::UnknownProtocol => "The requested protocol is not supported.",
        Error::UnknownHost => "No route serves this host.",
        Error::HeadTooLarge => "The request head is too large.",
        Error::UriTooLong => "The request target is too long.",
        Error::RequestBodyTimeout => "The request body stopped arriving.",
        Error::RequestBody(_) => "The request body was interrupted.",
        Error::Busy { .. } | Error::NoDescriptor { .. } => {
            "Too many requests are in progress. Please reduce your request rate."
        }
        Error::Refused { .. } => "The upstream refused the request. Please try again.",
        Error::Dns { .. } | Error::Connect { .. } | Error::Tls { .. } => {
            "The upstream could not be reached."
        }
        Error::ConnectTimeout { .. } => "The upstream could not be reached in time.",
        Error::ResponseHeadTimeout { .. } => "The upstream did not answer in time.",
        Error::Closed { .. } => "The upstream closed the connection without a response.",
        Error::InvalidResponse { .. } | Error::Unacceptable { .. } => {
            "The upstream's response is not valid HTTP."
        }
        Error::UnfinishedHead => {
            "Too many request heads are incomplete. Please send the whole head at once."
        }
        Error::OverLimit { .. } => "The head of the upstream's response is too large.",
    }
}

fn document(status: StatusCode, error: &S3Error<'_>, id: RequestId) -> Response<Body> {
    let xml = error.to_xml(id.as_str(), &host_id(id));
    xml_document(status, xml, id)
}

fn xml_document(status: StatusCode, xml: String, id: RequestId) -> Response<Body> {
    let host_id = host_id(id);
    let mut response = Response::new(Body::fixed(xml));
    *response.status_mut() = status;
    let xml = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(CONTENT_TYPE, xml);
    identify(&mut response, id);
    if let Ok(value) = HeaderValue::try_from(host_id) {
        response.headers_mut().insert(HOST_ID, value);
    }
    response
}

fn identify(response: &mut Response<Body>, id: RequestId) {
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
}

/// Writes one of the proxy's own responses, with `fields` added as lines. `to_head`: the request
/// was a `HEAD`, whose response has no body ([RFC 9110 §9.3.2]). Returns the length of the body.
///
/// [RFC 9110 §9.3.2]: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2
pub(crate) fn write(
    response: Response<Body>,
    fields: &[u8],
    to_head: bool,
    date: &DateLine,
    now: Instant,
    out: &mut Vec<u8>,
) -> usize {
    let (parts, body) = response.into_parts();
    let body = body.into_fixed();
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let length = body.len().to_string();
    let line = ["HTTP/1.1 ", parts.status.as_str(), " ", reason, "\r\n"];
    line.iter()
        .for_each(|part| out.extend_from_slice(part.as_bytes()));
    let own = parts
        .headers
        .iter()
        .filter(|(name, _)| *name != CONTENT_LENGTH);
    let own = own.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let length = (b"content-length".as_slice(), length.as_bytes());
    for (name, value) in own.chain([length]) {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(fields);
    date.write(now, out);
    if to_head {
        return 0;
    }
    out.extend_from_slice(&body);
    body.len()
}

fn close(response: &mut Response<Body>) {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
}
