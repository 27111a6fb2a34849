//! What is counted and logged of a request, on the request path: kept handles, no look-ups.

use std::time::Instant;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderValue, Method, StatusCode, request};

use crate::cors::{Denial, Kind, RequestedHeaders};
use crate::metrics::{NO_ROUTE, RouteMetrics};
use crate::routing::client;
use crate::routing::client::Client;
use crate::routing::snapshot::RoutePolicy;
use crate::telemetry::denial::{DenialRecord, DeniedRequest};

use super::state::FoundRoute;
use super::{Proxy, header_map};

/// What counts and logs say of a request whose head is a map of fields.
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

impl Proxy {
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

    /// Counts a refusal and logs it, a few a second. `request_id` is empty where the client is not
    /// told one.
    pub(crate) fn count_denied(
        &self,
        found: &FoundRoute<'_>,
        policy: &RoutePolicy,
        denial: &Denial,
        asking: DeniedRequest<'_>,
        request_id: &str,
    ) {
        let metrics = &found.route.metrics;
        metrics.decision(self.worker, asking.kind, Err(denial.reason()));
        if !asking.origin.is_empty() {
            metrics.denied_origin(asking.origin);
        }
        let refusal = DenialRecord {
            route: &found.route.name,
            snapshot: Some(found.snapshot),
            asking,
            denial,
            policy: Some(policy),
            request_id,
        };
        self.denial_log.log(&refusal, Instant::now());
    }

    /// Counts a preflight's refusal where no route serves its host, and logs it like others.
    #[cold]
    pub(crate) fn count_unrouted(
        &self,
        denial: &Denial,
        request: &request::Parts,
        client: Client,
        request_id: &str,
    ) {
        let asking = denied_request_of(Kind::Preflight, request, client);
        let reason = denial.reason();
        self.unrouted
            .decision(self.worker, asking.kind, Err(reason));
        let refusal = DenialRecord {
            route: NO_ROUTE,
            snapshot: None,
            asking,
            denial,
            policy: None,
            request_id,
        };
        self.denial_log.log(&refusal, Instant::now());
    }
}
