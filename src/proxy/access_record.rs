//! Access log records of byte-level exchanges. If there is a log or a trace, the exchange keeps the
//! request's logged fields until the response has ended.

use std::net::IpAddr;
use std::ops::Range;
use std::time::SystemTime;

use crate::cors::fetch::RequestedPermission;
use crate::cors::{Kind, Reason};
use crate::http1::fields::Fields as _;
use crate::routing::client;
use crate::routing::client::X_FORWARDED_FOR;
use crate::routing::snapshot::Route;
use crate::telemetry::access_log::Record;
use crate::telemetry::live::LiveNote;
use crate::telemetry::trace_context::TraceParent;
use crate::telemetry::traces::OpenSpan;

use super::Proxy;
use super::access_note::{AccessNote, Answered, ExchangeEnd};
use super::exchange::Http1Exchange;
use super::received::ReceivedRequest;
use super::verdict_basis::VerdictBasis;

impl Proxy {
    /// The address that a request comes from: the forwarded one if the peer is trusted.
    fn address_behind(&self, request: &ReceivedRequest<'_, '_>) -> Option<IpAddr> {
        let client = request.client;
        if !client.trusted {
            return client.address;
        }
        let lines = request.head.fields.field_values(&X_FORWARDED_FOR);
        client::address_behind(lines, client, &self.snapshot().0.trusted_proxies)
    }

    /// Adds the logged fields to `head_buf`. `None`: there is no access log and no span.
    pub(crate) fn note(
        &self,
        request: &ReceivedRequest<'_, '_>,
        (decision, basis, live): (Decided, &VerdictBasis, Option<Box<LiveNote>>),
        span: Option<OpenSpan>,
        head_buf: &mut Vec<u8>,
    ) -> Option<Box<AccessNote>> {
        if self.access_log.is_none() && span.is_none() && !self.shows(decision, basis) {
            return None;
        }
        let mut keep = |part: &[u8]| {
            let start = head_buf.len();
            head_buf.extend_from_slice(part);
            start..head_buf.len()
        };
        let head = request.head;
        Some(Box::new(AccessNote {
            time: SystemTime::now(),
            address: self.address_behind(request),
            target: keep(request.target.origin_form.as_bytes()),
            host: keep(request.authority),
            origin: head.field("origin").map(&mut keep),
            referer: head.field("referer").map(&mut keep),
            user_agent: head.field("user-agent").map(&mut keep),
            version: head.version(),
            span,
            trace_id: TraceParent::of(head.fields).map(|parent| parent.trace_id),
            decision,
            tls: request.client.tls,
            live,
            asked: request
                .requested_permission()
                .map(|asked| (keep(asked.method), keep(asked.headers))),
        }))
    }

    /// Logs an exchange that has ended.
    pub(crate) fn log_exchange(
        &self,
        exchange: &Http1Exchange,
        route: &Route,
        end: &ExchangeEnd<'_>,
    ) {
        let Some(note) = &exchange.note else {
            return;
        };
        let part = |range: &Range<usize>| exchange.head_buf.get(range.clone()).unwrap_or_default();
        let record = Record {
            time: note.time,
            route: Some(&route.name),
            client: note.address,
            method: &exchange.method,
            host: part(&note.host),
            target: std::str::from_utf8(part(&note.target)).unwrap_or_default(),
            version: note.version,
            status: end.status,
            bytes: end.bytes,
            cut: end.cut,
            duration: exchange.start.elapsed(),
            upstream: end.upstream,
            failed: end.failed,
            request_id: end.request_id,
            trace_id: note.trace_id,
            origin: note.origin.as_ref().map(part),
            decision: note.decision,
            verdict: end.verdict,
            tls: note.tls,
            asked: note
                .asked
                .as_ref()
                .map(|(method, headers)| RequestedPermission {
                    method: part(method),
                    headers: part(headers),
                }),
            referer: note.referer.as_ref().map(part),
            user_agent: note.user_agent.as_ref().map(part),
        };
        self.record(&record, note.span.as_ref(), note.live.as_deref());
    }

    /// Logs a request, and ends its span.
    pub(crate) fn record(
        &self,
        record: &Record<'_>,
        span: Option<&OpenSpan>,
        note: Option<&LiveNote>,
    ) {
        if let Some(live) = &self.live {
            live.write(record, note);
        }
        if let Some(logger) = &self.access_log {
            logger.log(record);
        }
        if let Some(span) = span {
            span.end(record);
        }
    }

    /// Begins a span if the request is recorded.
    pub(crate) fn begin_span(&self, request: &ReceivedRequest<'_, '_>) -> Option<OpenSpan> {
        let tracer = self.tracer.as_ref()?;
        tracer.begin(
            request.head.fields,
            &request.target.origin_form,
            request.client,
        )
    }

    /// Logs a request that the proxy answered itself.
    pub(crate) fn log_own_answer(
        &self,
        request: &ReceivedRequest<'_, '_>,
        route: &Route,
        answered: &Answered<'_>,
    ) {
        let span = self.begin_span(request);
        let shows = || {
            let basis = answered
                .verdict
                .map_or(VerdictBasis::NotCors, VerdictBasis::Decided);
            self.shows(answered.decision, &basis)
        };
        if self.access_log.is_none() && span.is_none() && !shows() {
            return;
        }
        let head = request.head;
        let record = Record {
            time: SystemTime::now(),
            route: Some(&route.name),
            client: self.address_behind(request),
            method: &request.method,
            host: request.authority,
            target: &request.target.origin_form,
            version: head.version(),
            status: answered.status,
            bytes: answered.bytes as u64,
            cut: None,
            duration: request.start.elapsed(),
            upstream: None,
            failed: None,
            request_id: answered.request_id,
            trace_id: TraceParent::of(head.fields).map(|parent| parent.trace_id),
            origin: head.field("origin"),
            decision: answered.decision,
            verdict: answered.verdict,
            tls: request.client.tls,
            asked: request.requested_permission(),
            referer: head.field("referer"),
            user_agent: head.field("user-agent"),
        };
        self.record(&record, span.as_ref(), answered.live);
    }

    /// Whether the console shows a request, as far as is known before its response: requests that
    /// may turn out to be refused, and all CORS requests while anyone watches.
    pub(crate) fn shows(&self, decision: Decided, basis: &VerdictBasis) -> bool {
        let Some(live) = &self.live else {
            return false;
        };
        let is_denied = decision.is_some_and(|(_, outcome)| outcome.is_err());
        let has_room = match basis {
            // The upstream decides. If the queue has no room, the response is counted as a dropped
            // event.
            VerdictBasis::Upstream(_) => return live.has_room_for_others() || live.has_room(),
            VerdictBasis::Decided(verdict) if is_denied || verdict.blocked().is_some() => {
                live.has_room()
            }
            VerdictBasis::NotCors if is_denied => live.has_room(),
            VerdictBasis::NotCors if decision.is_none() => return false,
            VerdictBasis::Decided(_) | VerdictBasis::NotCors if !live.is_watched() => return false,
            VerdictBasis::Decided(_) | VerdictBasis::NotCors => live.has_room_for_others(),
        };
        if !has_room {
            live.drop_event();
        }
        has_room
    }
}

/// A policy's decision.
pub(crate) type Decided = Option<(Kind, Result<(), Reason>)>;
