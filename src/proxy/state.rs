//! What all requests of one worker share, and how a request finds its route.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;

use crate::cors::ResourceType;
use crate::http1::buffers::{BufferPool, Scratch};
use crate::http1::request_head::HeadLimits;
use crate::metrics::{Metrics, NO_ROUTE, RouteMetrics, Worker};
use crate::net::listener_id::ListenerId;
use crate::net::splice::Pipes;
use crate::routing::bucket::MatchedHost;
use crate::routing::host::Host;
use crate::routing::snapshot::{Current, Route, RoutePolicy, Scope, Snapshot};
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::denial_log::DenialLog;
use crate::telemetry::live::{LiveFeed, LiveWriter};
use crate::telemetry::traces::Tracer;
use crate::upstream::error::Error;
use crate::upstream::pool::Pool;

use super::date_line::DateLine;
use super::request_id::RequestIds;
use super::untaken::UntakenBudget;

/// Answers one worker's requests.
pub struct Proxy {
    pub(crate) worker: Worker,
    pub(crate) limits: HeadLimits,
    pub(crate) current: Arc<Current>,
    /// The snapshot in force when it was last checked.
    pub(crate) held: RefCell<Rc<HeldSnapshot>>,
    pub(crate) pool: Pool,
    /// The generation whose upstreams are being checked.
    pub(crate) checked: Cell<u64>,
    pub(crate) ids: RequestIds,
    pub(crate) date: DateLine,
    pub(crate) scratch: RefCell<Scratch>,
    pub(crate) buffers: BufferPool,
    pub(crate) pipes: Pipes,
    pub(crate) untaken: UntakenBudget,
    /// Counts requests without a route.
    pub(crate) unrouted: Arc<RouteMetrics>,
    pub(crate) denial_log: DenialLog,
    pub(crate) access_log: Option<Rc<AccessLogger>>,
    pub(crate) tracer: Option<Rc<Tracer>>,
    /// `None`: there is no console.
    pub(crate) live: Option<Rc<LiveWriter>>,
}

impl Proxy {
    /// A proxy without connections.
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
            live: None,
            denial_log: DenialLog::default(),
            held: RefCell::new(Rc::new(HeldSnapshot(current.get()))),
            current,
            pool: Pool::new(worker, metrics.workers()),
            checked: Cell::new(0),
            ids: RequestIds::new(),
            date: DateLine::default(),
            scratch: RefCell::default(),
            buffers: BufferPool::default(),
            pipes: Pipes::default(),
            untaken: UntakenBudget::default(),
        }
    }

    /// Makes the console show the proxy's CORS requests.
    #[must_use]
    pub fn with_live(mut self, feed: Option<&LiveFeed>) -> Self {
        self.live = feed.map(|feed| Rc::new(feed.writer(self.worker)));
        self
    }

    /// The value of `Date` for a response that has none.
    pub fn date(&self, now: Instant) -> HeaderValue {
        self.date.value(now)
    }

    /// Whether an address is a trusted proxy's; `None`: a peer on a Unix socket.
    #[must_use]
    pub fn trusts(&self, address: Option<IpAddr>) -> bool {
        self.snapshot().0.trusted_proxies.contains(address)
    }

    /// Borrows this worker's buffers; the borrow must not outlive a wait.
    pub fn scratch(&self) -> std::cell::RefMut<'_, Scratch> {
        self.scratch.borrow_mut()
    }

    pub(crate) fn snapshot(&self) -> Rc<HeldSnapshot> {
        let mut held = self.held.borrow_mut();
        if !self.current.is(&held.0) {
            *held = Rc::new(HeldSnapshot(self.current.get()));
        }
        Rc::clone(&held)
    }
}

/// A worker's own handle to a snapshot. Its requests hold the handle with a plain counter, not an
/// atomic one, so that no two cores write to the same counter.
pub(crate) struct HeldSnapshot(pub(crate) Arc<Snapshot>);

/// The route of a request, and what the request addresses on it.
pub(crate) struct FoundRoute<'s> {
    pub(crate) snapshot: &'s Snapshot,
    /// The route's index in the snapshot.
    pub(crate) index: usize,
    pub(crate) route: &'s Route,
    /// `None`: the route is transparent.
    pub(crate) policy: Option<&'s RoutePolicy>,
    pub(crate) resource: ResourceType,
    pub(crate) scope: Scope,
    /// Whether a wildcard of the route matched the host, which may then name a bucket.
    pub(crate) is_below: bool,
}

impl<'s> FoundRoute<'s> {
    /// Finds the route of a request. Without a host (HTTP/1.0), it is the route that serves every
    /// host.
    pub(crate) fn find(
        snapshot: &'s Snapshot,
        authority: Option<&[u8]>,
        path: &str,
        listener: ListenerId,
    ) -> Result<Self, Error> {
        let Some(authority) = authority else {
            let index = snapshot.hosts.catch_all().ok_or(Error::InvalidHost)?;
            let host = MatchedHost {
                below: None,
                is_canonical: true,
            };
            return Self::at(snapshot, *index, path, host, listener);
        };
        let host = Host::parse(authority).map_err(|_| Error::InvalidHost)?;
        let matched = snapshot.hosts.get(&host).ok_or(Error::UnknownHost)?;
        Self::at(snapshot, *matched.value, path, matched.host(), listener)
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
            is_below: host.below.is_some(),
        })
    }
}
