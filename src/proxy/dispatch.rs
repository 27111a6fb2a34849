//! Dispatches an HTTP/1.1 request by its head: it is answered, forwarded as bytes, or handed to
//! `server::http1_server`.

use std::rc::Rc;
use std::time::Instant;

use http::header::{HOST, TE, UPGRADE, VARY};
use http::{HeaderMap, Method};

use crate::cors::{Decision, Kind, ReplacedFields};
use crate::http1::client_head::{ends, write_line};
use crate::http1::fields::{Fields as _, copy_runs};
use crate::http1::request_head::{ConnectionOption, Framing, HeadError, RequestHead, read_request};
use crate::http1::request_rules::{max_forwards, requests_upgrade};
use crate::http1::response_edit::FieldSink as _;
use crate::http1::target::Target;
use crate::routing::client::Client;
use crate::routing::host;
use crate::routing::snapshot::{HostHeader, Route, RoutePolicy};
use crate::upstream::error::Error;

use super::action::{Action, HeaderMapRequest};
use super::cors_question::Question;
use super::counting::DenialNotes;
use super::exchange::{Http1Exchange, Marks};
use super::own_answer::Marking;
use super::received::ReceivedRequest;
use super::request_edit::{RequestEdit, has_looped};
use super::state::{FoundRoute, HeldSnapshot};
use super::verdict_basis::{AnyOrigin, VerdictBasis};
use super::{Proxy, bucket_cors, verdict_basis};

impl Proxy {
    /// Reads the request that `bytes` begin with, and does everything that needs no waiting;
    /// responses are written to `out`. With `closing`, the connection closes after the next
    /// response.
    pub fn handle_head(
        &self,
        bytes: &[u8],
        client: Client,
        closing: bool,
        out: &mut Vec<u8>,
    ) -> Action {
        let read = read_request(bytes, &self.limits, |head| {
            let start = Instant::now();
            let closes = closing || head.closes();
            match self.dispatch(head, client, start, closes, out) {
                Ok(action) => action,
                Err(error) => {
                    let close =
                        closes || head.framing != Framing::Length(0) || error.answer().close;
                    let ends = ends(close, head.is_http10);
                    self.refuse_bytes(&error, head.bytes, client, ends, out);
                    Action::Answered {
                        consumed: head.bytes.len(),
                        close,
                    }
                }
            }
        });
        match read {
            Ok(Some(action)) => action,
            Ok(None) => Action::More,
            Err(error) => {
                let error = match error {
                    HeadError::Malformed(what) => Error::MalformedRequest(what),
                    HeadError::TooLarge => Error::HeadTooLarge,
                    HeadError::UriTooLong => Error::UriTooLong,
                };
                self.refuse_bytes(&error, bytes, client, b"", out);
                Action::Answered {
                    consumed: bytes.len(),
                    close: true,
                }
            }
        }
    }

