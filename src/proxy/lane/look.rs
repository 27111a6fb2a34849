//! Dispatches an HTTP/1.1 request by its head: it is answered, forwarded on bytes, or handed to
//! `server::http1_server`.

use std::rc::Rc;
use std::time::Instant;

use http::header::{HOST, MAX_FORWARDS, TE, UPGRADE, VARY};
use http::{HeaderMap, Method, StatusCode};

use crate::cors::Decision;
use crate::cors::Kind;
use crate::cors::Reason;
use crate::cors::ReplacedFields;
use crate::cors::RequestedHeaders;
use crate::proxy::account::Asking;
use crate::proxy::answer;
use crate::proxy::body::Body;
use crate::proxy::bucket_cors;
use crate::proxy::client::{Client, X_FORWARDED_FOR};
use crate::proxy::edits::{FieldSink as _, RequestEdit, has_looped};
use crate::proxy::error::Error;
use crate::proxy::host::Host;
use crate::proxy::snapshot::{HostHeader, Route, RoutePolicy};
use crate::proxy::target::Target;
use crate::proxy::wire::{
    CLOSE, Connection, Fields as _, Framing, HeadError, RequestHead, copy_runs, read_request,
};
use crate::proxy::{FoundRoute, Proxy};

use super::exchange::{Exchange, Marks};
use super::question::Question;
use super::response::write_line;
use super::told::Answered;

/// What to do with the bytes that a client sent.
pub enum Look {
    /// Wait for more: the request's head is not complete.
    More,
    /// Write what is in the output, then continue after the request, or close.
    Answered {
        /// How many bytes the request was.
        consumed: usize,
        /// Whether the connection ends with the answer.
        close: bool,
    },
    /// Carry out an exchange; the request's body follows the head.
    Exchange {
        /// How many bytes the head was.
        consumed: usize,
        /// What is to be carried out.
        exchange: Exchange,
    },
    /// Serve this one request as a header map and a body.
    Single(Single),
}

/// A request to serve as a header map and a body; its head is valid.
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

/// A request whose head, target and host are valid.
pub(in crate::proxy) struct Received<'h, 'b> {
    pub(in crate::proxy) head: &'h RequestHead<'h, 'b>,
    pub(in crate::proxy) target: Target<'b>,
    /// How it names its host; empty where it does not (HTTP/1.0).
    pub(in crate::proxy) authority: &'b [u8],
    pub(in crate::proxy) method: Method,
    pub(in crate::proxy) client: Client,
    pub(in crate::proxy) start: Instant,
    /// Whether the connection ends with the response.
    pub(in crate::proxy) closes: bool,
}

impl Received<'_, '_> {
    /// Who asks for what, as counts and logs tell it.
    pub(in crate::proxy) fn asking(&self, kind: Kind) -> Asking<'_> {
        let first = |name| self.head.field(name);
        Asking {
            kind,
            host: self.authority,
            origin: first("origin").unwrap_or_default(),
            method: first("access-control-request-method")
                .unwrap_or(self.method.as_str().as_bytes()),
            path: self.target.path(),
            headers: first("access-control-request-headers")
                .map_or(RequestedHeaders::NONE, RequestedHeaders::from_value),
            client: self.client,
            forwarded_for: self.head.fields.field_values(&X_FORWARDED_FOR).next_back(),
        }
    }

    /// Whether the connection ends with a response that was made without a look at the body: what
    /// comes of the body would be read as the next request.
    pub(in crate::proxy) fn closes_unread(&self) -> bool {
        self.closes || self.head.framing != Framing::Length(0)
    }

    /// What the request says of how far it may go; `None`: nothing. Only TRACE and OPTIONS do
    /// ([RFC 9110 §7.6.2]).
    ///
    /// [RFC 9110 §7.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.2
    fn max_forwards(&self) -> Option<u64> {
        if !matches!(self.method, Method::TRACE | Method::OPTIONS) {
            return None;
        }
        let mut values = self.head.fields.field_values(&MAX_FORWARDS);
        let value = values.next().filter(|_| values.next().is_none())?;
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        // One that is beyond what we count with may become less.
        let hops = std::str::from_utf8(value).map(|value| value.parse().unwrap_or(u64::MAX));
        hops.ok()
    }
}

