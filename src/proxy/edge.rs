//! The edge: a plain preflight is answered from the bytes that it came in.
//!
//! A preflight is never forwarded, so nothing can be smuggled past this. Its answers are those of
//! hyper's path; `tests/integration/edge.rs` holds the two equal.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};

use crate::cors::CorsRequest;
use crate::cors::Denial;
use crate::cors::Kind;
use crate::cors::RequestedHeaders;
use crate::cors::ResourceType;
use crate::cors::S3Error;
use crate::cors::VARY;

use super::account::Asking;
use super::answer::{RequestId, host_id};
use super::client::Client;
use super::lane::{Answered, Look};
use super::wire::{CLOSE, Connection, Field, Framing, RequestHead};
use super::{FoundRoute, Proxy};

impl Proxy {
    /// Answers a request that is exactly a preflight as browsers send it, to a route with a
    /// policy; `None`: it is something else. The answer is added to `out`.
    pub(super) fn answer_at_edge(
        &self,
        head: &RequestHead<'_, '_>,
        client: Client,
        start: Instant,
        closing: bool,
        out: &mut Vec<u8>,
    ) -> Option<Look> {
        if head.method != "OPTIONS" || self.tracer.is_some() {
            return None;
        }
        let (host, path, request) = preflight(head)?;
        let snapshot = self.snapshot();
        let found = FoundRoute::find(&snapshot.0, host, path).ok()?;
        let policy = found.policy?;
        let decision = policy.policy.answer(&request);
        let vary = policy.policy.vary(Kind::Preflight, decision.is_ok());
        let close = closing || head.connection == Connection::Closes;
        let mut id = None;
        let (status, close, bytes) = match &decision {
            Ok(fields) => {
                self.count_allowed(&found, policy, Kind::Preflight, fields.pattern());
                out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n");
                fields.write(out);
                write_end(close, vary.is_some(), out);
                self.date.write(start, out);
                (StatusCode::OK, close, 0)
            }
            Err(denial) => {
                let id = *id.insert(self.ids.next());
                let asking = Asking {
                    kind: Kind::Preflight,
                    host,
                    origin: request.origin,
                    method: request.method,
                    path,
                };
                self.count_denied(&found, policy, denial, asking, id.as_str());
                // So does S3.
                let close = close || denial.status() == StatusCode::BAD_REQUEST;
                let body = write_denial(denial, found.resource, id, out);
                write_end(close, vary.is_some(), out);
                self.date.write(start, out);
                out.extend_from_slice(body.as_bytes());
                (denial.status(), close, body.len())
            }
        };
        self.count(&found.route.metrics, &Method::OPTIONS, status, start);
        let answered = Answered {
            status,
            outcome: decision.map(|_| ()).map_err(|denial| denial.reason()),
            request_id: id.as_ref().map_or("", RequestId::as_str),
            bytes,
            start,
        };
        self.tell_answered(head, client, found.route, &answered);
        Some(Look::Answered {
            consumed: head.bytes.len(),
            close,
        })
    }
}

/// A preflight's host, path and question.
fn preflight<'b>(head: &RequestHead<'_, 'b>) -> Option<(&'b [u8], &'b str, CorsRequest<'b>)> {
    if head.is_http10
        || head.is_special
        || head.framing != Framing::Length(0)
        || head.connection == Connection::Lists
        || !(head.target.starts_with('/') && is_plain_target(head.target))
    {
        return None;
    }
    let (Field::One(host), Field::One(origin)) = (head.host, head.origin) else {
        return None;
    };
    let Field::One(method) = head.requested_method else {
        return None;
    };
    let headers = head.requested_headers.at_most_one().ok()?;
    let request = CorsRequest {
        kind: Kind::Preflight,
        origin,
        method,
        headers: headers.map_or(RequestedHeaders::NONE, RequestedHeaders::from_value),
    };
    let path = head.target.split('?').next().unwrap_or_default();
    (!origin.is_empty()).then_some((host, path, request))
}

/// Writes the fields that come last but for `Date`.
fn write_end(close: bool, vary: bool, out: &mut Vec<u8>) {
    if vary {
        for part in ["vary: ", VARY, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    if close {
        out.extend_from_slice(CLOSE);
    }
}

/// Writes the head of a refusal but for its last fields, and gives its body.
fn write_denial(
    denial: &Denial,
    resource: ResourceType,
    id: RequestId,
    out: &mut Vec<u8>,
) -> String {
    let host_id = host_id(id);
    let body = S3Error::of(denial, resource).to_xml(id.as_str(), &host_id);
    out.extend_from_slice(match denial.status() {
        StatusCode::BAD_REQUEST => b"HTTP/1.1 400 Bad Request\r\n",
        _ => b"HTTP/1.1 403 Forbidden\r\n".as_slice(),
    });
    let length = body.len().to_string();
    let fields = [
        ("content-type", "application/xml"),
        ("x-amz-request-id", id.as_str()),
        ("x-amz-id-2", &host_id),
        ("content-length", &length),
    ];
    for (name, value) in fields {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    body
}

/// Whether a target is one that every parser reads alike: RFC 3986's characters, no fragment.
pub(super) fn is_plain_target(target: &str) -> bool {
    target
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@?".contains(&byte))
}

/// `Date` as the last field of a head, and the head's end; formatted once a second.
#[derive(Debug, Default)]
pub(super) struct DateLine(RefCell<Option<Second>>);

/// A second as text, and when it is over.
#[derive(Debug)]
struct Second {
    text: Vec<u8>,
    end: Instant,
}

impl DateLine {
    pub(super) fn write(&self, now: Instant, out: &mut Vec<u8>) {
        let mut second = self.0.borrow_mut();
        let second = match &mut *second {
            Some(second) if now < second.end => second,
            stale => stale.insert(Second::at(now)),
        };
        out.extend_from_slice(&second.text);
    }
}

impl Second {
    fn at(now: Instant) -> Self {
        let time = SystemTime::now();
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_secs(1)
            .saturating_sub(Duration::from_nanos(since.subsec_nanos().into()));
        Self {
            text: format!("date: {}\r\n\r\n", httpdate::HttpDate::from(time)).into_bytes(),
            end: now + left,
        }
    }
}