    /// Finds the route and policy of a request, and decides what to do with it.
    fn dispatch(
        &self,
        head: &RequestHead<'_, '_>,
        client: Client,
        start: Instant,
        closes: bool,
        out: &mut Vec<u8>,
    ) -> Result<Action, Error> {
        let target = Target::parse(head.method, head.target).ok_or(Error::InvalidTarget)?;
        let method = Method::from_bytes(head.method.as_bytes())
            .map_err(|_| Error::MalformedRequest("the method is not a token"))?;
        let host = head.host.at_most_one().map_err(|_| Error::InvalidHost)?;
        let authority = host::authority(head.version(), target.authority.map(str::as_bytes), host)?;
        let held = self.snapshot();
        let found = FoundRoute::find(&held.0, authority, target.path(), client.listener)?;
        let request = ReceivedRequest {
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
        // Rare, and reads the request's body: handled as a header map.
        if request.method != Method::OPTIONS
            && request.target.path().len() < request.target.origin_form.len()
            && bucket_cors::is_requested(
                &request.method,
                &request.target.origin_form,
                head.fields,
                &found,
            )
        {
            return Ok(single(&request));
        }
        let vary = |is_allowed| policy.policy.vary(Kind::Actual, is_allowed);
        let vary = match Question::of(&request, policy.policy.semantics()) {
            Question::Preflight(asked) => {
                let decision = policy.policy.answer(&asked);
                return Ok(self.answer_preflight(&request, &found, policy, &decision, out));
            }
            Question::NotCors => {
                replaced = self.write_unmatched(policy, &mut marking.head_buf);
                vary(false)
            }
            _ if !found.route.speaks_only_http1() => return Ok(single(&request)),
            Question::Actual(asked) => match policy.policy.answer(&asked) {
                Ok(fields) => {
                    self.count_allowed(&found, policy, Kind::Actual, fields.pattern());
                    marking.live =
                        self.note_allowed(&found, policy, fields.pattern(), || request.named());
                    marking.head_buf = self.buffers.take();
                    fields.write(&mut marking.head_buf);
                    replaced = fields.write_extension(&mut marking.head_buf);
                    marking.decision = Some((Kind::Actual, Ok(())));
                    let is_any = AnyOrigin(fields.is_any_origin());
                    marking.verdict = verdict_basis::decided(&request, Kind::Actual, Ok(is_any));
                    vary(true)
                }
                Err(denial) => {
                    let denied = request.denied_request(Kind::Actual);
                    let notes = self.count_denied(&found, policy, &denial, denied, "");
                    let reason = denial.reason();
                    marking.decision = Some((Kind::Actual, Err(reason)));
                    marking.verdict = verdict_basis::decided(&request, Kind::Actual, Err(reason));
                    replaced = self.write_unmatched(policy, &mut marking.head_buf);
                    self.write_reason(&notes, &mut marking.head_buf);
                    marking.live = notes.live;
                    vary(false)
                }
            },
            Question::Unusual(fields) => {
                let decision = policy.policy.decide(&request.method, &fields);
                marking.decision = decision.outcome();
                marking.verdict = verdict_basis::of_decision(&request, &decision);
                let mut notes = None;
                let is_allowed = match &decision {
                    Decision::Preflight(_) => {
                        return Ok(
                            self.answer_unusual_preflight(&request, &found, policy, decision, out)
                        );
                    }
                    Decision::NotCors => false,
                    Decision::Actual(Ok(allowance)) => {
                        let pattern = allowance.pattern();
                        self.count_allowed(&found, policy, Kind::Actual, pattern);
                        marking.live =
                            self.note_allowed(&found, policy, pattern, || request.named());
                        true
                    }
                    Decision::Actual(Err(denial)) => {
                        let denied = request.denied_request(Kind::Actual);
                        notes = Some(self.count_denied(&found, policy, denial, denied, ""));
                        false
                    }
                };
                replaced = write_marks(policy, decision, &mut marking.head_buf);
                if let Some(notes) = notes {
                    self.write_reason(&notes, &mut marking.head_buf);
                    marking.live = notes.live;
                }
                vary(is_allowed)
            }
        };
        marking.marks = Some(Marks { vary, replaced });
        if request.target.origin_form == "*" {
            // `OPTIONS *` addresses the proxy, not a resource.
            return Ok(self.answer_own_options(&request, &found, marking, out));
        }
        Ok(self.forward_bytes(&request, &found, &held, marking, out))
    }

    /// Writes the fields beyond CORS of a response without a matching rule; returns which they are.
    fn write_unmatched(&self, policy: &RoutePolicy, head_buf: &mut Vec<u8>) -> ReplacedFields {
        if !policy.policy.extends_unmatched() {
            return ReplacedFields::default();
        }
        *head_buf = self.buffers.take();
        policy.policy.write_unmatched(head_buf)
    }

    /// Writes the reason of a refusal, if the route enables it.
    fn write_reason(&self, notes: &DenialNotes, head_buf: &mut Vec<u8>) {
        if notes.reason.is_some() {
            if head_buf.capacity() == 0 {
                *head_buf = self.buffers.take();
            }
            notes.write(head_buf);
        }
    }

    /// Plans an exchange, or answers a request that must not be forwarded.
    fn forward_bytes(
        &self,
        request: &ReceivedRequest<'_, '_>,
        found: &FoundRoute<'_>,
        held: &Rc<HeldSnapshot>,
        marking: Marking,
        out: &mut Vec<u8>,
    ) -> Action {
        let (head, route) = (request.head, found.route);
        let max_forwards = max_forwards(&request.method, head.fields);
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
        let upgrade = (head.has_upgrade && requests_upgrade(head.version(), head.fields))
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
            has_lists: head.connection == ConnectionOption::Lists,
            accepts_trailers,
            upgrade,
            max_forwards: max_forwards.map(|hops| hops - 1),
            is_chunked: head.framing == Framing::Chunked,
            span: span.as_ref(),
        };
        let mut head_buf = match marking.head_buf.capacity() {
            0 => self.buffers.take(),
            _ => marking.head_buf,
        };
        let cors = head_buf.len();
        let host_at = write_for_upstream(request, &edit, host, &mut head_buf);
        let length = head_buf.len();
        let verdict_basis = VerdictBasis::of(request, found, marking.verdict, &mut head_buf);
        let decided = (marking.decision, &verdict_basis, marking.live);
        let note = self.note(request, decided, span, &mut head_buf);
        Action::Exchange {
            consumed: head.bytes.len(),
            exchange: Http1Exchange {
                head_buf,
                cors,
                head: length,
                host_at,
                note,
                marks: marking.marks,
                verdict_basis,
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
}

fn single(request: &ReceivedRequest<'_, '_>) -> Action {
    Action::HeaderMapRequest(HeaderMapRequest {
        head: request.head.bytes.len(),
        framing: request.head.framing,
        has_upgrade: request.head.has_upgrade,
        closes: request.closes,
    })
}

/// Writes the fields that a policy sets on a response, except for `Vary`; returns which of them are
/// beyond CORS.
fn write_marks(policy: &RoutePolicy, decision: Decision<'_>, out: &mut Vec<u8>) -> ReplacedFields {
    let mut fields = HeaderMap::new();
    policy.policy.mark(decision, &mut fields);
    fields.remove(VARY);
    for (name, value) in &fields {
        write_line(name.as_str().as_bytes(), value.as_bytes(), out);
    }
    ReplacedFields::among(&fields)
}

impl Route {
    /// Whether all of its upstreams use HTTP/1.1.
    fn speaks_only_http1(&self) -> bool {
        let mut upstreams = self.upstreams.iter();
        upstreams.all(|upstream| !upstream.settings.http2)
    }
}

/// What `Host` becomes.
#[derive(Clone, Copy, Debug)]
enum HostLine<'b> {
    Stays,
    Is(&'b [u8]),
    /// The authority of the chosen upstream.
    OfUpstream,
}

/// Writes the head for the upstream. Returns the place where `Host` must still be inserted.
fn write_for_upstream(
    request: &ReceivedRequest<'_, '_>,
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