impl Proxy {
    /// Reads the request that `bytes` begin with and does what can be done at once; `out` is
    /// written to. With `closing`, the connection ends with the next response.
    pub fn look(&self, bytes: &[u8], client: Client, closing: bool, out: &mut Vec<u8>) -> Look {
        let read = read_request(bytes, &self.limits, |head| {
            let start = Instant::now();
            let closes = closing || head.closes();
            match self.dispatch(head, client, start, closes, out) {
                Ok(look) => look,
                Err(error) => {
                    let close =
                        closes || head.framing != Framing::Length(0) || error.answer().close;
                    let ends = ends(close, head.is_http10);
                    self.refuse_bytes(&error, head.bytes, client, ends, out);
                    Look::Answered {
                        consumed: head.bytes.len(),
                        close,
                    }
                }
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
                self.refuse_bytes(&error, bytes, client, b"", out);
                Look::Answered {
                    consumed: bytes.len(),
                    close: true,
                }
            }
        }
    }

    /// Finds the route and the policy of a request, decides, and says what to do with it.
    fn dispatch(
        &self,
        head: &RequestHead<'_, '_>,
        client: Client,
        start: Instant,
        closes: bool,
        out: &mut Vec<u8>,
    ) -> Result<Look, Error> {
        let target = Target::parse(head.method, head.target).ok_or(Error::InvalidTarget)?;
        let method = Method::from_bytes(head.method.as_bytes())
            .map_err(|_| Error::MalformedRequest("the method is not a token"))?;
        let authority = authority(head, &target)?;
        let held = self.snapshot();
        let found = match authority {
            Some(authority) => {
                FoundRoute::find(&held.0, authority, target.path(), client.listener)?
            }
            None => FoundRoute::of_no_host(&held.0, target.path(), client.listener)?,
        };
        let request = Received {
            head,
            target,
            authority: authority.unwrap_or_default(),
            method,
            client,
            start,
            closes,
        };
        let mut marking = Marking::default();
        let replaced;
        let Some(policy) = found.policy else {
            return Ok(self.forward_bytes(&request, &found, &held, marking, out));
        };
        // Rare, and with a body that is read here: on a map of fields.
        let has_query = request.target.path().len() < request.target.origin_form.len();
        if has_query {
            let target = &request.target.origin_form;
            if bucket_cors::is_asked_for(&request.method, target, head.fields, &found) {
                return Ok(single(&request));
            }
        }
        let vary = |is_allowed| policy.policy.vary(Kind::Actual, is_allowed);
        let vary = match Question::of(&request, policy.policy.semantics()) {
            Question::Preflight(asked) => {
                let decision = policy.policy.answer(&asked);
                return Ok(self.answer_preflight(&request, &found, policy, &decision, out));
            }
            Question::NotCors => {
                replaced = self.write_unmatched(policy, &mut marking.slip);
                vary(false)
            }
            _ if !found.route.speaks_only_http1() => return Ok(single(&request)),
            Question::Actual(asked) => match policy.policy.answer(&asked) {
                Ok(fields) => {
                    self.count_allowed(&found, policy, Kind::Actual, fields.pattern());
                    marking.slip = self.slips.take();
                    fields.write(&mut marking.slip);
                    replaced = fields.write_extension(&mut marking.slip);
                    marking.decision = Some((Kind::Actual, Ok(())));
                    vary(true)
                }
                Err(denial) => {
                    self.count_denied(&found, policy, &denial, request.asking(Kind::Actual), "");
                    marking.decision = Some((Kind::Actual, Err(denial.reason())));
                    replaced = self.write_unmatched(policy, &mut marking.slip);
                    vary(false)
                }
            },
            Question::Unusual(fields) => {
                let decision = policy.policy.decide(&request.method, &fields);
                marking.decision = decision.outcome();
                let is_allowed = match &decision {
                    Decision::Preflight(_) => {
                        return Ok(
                            self.answer_unusual_preflight(&request, &found, policy, decision, out)
                        );
                    }
                    Decision::NotCors => false,
                    Decision::Actual(Ok(allowance)) => {
                        self.count_allowed(&found, policy, Kind::Actual, allowance.pattern());
                        true
                    }
                    Decision::Actual(Err(denial)) => {
                        let asking = request.asking(Kind::Actual);
                        self.count_denied(&found, policy, denial, asking, "");
                        false
                    }
                };
                replaced = write_marks(policy, decision, &mut marking.slip);
                vary(is_allowed)
            }
        };
        marking.marks = Some(Marks { vary, replaced });
        if request.target.origin_form == "*" {
            // `OPTIONS *` is about the proxy, not about a resource.
            return Ok(self.answer_own_options(&request, &found, marking, out));
        }
        Ok(self.forward_bytes(&request, &found, &held, marking, out))
    }

    /// Writes the fields beyond CORS of a response that no rule matched; says which.
    fn write_unmatched(&self, policy: &RoutePolicy, slip: &mut Vec<u8>) -> ReplacedFields {
        if !policy.policy.extends_unmatched() {
            return ReplacedFields::default();
        }
        *slip = self.slips.take();
        policy.policy.write_unmatched(slip)
    }

    /// Plans an exchange, or answers a request that must not be forwarded.
    fn forward_bytes(
        &self,
        request: &Received<'_, '_>,
        found: &FoundRoute<'_>,
        held: &Rc<super::super::Held>,
        marking: Marking,
        out: &mut Vec<u8>,
    ) -> Look {
        let (head, route) = (request.head, found.route);
        let max_forwards = request.max_forwards();
        if max_forwards == Some(0) {
            return match request.method {
                Method::OPTIONS => self.answer_own_options(request, found, marking, out),
                _ => {
                    let response = self.failure(route, &Error::TraceEnds, marking.marks.is_some());
                    self.answer_own(request, found, marking, response, out)
                }
            };
        }
        if head.has_via && has_looped(head.fields) {
            let response = self.failure(route, &Error::Loop, marking.marks.is_some());
            return self.answer_own(request, found, marking, response, out);
        }
        if !route.speaks_only_http1() {
            return single(request);
        }
        let accepts_trailers = head.has_te && head.fields.lists(&TE, b"trailers");
        let upgrade = wants_upgrade(head)
            .then(|| head.fields.field_values(&UPGRADE).next())
            .flatten();
        let host = match (route.host_header, &*route.upstreams) {
            (HostHeader::Upstream, _) => HostLine::OfUpstream,
            (HostHeader::Preserve, _) if request.target.authority.is_some() => {
                HostLine::Is(request.authority)
            }
            (HostHeader::Preserve, _) if request.authority.is_empty() => HostLine::OfUpstream,
            (HostHeader::Preserve, _) => HostLine::Stays,
        };
        let span = self.begin_span(request);
        let edit = RequestEdit {
            client: request.client,
            forwarding: route.forwarding,
            proxies: &held.0.trusted_proxies,
            received: head.version(),
            host: request.authority,
            replaces_host: !matches!(host, HostLine::Stays),
            has_lists: head.connection == Connection::Lists,
            accepts_trailers,
            upgrade,
            max_forwards: max_forwards.map(|hops| hops - 1),
            is_chunked: head.framing == Framing::Chunked,
            span: span.as_ref(),
        };
        let mut slip = match marking.slip.capacity() {
            0 => self.slips.take(),
            _ => marking.slip,
        };
        let cors = slip.len();
        let host_at = write_for_upstream(request, &edit, host, &mut slip);
        let length = slip.len();
        let told = self.note(request, marking.decision, span, &mut slip);
        Look::Exchange {
            consumed: head.bytes.len(),
            exchange: Exchange {
                slip,
                cors,
                head: length,
                host_at,
                told,
                marks: marking.marks,
                held: Rc::clone(held),
                route: found.index,
                method: request.method.clone(),
                client: request.client.counted(),
                framing: head.framing,
                expects_continue: head.expects_continue(),
                announces_trailers: head.has_trailer,
                accepts_trailers,
                upgrades: upgrade.is_some(),
                authenticates_connection: head.authenticates_connection,
                is_http10: head.is_http10,
                closes: request.closes,
                start: request.start,
            },
        }
    }

    /// Answers an OPTIONS that is about the proxy itself.
    fn answer_own_options(
        &self,
        request: &Received<'_, '_>,
        found: &FoundRoute<'_>,
        marking: Marking,
        out: &mut Vec<u8>,
    ) -> Look {
        self.answer_own(request, found, marking, answer::own_options(), out)
    }

    /// Writes a response that is made here, and counts and logs it.
    fn answer_own(
        &self,
        request: &Received<'_, '_>,
        found: &FoundRoute<'_>,
        marking: Marking,
        response: http::Response<Body>,
        out: &mut Vec<u8>,
    ) -> Look {
        let close = request.closes_unread();
        let mut lines = marking.slip;
        if let Some(names) = marking.marks.and_then(|marks| marks.vary) {
            write_line(b"vary", names.as_bytes(), &mut lines);
        }
        lines.extend_from_slice(ends(close, request.head.is_http10));
        let status = response.status();
        let id = response.headers().get(answer::REQUEST_ID).cloned();
        let (start, to_head) = (request.start, request.method == Method::HEAD);
        let bytes = answer::write(response, &lines, to_head, &self.date, start, out);
        self.slips.give_back(lines);
        self.count(&found.route.metrics, &request.method, status, start);
        let answered = Answered {
            status,
            decision: marking.decision,
            request_id: id
                .as_ref()
                .and_then(|id| id.to_str().ok())
                .unwrap_or_default(),
            bytes,
        };
        self.tell_answered(request, found.route, &answered);
        Look::Answered {
            consumed: request.head.bytes.len(),
            close,
        }
    }

    /// Answers a preflight whose fields are not each there once.
    fn answer_unusual_preflight(
        &self,
        request: &Received<'_, '_>,
        found: &FoundRoute<'_>,
        policy: &RoutePolicy,
        decision: Decision<'_>,
        out: &mut Vec<u8>,
    ) -> Look {
        let decided = decision.outcome();
        let mut response = match &decision {
            Decision::Preflight(Err(denial)) => {
                let id = self.ids.next();
                let asking = request.asking(Kind::Preflight);
                self.count_denied(found, policy, denial, asking, id.as_str());
                answer::denial(denial, found.resource, id)
            }
            decision => {
                if let Some(allowance) = decision.allowance() {
                    self.count_allowed(found, policy, Kind::Preflight, allowance.pattern());
                }
                answer::preflight()
            }
        };
        policy.policy.mark(decision, response.headers_mut());
        // S3 ends the connection with some refusals; our own line says so for all reasons at once.
        let ends = response
            .headers_mut()
            .remove(http::header::CONNECTION)
            .is_some();
        let request = &Received {
            closes: request.closes || ends,
            target: request.target.clone(),
            method: request.method.clone(),
            ..*request
        };
        let marking = Marking {
            decision: decided,
            ..Marking::default()
        };
        self.answer_own(request, found, marking, response, out)
    }
}

/// What the policy has on a response.
#[derive(Default)]
struct Marking {
    /// `None`: CORS is the upstream's business.
    marks: Option<Marks>,
    /// The CORS fields that allow it, as lines.
    slip: Vec<u8>,
    decision: Option<(Kind, Result<(), Reason>)>,
}

/// The lines that say whether the connection goes on where that is not the version's default.
pub(in crate::proxy) fn ends(close: bool, is_http10: bool) -> &'static [u8] {
    match (close, is_http10) {
        (true, _) => CLOSE,
        (false, true) => b"connection: keep-alive\r\n",
        (false, false) => b"",
    }
}

