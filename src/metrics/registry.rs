//! Every metric of the process: the handles that requests count with, and the values that scrapes
//! read.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::runtime::{Handle, RuntimeMetrics};

use super::Worker;
use super::bucket_cors::BucketCorsRequests;
use super::cells::CorsTotals;
use super::config::{ConfigMetrics, ConfigState, ReloadResult};
use super::counter::Counter;
use super::dropped_lines::DroppedLines;
use super::listener::ListenerMetrics;
use super::route::RouteMetrics;
use super::upstream::{UpstreamMetrics, Upstreams};

#[expect(
    clippy::disallowed_types,
    reason = "guards the lists of routes, listeners and certificates, used only by starts, reloads and scrapes"
)]
use std::sync::Mutex;

/// The `route` label of requests without a route: the host is unknown or the request is invalid.
/// Get a handle once from [`Metrics::route`] and keep it.
pub const NO_ROUTE: &str = "-";

/// The media type of [`Metrics::encode`].
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// Expiry times of certificates, by name.
pub type CertificateEnds = Vec<(Box<str>, SystemTime)>;

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    workers: usize,
    pub(super) started: SystemTime,
    #[expect(clippy::disallowed_types, reason = "as above")]
    routes: Mutex<HashMap<Box<str>, Weak<RouteMetrics>>>,
    pub(super) upstreams: Upstreams,
    /// Each worker's runtime, once it runs.
    runtimes: Box<[OnceLock<RuntimeMetrics>]>,
    #[expect(clippy::disallowed_types, reason = "as above")]
    pub(super) listeners: Mutex<Vec<(Box<str>, ListenerMetrics)>>,
    #[expect(clippy::disallowed_types, reason = "as above")]
    pub(super) certificates: Mutex<BTreeMap<Box<str>, CertificateEnds>>,
    #[expect(clippy::disallowed_types, reason = "as above")]
    bucket_cors: Mutex<BTreeMap<Box<str>, BucketCorsRequests>>,
    pub(super) config: ConfigMetrics,
    pub(super) ready: AtomicBool,
    pub(super) connections_limit: AtomicU64,
    pub(super) access_log_dropped: AtomicU64,
    pub(super) log_dropped: OnceLock<DroppedLines>,
    pub(super) trace_spans_dropped: AtomicU64,
    pub(super) live_dropped: Counter,
    pub(super) panics: AtomicU64,
}

