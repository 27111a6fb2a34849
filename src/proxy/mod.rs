//! One request: which route, what decision, where to, and what comes back.
//!
//! It knows nothing of files, sockets and threads. May use `cors` and `metrics`.

pub mod access_log;
mod account;
mod answer;
mod bad_request;
mod balance;
pub mod body;
pub mod body_writer;
pub mod bucket;
mod bucket_cors;
mod certificate_verifier;
pub mod check;
mod claims;
pub mod client;
pub mod client_body;
mod connection_fields;
pub mod crypto;
mod deadline;
pub(crate) mod descriptors;
pub mod digest;
mod edge;
mod edits;
pub mod error;
pub mod escape;
pub mod explain;
mod failures;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod host;
mod http1_client;
pub mod http1_heads;
mod http2_body;
mod http2_client;
pub mod keep_alive;
mod lane;
mod lent_body;
mod lifetime;
pub mod listener_id;
mod logged;
mod pool;
mod refusal_text;
mod refusals;
pub mod request_body;
pub mod resolver;
mod retry;
mod scratch;
pub mod snapshot;
pub mod start_check;
mod stream;
mod target;
pub mod timestamp;
mod tls_advice;
pub mod trace_context;
pub mod traces;
mod tunnel;
pub mod unread_bodies;
pub mod upstream;
pub mod upstream_tls;
pub(crate) mod validity;
mod websocket;
pub mod wire;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::VARY;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, request};
use http_body::Body as _;

use crate::cors;
use crate::cors::Decision;
use crate::cors::Denial;
use crate::cors::Kind;
use crate::cors::ResourceType;
use crate::metrics::Metrics;
use crate::metrics::NO_ROUTE;
use crate::metrics::RouteMetrics;
use crate::metrics::Worker;

use access_log::AccessLogger;
use account::Asking;
use answer::RequestIds;
use body::Body;
use bucket::MatchedHost;
use edge::DateLine;
use error::{Blame, Error};
use host::Host;
use lane::Pipes;
use listener_id::ListenerId;
use logged::Logged;
use pool::Pool;
use refusals::Refusals;
use request_body::RequestBody;
use scratch::Slips;
use snapshot::{Current, Route, RoutePolicy, Scope, Snapshot};
use traces::Tracer;
use websocket::Handshake;
use wire::Fields as _;

pub use client::Client;
pub use deadline::Deadline;
pub use http2_client::LocalExecutor;
pub use lane::{ClientStream, Exchange, Look, Raw, Single, Went};
pub use scratch::Scratch;

/// How long a request's body is held for an upstream that never says `100 Continue`.
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// The size of a field section of HTTP/2 in bytes, as its limit counts it ([RFC 9113 §6.5.2]).
///
/// [RFC 9113 §6.5.2]: https://www.rfc-editor.org/rfc/rfc9113#section-6.5.2
#[must_use]
pub fn field_section_size(fields: &HeaderMap) -> usize {
    const FIELD_BYTES: usize = 32;
    fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES)
        .sum()
}

/// What is checked of a request's head before anything else.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// The target, in bytes.
    pub uri_bytes: usize,
    /// The fields, in bytes.
    pub head_bytes: usize,
    /// How many fields.
    pub header_count: usize,
}

/// Answers one worker's requests.
pub struct Proxy {
    worker: Worker,
    limits: HeadLimits,
    current: Arc<Current>,
    /// The snapshot in force when last looked.
    held: RefCell<Rc<Held>>,
    pool: Pool,
    /// The generation whose upstreams are checked.
    checked: Cell<u64>,
    ids: RequestIds,
    date: DateLine,
    scratch: RefCell<Scratch>,
    slips: Slips,
    pipes: Pipes,
    /// Counts what no route serves.
    unrouted: Arc<RouteMetrics>,
    refusals: Refusals,
    access_log: Option<Rc<AccessLogger>>,
    tracer: Option<Rc<Tracer>>,
}

impl Proxy {
    /// A proxy with no connections yet.
    #[must_use]
    pub fn new(
        worker: Worker,
        limits: HeadLimits,
        current: Arc<Current>,
        metrics: &Metrics,
        access_log: Option<AccessLogger>,
        tracer: Option<Tracer>,
    ) -> Self {
        Self {
            worker,
            limits,
            unrouted: metrics.route(NO_ROUTE),
            access_log: access_log.map(Rc::new),
            tracer: tracer.map(Rc::new),
            refusals: Refusals::default(),
            held: RefCell::new(Rc::new(Held(current.get()))),
            current,
            pool: Pool::new(metrics.workers()),
            checked: Cell::new(0),
            ids: RequestIds::new(),
            date: DateLine::default(),
            scratch: RefCell::default(),
            slips: Slips::default(),
            pipes: Pipes::default(),
        }
    }

