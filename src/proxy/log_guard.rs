//! Logs a request with a header map, and ends its span, when its response has ended.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::{ORIGIN, REFERER, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version, request};

use crate::cors::fetch::{AnswerVerdict, RequestedPermission};
use crate::cors::{Decision, Kind, Reason};
use crate::http1::fields::Fields as _;
use crate::metrics::UpstreamFailure;
use crate::routing::client;
use crate::routing::client::Client;
use crate::telemetry::access_log::{AccessLogger, BodyCut, Record};
use crate::telemetry::live::{LiveNote, LiveWriter};
use crate::telemetry::trace_context::{TraceId, TraceParent};
use crate::telemetry::traces::OpenSpan;
use crate::upstream::endpoint::Upstream;
use crate::upstream::error::Error;

use super::request_id::REQUEST_ID;
use super::{Proxy, header_map, verdict_basis};

/// What is known of a request from its head. Written when dropped: at the end of the response's
/// body, for whatever reason it ended.
pub(crate) struct RequestLogGuard {
    logger: Option<Rc<AccessLogger>>,
    span: Option<OpenSpan>,
    time: SystemTime,
    start: Instant,
    /// The client's address; `None` on a Unix socket.
    address: Option<IpAddr>,
    method: Method,
    target: Uri,
    version: Version,
    host: Box<[u8]>,
    origin: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    route: Option<Box<str>>,
    decision: Option<(Kind, Result<(), Reason>)>,
    status: StatusCode,
    upstream: Option<Arc<Upstream>>,
    failed: Option<(Box<str>, UpstreamFailure)>,
    request_id: Option<HeaderValue>,
    trace_id: Option<TraceId>,
    bytes: u64,
    cut: Option<BodyCut>,
    verdict: Option<AnswerVerdict>,
    /// The method and headers that a preflight asks for.
    asked: Option<(HeaderValue, Option<HeaderValue>)>,
    tls: bool,
    live: Option<Rc<LiveWriter>>,
    /// What the console shows about the decision.
    live_note: Option<Box<LiveNote>>,
}

impl RequestLogGuard {
    pub(crate) fn new(
        proxy: &Proxy,
        span: Option<OpenSpan>,
        request: &request::Parts,
        client: Client,
    ) -> Box<Self> {
        let proxies = &proxy.snapshot().0.trusted_proxies;
        let address = client::address_behind(
            request.headers.field_values(&client::X_FORWARDED_FOR),
            client,
            proxies,
        );
        let field = |name: HeaderName| request.headers.get(name).cloned();
        Box::new(Self {
            logger: proxy.access_log.clone(),
            tls: client.tls,
            live: proxy.live.clone(),
            live_note: None,
            span,
            time: SystemTime::now(),
            start: Instant::now(),
            address,
            method: request.method.clone(),
            target: request.uri.clone(),
            version: request.version,
            host: header_map::authority(request)
                .ok()
                .flatten()
                .unwrap_or_default()
                .into(),
            origin: field(ORIGIN),
            referer: field(REFERER),
            user_agent: field(USER_AGENT),
            route: None,
            decision: None,
            status: client_left(),
            upstream: None,
            failed: None,
            request_id: None,
            trace_id: TraceParent::of(&request.headers).map(|parent| parent.trace_id),
            bytes: 0,
            cut: None,
            verdict: None,
            asked: verdict_basis::requested_permission(&request.method, &request.headers),
        })
    }

    pub(crate) fn set_route(&mut self, name: &str) {
        self.route = Some(name.into());
    }

    pub(crate) fn set_decision(&mut self, decision: &Decision<'_>) {
        self.decision = decision.outcome();
    }

    pub(crate) fn set_live_note(&mut self, note: Option<Box<LiveNote>>) {
        self.live_note = note;
    }

    pub(crate) fn set_verdict(&mut self, verdict: Option<AnswerVerdict>) {
        self.verdict = verdict;
    }

    pub(crate) fn set_failure(&mut self, error: &Error) {
        let failed = error.failed_upstream();
        self.failed = failed.map(|(upstream, failure)| (upstream.into(), failure));
    }

    /// Notes the response; `upstream` answered it, or `None`: the proxy itself.
    pub(crate) fn set_response<B>(
        &mut self,
        response: &Response<B>,
        upstream: Option<&Arc<Upstream>>,
    ) {
        self.status = response.status();
        self.upstream = upstream.cloned();
        if upstream.is_none() {
            self.request_id = response.headers().get(REQUEST_ID).cloned();
        }
    }

    pub(crate) fn set_cut(&mut self, cut: Option<BodyCut>) {
        self.cut = cut;
    }

    pub(crate) fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

/// The logged status if the client left before there was a response: nginx's 499.
pub(crate) fn client_left() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

impl Drop for RequestLogGuard {
    fn drop(&mut self) {
        let target = self.target.path_and_query();
        let id = self.request_id.as_ref().and_then(|id| id.to_str().ok());
        let failed = self.failed.as_ref();
        let record = Record {
            time: self.time,
            route: self.route.as_deref(),
            client: self.address,
            method: &self.method,
            host: &self.host,
            target: target.map_or("", |target| target.as_str()),
            version: self.version,
            status: self.status,
            bytes: self.bytes,
            cut: self.cut,
            duration: self.start.elapsed(),
            upstream: self.upstream.as_deref(),
            failed: failed.map(|(upstream, failure)| (&**upstream, *failure)),
            request_id: id.unwrap_or(""),
            trace_id: self.trace_id,
            origin: self.origin.as_ref().map(HeaderValue::as_bytes),
            decision: self.decision,
            verdict: self.verdict,
            tls: self.tls,
            asked: self
                .asked
                .as_ref()
                .map(|(method, headers)| RequestedPermission {
                    method: method.as_bytes(),
                    headers: headers.as_ref().map_or(b"", HeaderValue::as_bytes),
                }),
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
        };
        if let Some(live) = &self.live {
            live.write(&record, self.live_note.as_deref());
        }
        if let Some(logger) = &self.logger {
            logger.log(&record);
        }
        if let Some(span) = &self.span {
            span.end(&record);
        }
    }
}
