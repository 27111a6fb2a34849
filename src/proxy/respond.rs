//! Answers a request with a header map, from its route to its response.

use std::io;
use std::time::{Duration, Instant};

use http::header::{MAX_FORWARDS, ORIGIN, VARY};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, request};
use http_body::Body as _;

use crate::cors;
use crate::cors::{Decision, Denial, Kind, REASON_FIELD, ResourceType};
use crate::http1::request_rules::{
    CONTINUE_PATIENCE, expects_continue, max_forwards, requests_upgrade,
};
use crate::metrics::{RequestInFlight, RouteMetrics};
use crate::routing::client::Client;
use crate::routing::snapshot::{Route, Snapshot};
use crate::telemetry::upstream_log;
use crate::upstream::error::{Blame, Error};
use crate::upstream::request_body::RequestBody;

use super::counting::denied_request_of;
use super::log_guard::RequestLogGuard;
use super::response_body::Body;
use super::state::{FoundRoute, Proxy};
use super::verdict::JudgedRequest;
use super::websocket::WebSocketHandshake;
use super::{bucket_cors, header_map, own_response, request_edit, websocket};

impl Proxy {
    /// Answers a request; it is logged and traced at the end of its response.
    pub async fn respond(&self, request: Request<RequestBody>, client: Client) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        if parts.version == Version::HTTP_2 {
            header_map::join_cookies(&mut parts.headers);
        }
        let tracer = self.tracer.as_ref();
        let target = parts.uri.path_and_query();
        let target = target.map_or("", |target| target.as_str());
        let span = tracer.and_then(|tracer| tracer.begin(&parts.headers, target, client));
        if let Some(span) = &span {
            request_edit::insert_span(&mut parts.headers, span);
        }
        let live = self.live.as_ref();
        let is_shown = || {
            parts.headers.contains_key(ORIGIN)
                && live.is_some_and(|live| live.has_room_for_others())
        };
        let is_logged = self.access_log.is_some() || span.is_some() || is_shown();
        let mut logged = is_logged.then(|| RequestLogGuard::new(self, span, &parts, client));
        let response = self.answer(parts, body, client, &mut logged).await;
        let Some(mut logged) = logged else {
            return response;
        };
        logged.set_response(&response, response.body().upstream());
        response.map(|body| body.logged(logged))
    }

    /// Handles a request from beginning to end.
    async fn answer(
        &self,
        mut parts: request::Parts,
        mut body: RequestBody,
        client: Client,
        logged: &mut Option<Box<RequestLogGuard>>,
    ) -> Response<Body> {
        let start = Instant::now();
        let judged = JudgedRequest::of(&parts);
        let snapshot = self.snapshot();
        let method = parts.method.clone();
        let found = self.route(&snapshot.0, &parts, client);
        let found = found.and_then(|found| Ok((found, websocket::requested(&parts)?)));
        let (found, handshake) = match found {
            Ok(found) => found,
            Err(error) => {
                let response = self.refuse_head(&error, &snapshot.0, &parts, client);
                self.count(&self.unrouted, &method, response.status(), start);
                self.keep_for_console((judged.is_some(), true), &parts, client, logged);
                self.judge(
                    judged.as_ref(),
                    &response,
                    &self.unrouted,
                    logged.as_deref_mut(),
                );
                let request = RequestInFlight::new(self.unrouted.counts(self.worker));
                return response.map(|body| body.counted(request));
            }
        };
        let route = found.route;
        let request = RequestInFlight::new(route.metrics.counts(self.worker));
        body.count_with(request.counts());
        if let Some(handshake) = &handshake {
            handshake.convert_request(&mut parts);
        }
        let Some(policy) = found.policy else {
            self.keep_for_console((judged.is_some(), true), &parts, client, logged);
            if let Some(logged) = logged {
                logged.set_route(&route.name);
            }
            let response = self.forward(route, parts, body, client, handshake).await;
            if let (Some(logged), Err(error)) = (&mut *logged, &response) {
                logged.set_failure(error);
            }
            let response = response.unwrap_or_else(|error| self.failure(route, &error, false));
            self.count(&route.metrics, &method, response.status(), start);
            self.judge(
                judged.as_ref(),
                &response,
                &route.metrics,
                logged.as_deref_mut(),
            );
            return response.map(|body| body.counted(request));
        };

        let decision = policy.policy.decide(&parts.method, &parts.headers);
        let kinds = (decision.outcome().is_some(), decision.denial().is_some());
        self.keep_for_console(kinds, &parts, client, logged);
        if let Some(logged) = logged {
            logged.set_route(&route.name);
            logged.set_decision(&decision);
        }
        let named = || {
            let authority = header_map::authority(&parts).ok().flatten();
            (authority.unwrap_or_default(), parts.uri.path())
        };
        let (mut reason, mut live) = (None, None);
        let is_preflight = matches!(decision, Decision::Preflight(_));
        let is_bucket_cors = !is_preflight && self.is_bucket_cors(&parts, &found);
        let answered = match &decision {
            Decision::NotCors => is_own_options(&parts).then(own_response::own_options),
            Decision::Preflight(Ok(allowance)) => {
                self.count_allowed(&found, policy, Kind::Preflight, allowance.pattern());
                live = self.note_allowed(&found, policy, allowance.pattern(), named);
                Some(own_response::preflight())
            }
            Decision::Preflight(Err(denial)) => {
                let id = self.ids.next();
                let denied = denied_request_of(Kind::Preflight, &parts, client);
                let notes = self.count_denied(&found, policy, denial, denied, id.as_str());
                (reason, live) = (notes.reason, notes.live);
                Some(own_response::denial(denial, found.resource, id))
            }
            Decision::Actual(Ok(allowance)) => {
                self.count_allowed(&found, policy, Kind::Actual, allowance.pattern());
                live = self.note_allowed(&found, policy, allowance.pattern(), named);
                None
            }
            Decision::Actual(Err(denial)) => {
                let denied = denied_request_of(Kind::Actual, &parts, client);
                let notes = self.count_denied(&found, policy, denial, denied, "");
                (reason, live) = (notes.reason, notes.live);
                None
            }
        };
        if let Some(logged) = logged {
            logged.set_live_note(live);
        }
        let mut response = match answered {
            Some(response) => response,
            // Boxed, like everything rare, because a request's future is moved.
            None if is_bucket_cors => {
                Box::pin(self.answer_bucket_cors(&found, &parts, body, client)).await
            }
            None => {
                let response = self.forward(route, parts, body, client, handshake).await;
                if let (Some(logged), Err(error)) = (&mut *logged, &response) {
                    logged.set_failure(error);
                }
                response.unwrap_or_else(|error| self.failure(route, &error, true))
            }
        };
        if !response.body().is_tunnel() {
            policy.policy.mark(decision, response.headers_mut());
            if let Some(reason) = reason {
                let name = HeaderName::from_static(REASON_FIELD);
                response.headers_mut().insert(name, reason);
            }
        }
        self.count(&route.metrics, &method, response.status(), start);
        self.judge(
            judged.as_ref(),
            &response,
            &route.metrics,
            logged.as_deref_mut(),
        );
        response.map(|body| body.counted(request))
    }

    /// Records a CORS request that may turn out to be refused, if only the console needs it.
    fn keep_for_console(
        &self,
        (is_cors, may_be_refused): (bool, bool),
        request: &request::Parts,
        client: Client,
        logged: &mut Option<Box<RequestLogGuard>>,
    ) {
        let Some(live) = self.live.as_ref().filter(|_| is_cors && logged.is_none()) else {
            return;
        };
        if may_be_refused && live.has_room() {
            *logged = Some(RequestLogGuard::new(self, None, request, client));
        } else if may_be_refused || live.is_watched() {
            live.drop_event();
        }
    }

    /// Counts and notes what browsers will do with a response.
    fn judge(
        &self,
        request: Option<&JudgedRequest>,
        response: &Response<Body>,
        metrics: &RouteMetrics,
        logged: Option<&mut RequestLogGuard>,
    ) {
        let verdict = request.and_then(|request| request.judge(response));
        self.count_verdict(metrics, verdict);
        if let Some(logged) = logged {
            logged.set_verdict(verdict);
        }
    }

    fn route<'s>(
        &self,
        snapshot: &'s Snapshot,
        request: &request::Parts,
        client: Client,
    ) -> Result<FoundRoute<'s>, Error> {
        if request.version == Version::HTTP_2 {
            self.check_size(request)?;
            header_map::check_http2(request)?;
        }
        header_map::check_target(request)?;
        let authority = header_map::authority(request)?;
        FoundRoute::find(snapshot, authority, request.uri.path(), client.listener)
    }

    /// Checks the size of an HTTP/2 head.
    fn check_size(&self, request: &request::Parts) -> Result<(), Error> {
        let target = request.uri.path().len() + request.uri.query().map_or(0, str::len);
        if target > self.limits.uri_bytes {
            return Err(Error::UriTooLong);
        }
        let has_many = request.headers.len() > self.limits.header_count;
        match has_many || header_map::field_section_size(&request.headers) > self.limits.head_bytes
        {
            true => Err(Error::HeadTooLarge),
            false => Ok(()),
        }
    }

    /// Answers a request that no route serves. A preflight gets S3's refusal. If the host has a
    /// policy, allowed pages can read the reason. If the host is unknown, `Vary` keeps caches from
    /// reusing the response.
    pub(crate) fn refuse_head(
        &self,
        error: &Error,
        snapshot: &Snapshot,
        request: &request::Parts,
        client: Client,
    ) -> Response<Body> {
        let id = self.ids.next();
        tracing::debug!(%error, id = id.as_str(), "request refused");
        if matches!(error, Error::UnknownHost) {
            if cors::is_preflight(&request.method, &request.headers) {
                let denial = Denial::bucket_not_found();
                self.count_unrouted(&denial, request, client, id.as_str());
                return own_response::denial(&denial, ResourceType::Bucket, id);
            }
            let denied = denied_request_of(Kind::Actual, request, client);
            let now = Instant::now();
            self.denial_log.log_unknown_host(denied, id.as_str(), now);
        }
        let authority = header_map::authority(request).ok();
        let found = authority.and_then(|authority| {
            let path = request.uri.path();
            FoundRoute::find(snapshot, authority, path, client.listener).ok()
        });
        let policy = found.as_ref().and_then(|found| found.policy);
        let mut response = own_response::failure(error, policy.is_some(), id);
        if found.is_none() {
            let by_origin = HeaderValue::from_static("Origin");
            response.headers_mut().insert(VARY, by_origin);
        }
        let Some(policy) = policy else {
            return response;
        };
        let decision = policy.policy.decide(&request.method, &request.headers);
        policy.policy.mark(decision, response.headers_mut());
        response
    }

    fn is_bucket_cors(&self, request: &request::Parts, found: &FoundRoute<'_>) -> bool {
        let target = request.uri.path_and_query();
        let target = target.map_or("", |target| target.as_str());
        bucket_cors::is_requested(&request.method, target, &request.headers, found)
    }

    async fn forward(
        &self,
        route: &Route,
        mut parts: request::Parts,
        mut body: RequestBody,
        client: Client,
        handshake: Option<WebSocketHandshake>,
    ) -> Result<Response<Body>, Error> {
        match max_forwards(&parts.method, &parts.headers) {
            None => {}
            Some(0) if parts.method == Method::OPTIONS => return Ok(own_response::own_options()),
            Some(0) => return Err(Error::TraceEnds),
            Some(hops) => drop(parts.headers.insert(MAX_FORWARDS, (hops - 1).into())),
        }
        if request_edit::has_looped(&parts.headers) {
            return Err(Error::Loop);
        }
        // If an upgrade is not possible, the upstream is not asked for it (RFC 9110 §7.8).
        let wants_upgrade = (handshake.is_some()
            || requests_upgrade(parts.version, &parts.headers))
            && route.upstreams.iter().all(|one| one.may_upgrade());
        let expects_continue = expects_continue(parts.version, &parts.headers);
        if !expects_continue || body.size_hint().exact() == Some(0) {
            let limit = route.upstreams.first();
            let limit = limit.map(|one| one.settings.timeouts.body_idle);
            settle(&mut body, limit.unwrap_or_default()).await?;
        }
        if parts.version == Version::HTTP_2 && body.is_empty() {
            header_map::add_empty_length(&mut parts);
        }
        let proxies = &self.snapshot().0.trusted_proxies;
        header_map::to_upstream(&mut parts, client, route.forwarding, proxies, wants_upgrade);
        parts.extensions.clear();
        if expects_continue && !body.is_empty() {
            body.hold(CONTINUE_PATIENCE);
        }
        // Boxed, like everything rare, because a request's future is moved.
        let response = match (wants_upgrade, &handshake) {
            (false, None) => self.send(route, &parts, client, body).await?,
            (false, Some(_)) => Box::pin(self.send_extended_connect(route, &parts, client)).await?,
            (true, _) => Box::pin(self.send_upgrade(route, &parts, client, body)).await?,
        };
        let (mut parts, body) = response.into_parts();
        if let (Some(handshake), Some(upstream)) =
            (handshake.filter(|_| wants_upgrade), body.upstream())
        {
            let answered = handshake.answer(&mut parts);
            answered.map_err(|what| Error::Unacceptable {
                upstream: upstream.to_string(),
                what: what.into(),
            })?;
        }
        if parts.status != StatusCode::SWITCHING_PROTOCOLS {
            header_map::to_client(&mut parts, route.forwarding);
        }
        Ok(Response::from_parts(parts, body))
    }

    pub(crate) fn failure(&self, route: &Route, error: &Error, s3: bool) -> Response<Body> {
        let id = self.ids.next();
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let cause = cause.as_deref();
        match error.answer().blame {
            Blame::Client => {
                tracing::debug!(route = &*route.name, id = id.as_str(), %error, cause, "request failed");
            }
            Blame::Upstream(failure) => {
                route.metrics.upstream_failure(self.worker, failure);
                upstream_log::log(failure, || {
                    tracing::warn!(route = &*route.name, id = id.as_str(), %error, cause, "upstream failed");
                });
            }
        }
        own_response::failure(error, s3, id)
    }
}

async fn settle(body: &mut RequestBody, limit: Duration) -> Result<(), Error> {
    match tokio::time::timeout(limit, body.settle()).await {
        Ok(settled) => settled.map_err(|error| Error::RequestBody(io::Error::other(error))),
        Err(_) => Err(Error::RequestBodyTimeout),
    }
}

/// `OPTIONS *` addresses the proxy, not a resource.
fn is_own_options(request: &request::Parts) -> bool {
    request.method == Method::OPTIONS && request.uri.path() == "*"
}
