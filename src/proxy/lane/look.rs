//! What is to be done with the bytes that a client sent: answered, forwarded here, or hyper's.

use std::rc::Rc;
use std::time::Instant;

use http::header::HOST;
use http::{Method, StatusCode, Uri, Version};

use crate::cors::CorsRequest;
use crate::cors::Kind;
use crate::cors::Reason;
use crate::cors::RequestedHeaders;
use crate::proxy::account::Asking;
use crate::proxy::client::Client;
use crate::proxy::edge;
use crate::proxy::edits::{FieldSink as _, RequestEdit};
use crate::proxy::error::Error;
use crate::proxy::snapshot::{HostHeader, Route, RoutePolicy};
use crate::proxy::wire::{
    Connection, Field, Framing, HeadError, RequestHead, copy_runs, read_request,
};
use crate::proxy::{FoundRoute, Proxy};

use super::exchange::{Exchange, Marks};

/// What is to be done with bytes.
pub enum Look {
    /// Wait for more: the request's head is not complete.
    More,
    /// Write what is in the output, and go on behind the request, or end.
    Answered {
        /// How many bytes the request was.
        consumed: usize,
        /// Whether the connection ends with the answer.
        close: bool,
    },
    /// Carry out an exchange; its request's body begins behind the head.
    Exchange {
        /// How many bytes the head was.
        consumed: usize,
        /// What is to be carried out.
        exchange: Exchange,
    },
    /// Leave this one request to hyper.
    Single(Single),
}

/// A request that hyper is to serve: its head was read, and is beyond doubt.
#[derive(Clone, Copy, Debug)]
pub struct Single {
    /// How many bytes the head is.
    pub head: usize,
    /// How its body is framed.
    pub framing: Framing,
    /// Whether it asks to leave HTTP.
    pub has_upgrade: bool,
    /// Whether the connection ends with it.
    pub closes: bool,
}

impl Proxy {
    /// Reads the request that `bytes` begin with and does what can be done at once; `out` is
    /// written to. With `closing`, the connection ends with the next response.
    pub fn look(&self, bytes: &[u8], client: Client, closing: bool, out: &mut Vec<u8>) -> Look {
        let read = read_request(bytes, &self.limits, |head| {
            let start = Instant::now();
            if let Some(answered) = self.answer_at_edge(head, client, start, closing, out) {
                return answered;
            }
            match self.plan(head, client, start, closing) {
                Some(exchange) => Look::Exchange {
                    consumed: head.bytes.len(),
                    exchange,
                },
                // hyper would refuse it, and say nothing of it.
                None if Uri::try_from(head.target).is_err() => {
                    self.refuse_bytes(&Error::InvalidTarget, bytes, client, out);
                    Look::Answered {
                        consumed: bytes.len(),
                        close: true,
                    }
                }
                None => Look::Single(Single {
                    head: head.bytes.len(),
                    framing: head.framing,
                    has_upgrade: head.has_upgrade,
                    closes: closing,
                }),
            }
        });
        match read {
            Ok(Some(look)) => look,
            Ok(None) => Look::More,
            Err(error) => {
                let error = match error {
                    HeadError::Malformed(what) => Error::MalformedRequest(what),
                    HeadError::TooLarge => Error::HeadTooLarge,
                    HeadError::UriTooLong => Error::UriTooLong,
                };
                self.refuse_bytes(&error, bytes, client, out);
                Look::Answered {
                    consumed: bytes.len(),
                    close: true,
                }
            }
        }
    }

    /// What a plain request comes to; `None`: it is not plain.
    fn plan(
        &self,
        head: &RequestHead<'_, '_>,
        client: Client,
        start: Instant,
        closing: bool,
    ) -> Option<Exchange> {
        let Framing::Length(body) = head.framing else {
            return None;
        };
        if head.is_http10 || head.is_special || head.connection == Connection::Lists {
            return None;
        }
        if self.tracer.is_some() {
            return None;
        }
        let method = Method::from_bytes(head.method.as_bytes()).ok()?;
        if matches!(method, Method::OPTIONS | Method::CONNECT | Method::TRACE) {
            return None;
        }
        let target = head.target;
        if !target.starts_with('/') || !edge::is_plain_target(target) {
            return None;
        }
        let Field::One(host) = head.host else {
            return None;
        };
        let asked = Asked::of(head)?;
        let path = target.split('?').next().unwrap_or_default();
        let held = self.snapshot();
        let found = FoundRoute::find(&held.0, host, path).ok()?;
        let route = found.route;
        if !route.is_plain() {
            return None;
        }

        let mut slip = self.slips.take();
        write_for_upstream(head, route, client, &mut slip);
        let length = slip.len();
        let (marks, decision) = match found.policy {
            None => (None, None),
            Some(policy) => {
                let (marks, outcome) = self.decide(&found, policy, &asked, (host, path), &mut slip);
                (Some(marks), outcome.map(|outcome| (Kind::Actual, outcome)))
            }
        };
        let cors = slip.len();
        let told = self.note(head, client, decision, &mut slip);
        let route = found.index;
        Some(Exchange {
            slip,
            head: length,
            cors,
            told,
            marks,
            held: Rc::clone(&held),
            route,
            method,
            body,
            closes: closing || head.connection == Connection::Closes,
            start,
        })
    }