    /// Answers a request, and has it logged and traced at the end of its response.
    pub async fn respond(&self, request: Request<RequestBody>, client: Client) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        if parts.version == Version::HTTP_2 {
            forward::join_cookies(&mut parts.headers);
        }
        let tracer = self.tracer.as_ref();
        let target = parts.uri.path_and_query();
        let target = target.map_or("", |target| target.as_str());
        let span = tracer.and_then(|tracer| tracer.begin(&parts.headers, target, client));
        if let Some(span) = &span {
            edits::insert_span(&mut parts.headers, span);
        }
        if self.access_log.is_none() && span.is_none() {
            return self.answer(parts, body, client, None).await;
        }
        let proxies = &self.snapshot().0.trusted_proxies;
        let address = client::address_behind(
            parts.headers.field_values(&client::X_FORWARDED_FOR),
            client,
            proxies,
        );
        let mut logged = Logged::new(self.access_log.clone(), span, &parts, address);
        let response = self.answer(parts, body, client, Some(&mut logged)).await;
        logged.end_with(response)
    }

    /// A request's whole way, top to bottom.
    async fn answer(
        &self,
        mut parts: request::Parts,
        body: RequestBody,
        client: Client,
        mut logged: Option<&mut Logged>,
    ) -> Response<Body> {
        let start = Instant::now();
        let snapshot = self.snapshot();
        let method = parts.method.clone();
        let found = self.route(&snapshot.0, &parts, client);
        let found = found.and_then(|found| Ok((found, websocket::asked_for(&parts)?)));
        let (found, handshake) = match found {
            Ok(found) => found,
            Err(error) => {
                let response = self.refuse_head(&error, &snapshot.0, &parts, client);
                self.count(&self.unrouted, &method, response.status(), start);
                return response;
            }
        };
        let route = found.route;
        if let Some(logged) = &mut logged {
            logged.set_route(&route.name);
        }
        if let Some(handshake) = &handshake {
            handshake.ask(&mut parts);
        }
        let Some(policy) = found.policy else {
            let response = self.forward(route, parts, body, client, handshake).await;
            if let (Some(logged), Err(error)) = (&mut logged, &response) {
                logged.set_failure(error);
            }
            let response = response.unwrap_or_else(|error| self.failure(route, &error, false));
            self.count(&route.metrics, &method, response.status(), start);
            return response;
        };

        let decision = policy.policy.decide(&parts.method, &parts.headers);
        if let Some(logged) = &mut logged {
            logged.set_decision(&decision);
        }
        let answered = match &decision {
            Decision::NotCors | Decision::Actual(_) if self.is_bucket_cors(&parts, &found) => {
                Some(self.refuse_bucket_cors(&method, &found))
            }
            Decision::NotCors => is_own_options(&parts).then(answer::own_options),
            Decision::Preflight(Ok(allowance)) => {
                self.count_allowed(&found, policy, Kind::Preflight, allowance.pattern());
                Some(answer::preflight())
            }
            Decision::Preflight(Err(denial)) => {
                let id = self.ids.next();
                let asking = Asking::of(Kind::Preflight, &parts, client);
                self.count_denied(&found, policy, denial, asking, id.as_str());
                Some(answer::denial(denial, found.resource, id))
            }
            Decision::Actual(Ok(allowance)) => {
                self.count_allowed(&found, policy, Kind::Actual, allowance.pattern());
                None
            }
            Decision::Actual(Err(denial)) => {
                let asking = Asking::of(Kind::Actual, &parts, client);
                self.count_denied(&found, policy, denial, asking, "");
                None
            }
        };
        let mut response = match answered {
            Some(response) => response,
            None => {
                let response = self.forward(route, parts, body, client, handshake).await;
                if let (Some(logged), Err(error)) = (&mut logged, &response) {
                    logged.set_failure(error);
                }
                response.unwrap_or_else(|error| self.failure(route, &error, true))
            }
        };
        if !response.body().is_tunnel() {
            policy.policy.mark(decision, response.headers_mut());
        }
        self.count(&route.metrics, &method, response.status(), start);
        response
    }

    /// Whether somebody is a listed proxy; `None` connects over a Unix socket.
    #[must_use]
    pub fn trusts(&self, address: Option<IpAddr>) -> bool {
        self.snapshot().0.trusted_proxies.contains(address)
    }

    /// What is to be done now and then, apart from any request: once a second.
    pub fn tick(&self) {
        self.pool.evict();
        self.pipes.shrink();
        self.pool.refresh_resolvers();
        self.check_upstreams();
        self.refusals.summarise(Instant::now());
        failures::summarise(Instant::now());
        bad_request::summarise(Instant::now());
        if let Some(log) = &self.access_log {
            log.flush();
        }
    }

    /// Has upstreams checked that a snapshot brought: one worker does it for all.
    fn check_upstreams(&self) {
        let snapshot = self.snapshot();
        let generation = snapshot.0.generation;
        if self.worker != Worker(0) || self.checked.replace(generation) == generation {
            return;
        }
        let routes = snapshot.0.routes.iter();
        routes
            .flat_map(|route| &route.upstreams)
            .for_each(check::start);
    }

    /// This worker's buffers, for as long as nobody waits.
    pub fn scratch(&self) -> std::cell::RefMut<'_, Scratch> {
        self.scratch.borrow_mut()
    }

    fn snapshot(&self) -> Rc<Held> {
        let mut held = self.held.borrow_mut();
        if !self.current.is(&held.0) {
            *held = Rc::new(Held(self.current.get()));
        }
        Rc::clone(&held)
    }

    fn route<'s>(
        &self,
        snapshot: &'s Snapshot,
        request: &request::Parts,
        client: Client,
    ) -> Result<FoundRoute<'s>, Error> {
        if request.version == Version::HTTP_2 {
            self.check_size(request)?;
            forward::check_http2(request)?;
        }
        forward::check_target(request)?;
        let authority = forward::authority(request)?;
        FoundRoute::find(snapshot, authority, request.uri.path(), client.listener)
    }

    /// Checks how long a head of HTTP/2 is.
    fn check_size(&self, request: &request::Parts) -> Result<(), Error> {
        let target = request.uri.path().len() + request.uri.query().map_or(0, str::len);
        if target > self.limits.uri_bytes {
            return Err(Error::UriTooLong);
        }
        let has_many = request.headers.len() > self.limits.header_count;
        match has_many || field_section_size(&request.headers) > self.limits.head_bytes {
            true => Err(Error::HeadTooLarge),
            false => Ok(()),
        }
    }

    /// The answer to a request that no route serves. A preflight gets S3's refusal; where the host
    /// has a policy, whom it allows can read why. Where no host can be made out, caches are told
    /// that the answer to others may be another one.
    fn refuse_head(
        &self,
        error: &Error,
        snapshot: &Snapshot,
        request: &request::Parts,
        client: Client,
    ) -> Response<Body> {
        let id = self.ids.next();
        tracing::debug!(%error, id = id.as_str(), "a request was refused");
        if matches!(error, Error::UnknownHost) {
            if cors::is_preflight(&request.method, &request.headers) {
                let denial = Denial::bucket_not_found();
                self.count_unrouted(&denial, request, client, id.as_str());
                return answer::denial(&denial, ResourceType::Bucket, id);
            }
            let asking = Asking::of(Kind::Actual, request, client);
            let now = Instant::now();
            self.refusals.log_unknown_host(asking, id.as_str(), now);
        }
        let authority = forward::authority(request).ok();
        let found = authority.and_then(|authority| {
            let path = request.uri.path();
            FoundRoute::find(snapshot, authority, path, client.listener).ok()
        });
        let policy = found.as_ref().and_then(|found| found.policy);
        let mut response = answer::failure(error, policy.is_some(), id);
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
        bucket_cors::is_asked_for(&request.method, target, &request.headers, found)
    }

    async fn forward(
        &self,
        route: &Route,
        mut parts: request::Parts,
        mut body: RequestBody,
        client: Client,
        handshake: Option<Handshake>,
    ) -> Result<Response<Body>, Error> {
        if !forward::may_go_on(&mut parts) {
            return match parts.method {
                Method::OPTIONS => Ok(answer::own_options()),
                _ => Err(Error::TraceEnds),
            };
        }
        if edits::has_looped(&parts.headers) {
            return Err(Error::Loop);
        }
        // If an upgrade is not possible, the upstream is not asked for it (RFC 9110 §7.8).
        let wants_upgrade = (handshake.is_some() || forward::wants_upgrade(&parts))
            && route.upstreams.iter().all(|one| one.may_upgrade());
        let expects_continue = forward::expects_continue(&parts);
        if !expects_continue || body.size_hint().exact() == Some(0) {
            let limit = route.upstreams.first();
            let limit = limit.map(|one| one.settings.timeouts.body_idle);
            settle(&mut body, limit.unwrap_or_default()).await?;
        }
        if parts.version == Version::HTTP_2 && body.is_empty() {
            forward::say_empty(&mut parts);
        }
        let proxies = &self.snapshot().0.trusted_proxies;
        forward::to_upstream(&mut parts, client, route.forwarding, proxies, wants_upgrade);
        parts.extensions.clear();
        if expects_continue && !body.is_empty() {
            body.hold(CONTINUE_PATIENCE);
        }
        // Boxed, as all that is rare: a request's future is moved about.
        let response = match (wants_upgrade, &handshake) {
            (false, None) => self.send(route, &parts, client, body).await?,
            (false, Some(_)) => Box::pin(self.send_extended_connect(route, &parts, client)).await?,
            (true, _) => Box::pin(self.send_upgrade(route, &parts, client, body)).await?,
        };
        let (mut parts, body) = response.into_parts();
        if let (Some(handshake), Some(upstream)) =
            (handshake.filter(|_| wants_upgrade), body.comes_from())
        {
            let answered = handshake.answer(&mut parts);
            answered.map_err(|what| Error::Unacceptable {
                upstream: upstream.to_string(),
                what: what.into(),
            })?;
        }
        if parts.status != StatusCode::SWITCHING_PROTOCOLS {
            forward::to_client(&mut parts, route.forwarding);
        }
        Ok(Response::from_parts(parts, body))
    }

    fn failure(&self, route: &Route, error: &Error, s3: bool) -> Response<Body> {
        let id = self.ids.next();
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let cause = cause.as_deref();
        match error.answer().blame {
            Blame::Client => {
                tracing::debug!(route = &*route.name, id = id.as_str(), %error, cause, "a request failed");
            }
            Blame::Upstream(failure) => {
                route.metrics.upstream_failure(self.worker, failure);
                failures::log(failure, || {
                    tracing::warn!(route = &*route.name, id = id.as_str(), %error, cause, "an upstream failed");
                });
            }
        }
        answer::failure(error, s3, id)
    }
}

