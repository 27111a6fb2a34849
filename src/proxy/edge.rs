//! The edge lane: a plain preflight is answered from the bytes that it came in.
//!
//! A preflight is never forwarded, so nothing can be smuggled past this: what is not exactly a
//! complete, plain, bodiless HTTP/1.1 preflight to a route with a policy goes to hyper, bytes
//! unread. Its answers are those of hyper's path; `tests/integration/edge.rs` holds the two equal.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};

use crate::cors::Denial;
use crate::cors::Kind;
use crate::cors::RequestedHeaders;
use crate::cors::ResourceType;
use crate::cors::S3Error;
use crate::cors::Semantics;
use crate::cors::VARY;

use super::account::Asking;
use super::answer::{RequestId, host_id};
use super::{FoundRoute, Proxy};

/// The most fields that a plain preflight has; browsers send about a dozen.
const MAX_FIELDS: usize = 32;

/// What the edge lane makes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// They begin with a preflight, and the answer is written.
    Answered {
        /// How many of them the preflight was.
        consumed: usize,
        /// Whether the connection ends with the answer.
        close: bool,
    },
    /// They are hyper's.
    Other,
}

/// A plain preflight, its values where they stand.
struct Plain<'b> {
    host: &'b [u8],
    origin: &'b [u8],
    method: &'b [u8],
    headers: RequestedHeaders<'b>,
    target: &'b str,
    path: &'b str,
    length: usize,
}

impl Proxy {
    /// Answers the preflight that `bytes` begin with, if they do; the answer is added to `out`.
    pub fn answer_at_edge(&self, bytes: &[u8], out: &mut Vec<u8>) -> Edge {
        // An access log tells of requests as hyper's path knows them.
        if self.access_log.is_some() || self.tracer.is_some() {
            return Edge::Other;
        }
        let start = Instant::now();
        let Some(plain) = Plain::parse(bytes, self.limits.header_count) else {
            return Edge::Other;
        };
        if plain.length > self.limits.head_bytes || plain.target.len() > self.limits.uri_bytes {
            return Edge::Other;
        }
        let snapshot = self.snapshot();
        let Ok(found) = FoundRoute::find(&snapshot.0, plain.host, plain.path) else {
            return Edge::Other;
        };
        let Some(policy) = found.policy else {
            return Edge::Other;
        };
        let decision = policy
            .policy
            .decide_preflight(plain.origin, plain.method, plain.headers);
        let (status, close) = match &decision {
            Ok(fields) => {
                self.count_allowed(&found, policy, Kind::Preflight, fields.pattern());
                out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n");
                fields.write(out);
                (StatusCode::OK, false)
            }
            Err(denial) => {
                let id = self.ids.next();
                let asking = plain.asking();
                self.count_denied(&found, policy, denial, asking, id.as_str());
                let close = denial.status() == StatusCode::BAD_REQUEST;
                let vary = policy.policy.semantics() == Semantics::Safe;
                let body = write_denial(denial, found.resource, id, vary, out);
                self.date.write(start, out);
                out.extend_from_slice(body.as_bytes());
                (denial.status(), close)
            }
        };
        if decision.is_ok() {
            self.date.write(start, out);
        }
        self.count(&found.route.metrics, &Method::OPTIONS, status, start);
        Edge::Answered {
            consumed: plain.length,
            close,
        }
    }
}

/// Writes the head of a refusal but for its last field, and gives its body.
fn write_denial(
    denial: &Denial,
    resource: ResourceType,
    id: RequestId,
    vary: bool,
    out: &mut Vec<u8>,
) -> String {
    let host_id = host_id(id);
    let body = S3Error::of(denial, resource).to_xml(id.as_str(), &host_id);
    out.extend_from_slice(match denial.status() {
        StatusCode::BAD_REQUEST => b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n",
        _ => b"HTTP/1.1 403 Forbidden\r\n".as_slice(),
    });
    let length = body.len().to_string();
    let fields = [
        ("content-type", "application/xml"),
        ("x-amz-request-id", id.as_str()),
        ("x-amz-id-2", &host_id),
        ("content-length", &length),
    ];
    let vary = vary.then_some(("vary", VARY));
    for (name, value) in fields.into_iter().chain(vary) {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    body
}

impl<'b> Plain<'b> {
    /// Reads a preflight that is exactly as browsers send it. `None`: anything else.
    fn parse(bytes: &'b [u8], most_fields: usize) -> Option<Self> {
        if !bytes.starts_with(b"OPTIONS /") {
            return None;
        }
        let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut slots);
        let Ok(httparse::Status::Complete(length)) = request.parse(bytes) else {
            return None;
        };
        if request.version != Some(1) || request.headers.len() > most_fields {
            return None;
        }
        let target = request.path.filter(|target| is_plain_target(target))?;
        let (mut host, mut origin, mut method, mut headers) = (None, None, None, None);
        for field in request.headers.iter() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            // Lengths tell nearly all names apart before any letter is compared.
            let place = match field.name.len() {
                4 if is("host") => &mut host,
                6 if is("origin") => &mut origin,
                29 if is("access-control-request-method") => &mut method,
                30 if is("access-control-request-headers") => &mut headers,
                10 if is("connection") && field.value.eq_ignore_ascii_case(b"keep-alive") => {
                    continue;
                }
                2 if is("te") => return None,
                6 if is("expect") => return None,
                7 if is("upgrade") || is("trailer") => return None,
                10 if is("connection") => return None,
                14 if is("content-length") => return None,
                17 if is("transfer-encoding") => return None,
                _ => continue,
            };
            if place.replace(field.value).is_some() {
                return None;
            }
        }
        Some(Self {
            host: host?,
            origin: origin.filter(|origin: &&[u8]| !origin.is_empty())?,
            method: method?,
            headers: headers.map_or(RequestedHeaders::NONE, RequestedHeaders::from_value),
            target,
            path: target.split('?').next().unwrap_or_default(),
            length,
        })
    }

    fn asking(&self) -> Asking<'b> {
        Asking {
            kind: Kind::Preflight,
            origin: self.origin,
            method: self.method,
            path: self.path,
        }
    }
}

/// Whether a target is one that every parser reads alike: RFC 3986's characters, no fragment.
fn is_plain_target(target: &str) -> bool {
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
    fn write(&self, now: Instant, out: &mut Vec<u8>) {
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
