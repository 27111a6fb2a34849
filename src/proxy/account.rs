//! What is counted and logged of a request, on the request path: kept handles, no look-ups.

use std::time::Instant;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderValue, Method, StatusCode, request};

use crate::cors::Denial;
use crate::cors::Kind;
use crate::cors::RequestedHeaders;
use crate::metrics::NO_ROUTE;
use crate::metrics::RouteMetrics;

use super::client::{self, Client};
use super::forward;
use super::refusals::Refusal;
use super::snapshot::RoutePolicy;
use super::{FoundRoute, Proxy};

/// Who asks for what, as counts and logs tell it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'r> {
    pub(super) kind: Kind,
    /// The request's host, as it came.
    pub(super) host: &'r [u8],
    /// `Origin`, as it came.
    pub(super) origin: &'r [u8],
    /// The method that rules were asked for.
    pub(super) method: &'r [u8],
    pub(super) path: &'r str,
    /// `Access-Control-Request-Headers`.
    pub(super) headers: RequestedHeaders<'r>,
    /// Whose connection it is.
    pub(super) client: Client,
    /// The last line of `X-Forwarded-For`, as it came.
    pub(super) forwarded_for: Option<&'r [u8]>,
}

impl<'r> Asking<'r> {
    pub(super) fn of(kind: Kind, request: &'r request::Parts, client: Client) -> Self {
        let field = |name| request.headers.get(name).map(HeaderValue::as_bytes);
        let requested = field(ACCESS_CONTROL_REQUEST_METHOD);
        Self {
            kind,
            host: forward::authority(request).unwrap_or_default(),
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
}

impl Proxy {
    pub(super) fn count(
        &self,
        metrics: &RouteMetrics,
        method: &Method,
        status: StatusCode,
        start: Instant,
    ) {
        metrics.request(self.worker, method, status, start.elapsed());
    }

    pub(super) fn count_allowed(
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
    pub(super) fn count_denied(
        &self,
        found: &FoundRoute<'_>,
        policy: &RoutePolicy,
        denial: &Denial,
        asking: Asking<'_>,
        request_id: &str,
    ) {
        let metrics = &found.route.metrics;
        metrics.decision(self.worker, asking.kind, Err(denial.reason()));
        if !asking.origin.is_empty() {
            metrics.denied_origin(asking.origin);
        }
        let refusal = Refusal {
            route: &found.route.name,
            snapshot: Some(found.snapshot),
            asking,
            denial,
            policy: Some(policy),
            request_id,
        };
        self.refusals.log(&refusal, Instant::now());
    }

    /// Counts a preflight's refusal where no route serves its host, and logs it like others.
    #[cold]
    pub(super) fn count_unrouted(
        &self,
        denial: &Denial,
        request: &request::Parts,
        client: Client,
        request_id: &str,
    ) {
        let asking = Asking::of(Kind::Preflight, request, client);
        let reason = denial.reason();
        self.unrouted
            .decision(self.worker, asking.kind, Err(reason));
        let refusal = Refusal {
            route: NO_ROUTE,
            snapshot: None,
            asking,
            denial,
            policy: None,
            request_id,
        };
        self.refusals.log(&refusal, Instant::now());
    }
}
