//! Counts and logs requests on the request path: with handles, without lookups.

use std::time::Instant;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, request};

use crate::cors::{Denial, Kind, REASON_FIELD, RequestedHeaders};
use crate::http1::client_head::write_line;
use crate::metrics::{NO_ROUTE, RouteMetrics, Transfer};
use crate::routing::client;
use crate::routing::client::Client;
use crate::routing::snapshot::RoutePolicy;
use crate::telemetry::denial::{DenialRecord, DeniedRequest};
use crate::telemetry::denial_text;
use crate::telemetry::live::LiveNote;

use super::state::FoundRoute;
use super::{Proxy, header_map};

/// The description of a denied request with a header map, for counts and logs.
pub(crate) fn denied_request_of<'r>(
    kind: Kind,
    request: &'r request::Parts,
    client: Client,
) -> DeniedRequest<'r> {
    let field = |name| request.headers.get(name).map(HeaderValue::as_bytes);
    let requested = field(ACCESS_CONTROL_REQUEST_METHOD);
    DeniedRequest {
        kind,
        host: header_map::authority(request)
            .ok()
            .flatten()
            .unwrap_or_default(),
        origin: field(ORIGIN).unwrap_or_default(),
        method: requested.unwrap_or(request.method.as_str().as_bytes()),
        path: request.uri.path(),
        headers: RequestedHeaders::from_fields(&request.headers),
        client,
        forwarded_for: request
            .headers
            .get_all(&client::X_FORWARDED_FOR)
            .iter()
            .next_back()
            .map(HeaderValue::as_bytes),
    }
}

/// What a refusal adds to the response and the console.
pub(crate) struct DenialNotes {
    /// `X-S3Cors-Reason`, if the route enables it.
    pub(crate) reason: Option<HeaderValue>,
    /// For the console.
    pub(crate) live: Option<Box<LiveNote>>,
}

impl DenialNotes {
    /// Appends the field to a head.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if let Some(reason) = &self.reason {
            write_line(REASON_FIELD.as_bytes(), reason.as_bytes(), out);
        }
    }

    /// Sets the field in a map.
    pub(crate) fn insert_into(&mut self, fields: &mut HeaderMap) {
        if let Some(reason) = self.reason.take() {
            fields.insert(HeaderName::from_static(REASON_FIELD), reason);
        }
    }
}

impl Proxy {
    /// Counts a response that is made here, with so many bytes of a body.
    pub(crate) fn count_own_answer(
        &self,
        metrics: &RouteMetrics,
        request: (&Method, Instant),
        status: StatusCode,
        bytes: usize,
    ) {
        let (method, start) = request;
        let counts = metrics.counts(self.worker);
        counts.request(method, status, start.elapsed());
        counts.bytes(Transfer::ClientSent, bytes as u64);
    }

    pub(crate) fn count(
        &self,
        metrics: &RouteMetrics,
        method: &Method,
        status: StatusCode,
        start: Instant,
    ) {
        metrics.request(self.worker, method, status, start.elapsed());
    }

    pub(crate) fn count_allowed(
        &self,
        found: &FoundRoute<'_>,
        policy: &RoutePolicy,
        kind: Kind,
        pattern: usize,
    ) {
        found.route.metrics.decision(self.worker, kind, Ok(()));
        if let Some(counter) = policy.allowed.get(pattern) {
            counter.inc(self.worker);
        }
    }

    /// What the console shows about an allowed request, if anyone watches.
    pub(crate) fn note_allowed<'r>(
        &self,
        found: &FoundRoute<'_>,
        policy: &RoutePolicy,
        pattern: usize,
        target: impl FnOnce() -> (&'r [u8], &'r str),
    ) -> Option<Box<LiveNote>> {
        let live = self.live.as_ref()?;
        live.has_room_for_others().then(|| {
            let (host, path) = target();
            LiveNote::allowed(found.snapshot, policy, host, path, pattern)
        })
    }

    /// Counts a refusal, and logs it at a limited rate. `request_id` is empty if the client gets
    /// none. Returns what the client and the console get.
    pub(crate) fn count_denied(
        &self,
        found: &FoundRoute<'_>,
        policy: &RoutePolicy,
        denial: &Denial,
        denied: DeniedRequest<'_>,
        request_id: &str,
    ) -> DenialNotes {
        let metrics = &found.route.metrics;
        metrics.decision(self.worker, denied.kind, Err(denial.reason()));
        if !denied.origin.is_empty() {
            metrics.denied_origin(denied.origin);
        }
        let refusal = DenialRecord {
            route: &found.route.name,
            snapshot: Some(found.snapshot),
            denied,
            denial,
            policy: Some(policy),
            request_id,
        };
        self.denial_log.log(&refusal, Instant::now());
        let live = self.live.as_ref();
        let live = live.filter(|live| live.has_room());
        DenialNotes {
            reason: match found.route.explain_header {
                true => denial_text::header_value(&refusal),
                false => None,
            },
            live: live.map(|_| LiveNote::denied(&refusal)),
        }
    }

    /// Counts and logs the refusal of a preflight for a host without a route.
    #[cold]
    pub(crate) fn count_unrouted(
        &self,
        denial: &Denial,
        request: &request::Parts,
        client: Client,
        request_id: &str,
    ) {
        let denied = denied_request_of(Kind::Preflight, request, client);
        let reason = denial.reason();
        self.unrouted
            .decision(self.worker, denied.kind, Err(reason));
        let refusal = DenialRecord {
            route: NO_ROUTE,
            snapshot: None,
            denied,
            denial,
            policy: None,
            request_id,
        };
        self.denial_log.log(&refusal, Instant::now());
    }
}
