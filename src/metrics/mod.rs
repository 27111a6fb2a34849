//! Every metric, one list; and the handles that requests count with.
//!
//! Handles are looked up when a snapshot is built, never by a request. Each worker counts in a
//! cell of its own, so that no two cores write to one cache line; a scrape adds the cells up.

mod counter;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::cors::Kind;
use crate::cors::Reason;

pub use counter::{Counter, Gauge};

/// Which worker counts: 0 to the number of workers, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker(pub usize);

/// Why a request got no whole response from its upstream: the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamFailure {
    /// The name could not be looked up.
    Dns,
    /// No connection in time.
    ConnectTimeout,
    /// The connection was refused or failed.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// No response head in time.
    ResponseHeadTimeout,
    /// The connection closed before a response.
    Closed,
    /// What came back is no HTTP response.
    InvalidResponse,
    /// The response's body ended before its end, or stopped coming.
    Body,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    workers: usize,
}

impl Metrics {
    /// Metrics for a data plane of `workers` threads.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self { workers })
    }

    /// How many connections the listener named `name` holds.
    #[must_use]
    pub fn listener(&self, name: &str) -> Gauge {
        let _ = name;
        Gauge::new(self.workers)
    }

    /// The counters of the route named `name`; the same ones at each call, so that a reload
    /// goes on counting.
    #[must_use]
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let _ = name;
        Arc::new(RouteMetrics {
            workers: self.workers,
        })
    }
}

/// One route's counters.
#[derive(Debug)]
pub struct RouteMetrics {
    workers: usize,
}

impl RouteMetrics {
    /// Counts a response at its head, with the time since its request's head.
    pub fn request(&self, worker: Worker, method: &Method, status: StatusCode, to_head: Duration) {
        let _ = (worker, method, status, to_head);
    }

    /// Counts a decision; `Ok` is an allowance.
    pub fn decision(&self, worker: Worker, kind: Kind, outcome: Result<(), Reason>) {
        let _ = (worker, kind, outcome);
    }

    /// Counts a refused request's origin among the heaviest.
    pub fn denied_origin(&self, origin: &[u8]) {
        let _ = origin;
    }

    /// Counts a request that got no whole response from its upstream.
    pub fn upstream_failure(&self, worker: Worker, failure: UpstreamFailure) {
        let _ = (worker, failure);
    }

    /// The counter of requests that an `AllowedOrigin` pattern matched; the same one for the
    /// same text.
    #[must_use]
    pub fn allowed_origin(&self, pattern: &str) -> Counter {
        let _ = pattern;
        Counter::new(self.workers)
    }
}
