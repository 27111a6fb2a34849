//! Judges each response to a CORS request as browsers will; counts the verdict
//! (`s3cors_cors_verdicts_total`) and logs it.

use http::header::{COOKIE, LOCATION, ORIGIN};
use http::{HeaderName, HeaderValue, Response, StatusCode, request};

use crate::cors::fetch::{
    AnswerVerdict, AnsweredRequest, BlockedReason, RequestedPermission, applies_cors,
    is_redirect_status,
};
use crate::http1::fields::Fields as _;
use crate::http1::response_head::ResponseHead;
use crate::metrics::RouteMetrics;
use crate::routing::snapshot::Route;

use super::exchange::Http1Exchange;
use super::header_map;
use super::own_answer::Marking;
use super::received::ReceivedRequest;
use super::response_body::Body;
use super::state::{FoundRoute, Proxy};
use super::verdict_basis::{VerdictBasis, requested_permission, without_cors_fields};

const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Proxy {
    pub(crate) fn count_verdict(&self, metrics: &RouteMetrics, verdict: Option<AnswerVerdict>) {
        if let Some(verdict) = verdict {
            metrics.verdict(self.worker, verdict);
        }
    }

    /// Counts the verdict on an upstream's response.
    pub(crate) fn judge_exchange(
        &self,
        exchange: &Http1Exchange,
        route: &Route,
        head: &ResponseHead<'_, '_>,
    ) -> Option<AnswerVerdict> {
        let verdict = match &exchange.verdict_basis {
            VerdictBasis::NotCors => None,
            VerdictBasis::Decided(verdict) => with_status(*verdict, head),
            VerdictBasis::Upstream(request) => {
                let fields = || head.fields.iter().map(|field| (field.name, field.value));
                request.judge(
                    exchange.upstream_head(),
                    &exchange.head_buf,
                    head.status,
                    fields,
                )
            }
        };
        self.count_verdict(&route.metrics, verdict);
        self.drop_unnoted(exchange, verdict);
        verdict
    }

    /// Counts the event for an upstream's response as dropped if the queue had no room when the
    /// request arrived.
    fn drop_unnoted(&self, exchange: &Http1Exchange, verdict: Option<AnswerVerdict>) {
        let is_upstreams = matches!(exchange.verdict_basis, VerdictBasis::Upstream(_));
        let is_watched = || self.live.as_ref().is_some_and(|live| live.is_watched());
        let is_shown = verdict.is_some_and(|verdict| verdict.blocked().is_some() || is_watched());
        if let (true, true, None, Some(live)) = (is_upstreams, is_shown, &exchange.note, &self.live)
        {
            live.drop_event();
        }
    }

    /// Counts the verdict on an error response in place of an upstream's.
    pub(crate) fn judge_failure(
        &self,
        exchange: &Http1Exchange,
        route: &Route,
    ) -> Option<AnswerVerdict> {
        let verdict = match &exchange.verdict_basis {
            VerdictBasis::NotCors => None,
            VerdictBasis::Decided(verdict) => Some(*verdict),
            VerdictBasis::Upstream(request) => Some(request.without_cors_fields()),
        };
        self.count_verdict(&route.metrics, verdict);
        self.drop_unnoted(exchange, verdict);
        verdict
    }

    /// Counts the verdict on the proxy's own answer to a request that would otherwise be forwarded.
    pub(crate) fn judge_own_answer(
        &self,
        request: &ReceivedRequest<'_, '_>,
        found: &FoundRoute<'_>,
        marking: &Marking,
    ) -> Option<AnswerVerdict> {
        let verdict = match found.policy {
            Some(_) => marking.verdict,
            None => request
                .cors_origin()
                .map(|_| without_cors_fields(request.is_preflight())),
        };
        self.count_verdict(&found.route.metrics, verdict);
        verdict
    }
}

/// The verdict on an upstream's response, given the verdict of a decision.
fn with_status(verdict: AnswerVerdict, head: &ResponseHead<'_, '_>) -> Option<AnswerVerdict> {
    if head.status.is_informational() {
        return None;
    }
    let is_redirect =
        is_redirect_status(head.status) && head.fields.field_values(&LOCATION).next().is_some();
    match verdict {
        AnswerVerdict::Readable if is_redirect => Some(AnswerVerdict::Passed),
        // The browser's cache has the CORS fields for a 304.
        AnswerVerdict::Blocked(BlockedReason::MissingAllowOriginHeader)
            if head.status == StatusCode::NOT_MODIFIED =>
        {
            None
        }
        verdict => Some(verdict),
    }
}

/// What the verdict on a response needs of a request with a header map.
pub(crate) struct JudgedRequest {
    origin: HeaderValue,
    has_credentials: bool,
    /// The requested method and headers.
    preflight: Option<(HeaderValue, Option<HeaderValue>)>,
}

impl JudgedRequest {
    /// `None`: browsers do not apply CORS to it.
    pub(crate) fn of(request: &request::Parts) -> Option<Self> {
        let fields = &request.headers;
        let mut origins = fields.get_all(ORIGIN).iter();
        let origin = origins.next().filter(|origin| !origin.is_empty())?;
        if origins.next().is_some() {
            return None;
        }
        let value = |name| fields.get(name).map(HeaderValue::as_bytes);
        let authority = header_map::authority(request).ok().flatten();
        let applies = applies_cors(
            origin.as_bytes(),
            authority.unwrap_or_default(),
            value(FETCH_MODE),
            value(FETCH_SITE),
        );
        applies.then(|| Self {
            origin: origin.clone(),
            has_credentials: fields.contains_key(COOKIE),
            preflight: requested_permission(&request.method, fields),
        })
    }

    pub(crate) fn judge(&self, response: &Response<Body>) -> Option<AnswerVerdict> {
        if response.body().is_tunnel() {
            return None;
        }
        let request = AnsweredRequest {
            origin: self.origin.as_bytes(),
            has_credentials: self.has_credentials,
            preflight: self
                .preflight
                .as_ref()
                .map(|(method, headers)| RequestedPermission {
                    method: method.as_bytes(),
                    headers: headers.as_ref().map_or(b"", HeaderValue::as_bytes),
                }),
        };
        let fields = || {
            let fields = response.headers().iter();
            fields.map(|(name, value)| (name.as_str(), value.as_bytes()))
        };
        request.judge(response.status(), fields)
    }
}