impl Metrics {
    /// Metrics for a data plane of `workers` threads that starts with generation 1.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        let started = SystemTime::now();
        Arc::new(Self {
            workers,
            started,
            routes: Default::default(),
            upstreams: Upstreams::default(),
            runtimes: (0..workers).map(|_| OnceLock::new()).collect(),
            listeners: Default::default(),
            certificates: Default::default(),
            bucket_cors: Default::default(),
            config: ConfigMetrics::new(started),
            ready: AtomicBool::new(false),
            connections_limit: AtomicU64::new(0),
            access_log_dropped: AtomicU64::new(0),
            log_dropped: OnceLock::new(),
            trace_spans_dropped: AtomicU64::new(0),
            live_dropped: Counter::new(workers),
            panics: AtomicU64::new(0),
        })
    }

    /// The number of workers that count.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The counters of the route named `name`. Every call returns the same ones as long as
    /// something holds them, so that counts survive a reload.
    #[must_use]
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(name).and_then(Weak::upgrade) {
            return route;
        }
        if routes.len() == routes.capacity() {
            // Removed routes make room before the list grows.
            routes.retain(|_, route| route.strong_count() > 0);
        }
        let route = Arc::new(RouteMetrics::new(name, self.workers));
        routes.insert(name.into(), Arc::downgrade(&route));
        route
    }

    /// The counts of the upstream with the address `label`: the same ones for every caller while
    /// they are in use.
    #[must_use]
    pub fn upstream(&self, label: &str) -> Arc<UpstreamMetrics> {
        self.upstreams.get(label, self.workers)
    }

    /// Exports the busy time of a worker, as its runtime measures it.
    pub fn show_worker(&self, worker: Worker, runtime: &Handle) {
        if let Some(cell) = self.runtimes.get(worker.0) {
            let _ = cell.set(runtime.metrics());
        }
    }

    /// How long each worker was busy so far.
    pub(super) fn busy_times(&self) -> impl Iterator<Item = (usize, Duration)> {
        let runtimes = self.runtimes.iter().map(OnceLock::get).enumerate();
        // A worker's runtime has one thread.
        runtimes
            .filter_map(|(worker, runtime)| Some((worker, runtime?.worker_total_busy_duration(0))))
    }

    /// The counts of the listener named `name`. Every call returns the same ones.
    #[must_use]
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counts)) = listeners.iter().find(|(known, _)| **known == *name) {
            return counts.clone();
        }
        let counts = ListenerMetrics::new(self.workers);
        listeners.push((name.into(), counts.clone()));
        counts
    }

    /// Counters of requests for CORS configurations of a route's buckets. Every call returns the
    /// same ones as long as something holds them.
    #[must_use]
    pub fn bucket_cors_requests(&self, route: &str) -> BucketCorsRequests {
        let counts = self.bucket_cors.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        counts.entry(route.into()).or_default().clone()
    }

    /// Leaves out routes that a reload removed.
    pub(super) fn bucket_cors_counts(&self) -> BTreeMap<Box<str>, BucketCorsRequests> {
        let counts = self.bucket_cors.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, counts| counts.is_held());
        counts.clone()
    }

    /// Sets the expiry times of the certificates of the listener named `listener`.
    pub fn certificates(&self, listener: &str, ends: CertificateEnds) {
        let certificates = self.certificates.lock();
        let mut certificates = certificates.unwrap_or_else(PoisonError::into_inner);
        certificates.insert(listener.into(), ends);
    }

    /// Records a reload: its result and the generation in force.
    pub fn reloaded(&self, result: ReloadResult, generation: u64) {
        self.config.reloaded(result, generation);
    }

    /// Records how much of the config and its files is in force.
    pub fn config_state(&self, state: ConfigState) {
        self.config.set_state(state);
    }

    /// Sets whether requests are served, which they are not during start and drain.
    pub fn ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Sets the maximum number of connections over all listeners.
    pub fn connections_limit(&self, connections: usize) {
        self.connections_limit
            .store(connections as u64, Ordering::Relaxed);
    }

    /// Counts access log lines that could not be written.
    pub fn access_log_dropped(&self, lines: u64) {
        self.access_log_dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// Exports the process log's count of dropped lines. Only the first call has an effect.
    pub fn show_log_drops(&self, dropped: DroppedLines) {
        let _ = self.log_dropped.set(dropped);
    }

    /// Counts spans that could not be sent.
    pub fn trace_spans_dropped(&self, spans: u64) {
        self.trace_spans_dropped.fetch_add(spans, Ordering::Relaxed);
    }

    /// The counter of CORS console events that found the queue full.
    #[must_use]
    pub fn live_dropped_events(&self) -> Counter {
        self.live_dropped.clone()
    }

    /// When counting began.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// CORS counts over all routes.
    #[must_use]
    pub fn cors_totals(&self) -> CorsTotals {
        let mut all = CorsTotals::default();
        for totals in self.routes().iter().filter_map(|route| route.totals()) {
            totals.add_to(&mut all);
        }
        all
    }

    /// Counts a connection lost to a panic.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Every route that something holds, by name.
    pub(crate) fn routes(&self) -> Vec<Arc<RouteMetrics>> {
        let mut routes: Vec<_> = self
            .routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        routes.sort_by(|a, b| a.name().cmp(b.name()));
        routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{NoRoom, Worker};

    #[test]
    fn a_route_keeps_its_counters_while_a_snapshot_holds_them() {
        let metrics = Metrics::new(2);
        let before = metrics.route("photos");
        let after = metrics.route("photos");
        assert!(Arc::ptr_eq(&before, &after));
        drop((before, after));
        assert!(metrics.routes().is_empty());
    }

    #[test]
    fn removed_routes_are_forgotten() {
        let metrics = Metrics::new(1);
        for number in 0..10_000 {
            let _gone = metrics.route(&number.to_string());
        }
        let routes = metrics.routes.lock().unwrap();
        assert!(routes.capacity() < 100, "{}", routes.capacity());
    }

    #[test]
    fn a_listener_has_one_set_of_counts() {
        let metrics = Metrics::new(2);
        for worker in [Worker(0), Worker(1)] {
            metrics.listener("http").opened(worker);
            let reason = NoRoom::ConnectionsPerClient;
            metrics.listener("http").refused(worker, reason);
        }
        let counts = metrics.listener("http");
        assert_eq!(counts.connections(), 2);
        let refusals: Vec<_> = counts.refusals().collect();
        assert_eq!(
            refusals,
            [("connections", 0), ("connections_per_client", 2)]
        );
    }
}