    /// Decides, counts, and writes the fields that the response is to have; `None`: it is no CORS
    /// request.
    fn decide(
        &self,
        found: &FoundRoute<'_>,
        policy: &RoutePolicy,
        asked: &Asked<'_>,
        (host, path): (&[u8], &str),
        slip: &mut Vec<u8>,
    ) -> (Marks, Option<Result<(), Reason>>) {
        let vary = |is_allowed| policy.policy.vary(Kind::Actual, is_allowed);
        let Some(origin) = asked.origin else {
            return (Marks { vary: vary(false) }, None);
        };
        let request = CorsRequest {
            kind: Kind::Actual,
            origin,
            method: asked.method,
            headers: asked.headers,
        };
        match policy.policy.answer(&request) {
            Ok(fields) => {
                self.count_allowed(found, policy, Kind::Actual, fields.pattern());
                fields.write(slip);
                (Marks { vary: vary(true) }, Some(Ok(())))
            }
            Err(denial) => {
                let asking = Asking {
                    kind: Kind::Actual,
                    host,
                    origin,
                    method: asked.method,
                    path,
                };
                self.count_denied(found, policy, &denial, asking, "");
                let refused = Err(denial.reason());
                (Marks { vary: vary(false) }, Some(refused))
            }
        }
    }
}

/// What a policy is asked of a head; each field once at most.
struct Asked<'b> {
    /// `None`: none, or an empty one.
    origin: Option<&'b [u8]>,
    method: &'b [u8],
    headers: RequestedHeaders<'b>,
}

impl<'b> Asked<'b> {
    fn of(head: &RequestHead<'_, 'b>) -> Option<Self> {
        let origin = head.origin.at_most_one().ok()?;
        let requested = head.requested_method.at_most_one().ok()?;
        let headers = head.requested_headers.at_most_one().ok()?;
        Some(Self {
            origin: origin.filter(|origin| !origin.is_empty()),
            method: requested.unwrap_or(head.method.as_bytes()),
            headers: headers.map_or(RequestedHeaders::NONE, RequestedHeaders::from_value),
        })
    }
}

impl Route {
    /// Whether what it forwards is passed on as it came, to whichever upstream.
    fn is_plain(&self) -> bool {
        let is_host_known = self.host_header == HostHeader::Preserve || self.upstreams.len() <= 1;
        is_host_known
            && self
                .upstreams
                .iter()
                .all(|upstream| !upstream.settings.http2)
    }
}

/// Writes the head that the upstream gets: the request's own, but for the connection's fields.
fn write_for_upstream(
    head: &RequestHead<'_, '_>,
    route: &Route,
    client: Client,
    out: &mut Vec<u8>,
) {
    let line_end = head.method.len() + head.target.len() + b"  HTTP/1.1\r\n".len();
    out.extend_from_slice(head.bytes.get(..line_end).unwrap_or_default());
    let replaced = match (route.host_header, &*route.upstreams) {
        (HostHeader::Preserve, _) | (HostHeader::Upstream, []) => None,
        (HostHeader::Upstream, [first, ..]) => Some(first.authority.as_bytes()),
    };
    if let Some(authority) = replaced {
        out.field(&HOST, |out| out.extend_from_slice(authority));
    }
    let edit = RequestEdit {
        client,
        forwarding: route.forwarding,
        received: Version::HTTP_11,
        host: head.host.at_most_one().ok().flatten().unwrap_or_default(),
        replaces_host: replaced.is_some(),
        has_lists: head.connection == Connection::Lists,
        accepts_trailers: false,
        upgrade: None,
        max_forwards: None,
        is_chunked: false,
    };
    copy_runs(head.bytes, head.fields, out, |field| {
        edit.keeps(field.name, head.fields)
    });
    edit.add(head.fields, out);
    out.extend_from_slice(b"\r\n");
}

impl Proxy {
    /// Counts a response at its head.
    pub(super) fn count_exchange(&self, exchange: &Exchange, route: &Route, status: StatusCode) {
        self.count(&route.metrics, &exchange.method, status, exchange.start);
    }
}