fn single(request: &Received<'_, '_>) -> Look {
    Look::Single(Single {
        head: request.head.bytes.len(),
        framing: request.head.framing,
        has_upgrade: request.head.has_upgrade,
        closes: request.closes,
    })
}

/// Writes the fields that a policy sets on a response, `Vary` apart; says which of them are beyond
/// CORS.
fn write_marks(policy: &RoutePolicy, decision: Decision<'_>, out: &mut Vec<u8>) -> ReplacedFields {
    let mut fields = HeaderMap::new();
    policy.policy.mark(decision, &mut fields);
    fields.remove(VARY);
    for (name, value) in &fields {
        write_line(name.as_str().as_bytes(), value.as_bytes(), out);
    }
    ReplacedFields::among(&fields)
}

/// How a request names its host: an absolute-form target wins over `Host` ([RFC 9112 §3.2.2]).
/// HTTP/1.0 may name none.
///
/// [RFC 9112 §3.2.2]: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
fn authority<'b>(
    head: &RequestHead<'_, 'b>,
    target: &Target<'b>,
) -> Result<Option<&'b [u8]>, Error> {
    let host = head.host.at_most_one().map_err(|_| Error::InvalidHost)?;
    match (target.authority, host) {
        (None, None) if !head.is_http10 => Err(Error::InvalidHost),
        (None, host) => Ok(host),
        (Some(authority), Some(host)) if Host::parse(host).is_ok() => {
            Ok(Some(authority.as_bytes()))
        }
        (Some(authority), None) if head.is_http10 => Ok(Some(authority.as_bytes())),
        (Some(_), _) => Err(Error::InvalidHost),
    }
}