/// A snapshot as one worker holds it: its requests count themselves in and out without atomics,
/// so that no two cores write to one counter.
struct Held(Arc<Snapshot>);

/// The route of a request, and what of it the request addresses.
struct FoundRoute<'s> {
    snapshot: &'s Snapshot,
    /// Which of the snapshot's routes it is.
    index: usize,
    route: &'s Route,
    /// `None`: the route is transparent.
    policy: Option<&'s RoutePolicy>,
    resource: ResourceType,
    scope: Scope,
}

impl<'s> FoundRoute<'s> {
    fn find(
        snapshot: &'s Snapshot,
        authority: &[u8],
        path: &str,
        listener: ListenerId,
    ) -> Result<Self, Error> {
        let host = Host::parse(authority).map_err(|_| Error::InvalidHost)?;
        let matched = snapshot.hosts.get(&host).ok_or(Error::UnknownHost)?;
        Self::at(snapshot, *matched.value, path, matched.host(), listener)
    }

    /// The route of a request that names no host (HTTP/1.0): the one that serves every host.
    fn of_no_host(snapshot: &'s Snapshot, path: &str, listener: ListenerId) -> Result<Self, Error> {
        let index = snapshot.hosts.catch_all().ok_or(Error::InvalidHost)?;
        let host = MatchedHost {
            below: None,
            is_canonical: true,
        };
        Self::at(snapshot, *index, path, host, listener)
    }

    fn at(
        snapshot: &'s Snapshot,
        index: usize,
        path: &str,
        host: MatchedHost<'_>,
        listener: ListenerId,
    ) -> Result<Self, Error> {
        let route = snapshot.routes.get(index).ok_or(Error::UnknownHost)?;
        if !route.is_bound_to(listener) {
            return Err(Error::UnknownHost);
        }
        let found = route.policies.find(path, host);
        Ok(Self {
            snapshot,
            index,
            route,
            policy: found.policy.map(|policy| &**policy),
            resource: found.resource,
            scope: found.scope,
        })
    }
}

async fn settle(body: &mut RequestBody, limit: Duration) -> Result<(), Error> {
    match tokio::time::timeout(limit, body.settle()).await {
        Ok(settled) => settled.map_err(|error| Error::RequestBody(io::Error::other(error))),
        Err(_) => Err(Error::RequestBodyTimeout),
    }
}

/// `OPTIONS *` asks about the proxy, not about a resource.
fn is_own_options(request: &request::Parts) -> bool {
    request.method == Method::OPTIONS && request.uri.path() == "*"
}