/// Whether the client asks to leave HTTP for a protocol that can be tunnelled.
///
/// `h2c` is none, not even as one choice of several: a request could be smuggled behind the
/// upgrade.
fn wants_upgrade(head: &RequestHead<'_, '_>) -> bool {
    head.has_upgrade
        && !head.is_http10
        && !head
            .fields
            .elements(&UPGRADE)
            .any(|protocol| protocol.to_ascii_lowercase().starts_with(b"h2c"))
        && head.fields.lists(&http::header::CONNECTION, b"upgrade")
}

impl Route {
    /// Whether HTTP/1.1 is spoken to whichever of its upstreams.
    fn speaks_only_http1(&self) -> bool {
        let mut upstreams = self.upstreams.iter();
        upstreams.all(|upstream| !upstream.settings.http2)
    }
}

/// What becomes of `Host` on its way.
#[derive(Clone, Copy, Debug)]
enum HostLine<'b> {
    Stays,
    Is(&'b [u8]),
    /// The authority of the upstream that is chosen.
    OfUpstream,
}

/// Writes the head that the upstream gets. Gives the place where `Host` is still to be put.
fn write_for_upstream(
    request: &Received<'_, '_>,
    edit: &RequestEdit<'_>,
    host: HostLine<'_>,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let head = request.head;
    for part in [
        head.method,
        " ",
        &request.target.origin_form,
        " HTTP/1.1\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    let host_at = match host {
        HostLine::Stays => None,
        HostLine::Is(authority) => {
            out.field(&HOST, |out| out.extend_from_slice(authority));
            None
        }
        HostLine::OfUpstream => Some(out.len()),
    };
    copy_runs(head.bytes, head.fields, out, |field| {
        edit.keeps(field.name, head.fields)
    });
    edit.add(head.fields, out);
    out.extend_from_slice(b"\r\n");
    host_at
}

impl Proxy {
    /// Counts a response at its head.
    pub(super) fn count_exchange(&self, exchange: &Exchange, route: &Route, status: StatusCode) {
        self.count(&route.metrics, &exchange.method, status, exchange.start);
    }
}
