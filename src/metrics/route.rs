//! One route's counters.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{Method, StatusCode};

use crate::cors::fetch::AnswerVerdict;
use crate::cors::{Kind, Reason};

use super::cells::{Cells, Totals};
use super::counter::WeakCounter;
use super::denied_origins::DeniedOrigins;
use super::traffic::{RetryReason, Transfer};
use super::upstream_failure::UpstreamFailure;
use super::{Counter, Worker};

#[expect(
    clippy::disallowed_types,
    reason = "guards the list of patterns, used only to build a snapshot or to scrape"
)]
use std::sync::Mutex;

/// One route's counters.
///
/// Small until the route's first request: a config may have a hundred thousand routes, most of them
/// rarely used.
#[derive(Debug)]
pub struct RouteMetrics {
    name: Box<str>,
    workers: usize,
    /// Created at the first request. Each worker creates its own cells at its first request.
    cells: OnceLock<Box<[OnceLock<RouteCounts>]>>,
    denied: OnceLock<Box<DeniedOrigins>>,
    /// Keyed by the pattern's hash. Patterns with the same hash would share a counter: among a
    /// million patterns, that is expected once in 10⁷ processes.
    #[expect(clippy::disallowed_types, reason = "as above")]
    allowed: Mutex<HashMap<u64, WeakCounter>>,
    upstreams: ArcSwapOption<Vec<UpstreamHealth>>,
}

/// One worker's counts of one route. A clone has the same counts, for whatever outlives the request.
///
/// Only that worker writes to them, so that cores share no cache line.
#[derive(Clone, Debug, Default)]
pub struct RouteCounts(Arc<Cells>);

impl RouteCounts {
    /// Counts a response at its head, with the time since its request's head.
    pub fn request(&self, method: &Method, status: StatusCode, to_head: Duration) {
        self.0.request(method, status, to_head);
    }

    /// Counts a request without a complete response from its upstream.
    pub fn upstream_failure(&self, failure: UpstreamFailure) {
        self.0.failure(failure);
    }

    /// Counts the head of an upstream's response, with the time since the end of its request.
    pub fn first_byte(&self, waited: Duration) {
        self.0.first_byte(waited);
    }

    /// Counts bytes of bodies.
    pub fn bytes(&self, transfer: Transfer, bytes: u64) {
        if bytes > 0 {
            self.0.bytes(transfer, bytes);
        }
    }

    /// Counts another try.
    pub fn retry(&self, reason: RetryReason) {
        self.0.retry(reason);
    }

    /// A forwarded request has begun.
    pub fn begin(&self) {
        self.0.in_flight(1);
    }

    /// A request that [began](Self::begin) has ended, its response included.
    pub fn end(&self) {
        self.0.in_flight(-1);
    }
}

/// Counts a request as in flight for as long as it lives.
#[derive(Debug)]
pub struct RequestInFlight(RouteCounts);

impl RequestInFlight {
    /// A request has begun.
    #[must_use]
    pub fn new(counts: &RouteCounts) -> Self {
        counts.begin();
        Self(counts.clone())
    }

    /// What its route counts with.
    #[must_use]
    pub fn counts(&self) -> &RouteCounts {
        &self.0
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The health of one of a route's upstreams, for scrapes.
#[derive(Clone, Debug)]
pub struct UpstreamHealth {
    /// The `upstream` label.
    pub label: Box<str>,
    /// Bits for what is wrong with it, set by its health checks; 0: healthy.
    pub problems: Arc<AtomicU8>,
}

impl RouteMetrics {
    pub(super) fn new(name: &str, workers: usize) -> Self {
        Self {
            name: name.into(),
            workers,
            cells: OnceLock::new(),
            denied: OnceLock::new(),
            allowed: Default::default(),
            upstreams: ArcSwapOption::empty(),
        }
    }

    /// The value of the `route` label.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts a response when its head is ready, with the time since the request's head.
    pub fn request(&self, worker: Worker, method: &Method, status: StatusCode, to_head: Duration) {
        self.counts(worker).request(method, status, to_head);
    }

    /// Counts a decision; `Ok` means allowed.
    pub fn decision(&self, worker: Worker, kind: Kind, outcome: Result<(), Reason>) {
        self.counts(worker).0.decision(kind, outcome);
    }

    /// Counts what a browser will do with an answer.
    pub fn verdict(&self, worker: Worker, verdict: AnswerVerdict) {
        self.counts(worker).0.verdict(verdict);
    }

    /// Counts the origin of a refused request.
    pub fn denied_origin(&self, origin: &[u8]) {
        self.denied.get_or_init(Box::default).count(origin);
    }

    /// Counts a request without a complete response from its upstream.
    pub fn upstream_failure(&self, worker: Worker, failure: UpstreamFailure) {
        self.counts(worker).upstream_failure(failure);
    }

    /// Exports the health of these upstreams instead of those before.
    pub fn show_upstreams(&self, upstreams: Vec<UpstreamHealth>) {
        self.upstreams.store(Some(Arc::new(upstreams)));
    }

    /// The labels of the upstreams, and whether each is healthy.
    pub(super) fn upstreams(&self) -> Vec<(Box<str>, bool)> {
        let upstreams = self.upstreams.load();
        let upstreams = upstreams.iter().flat_map(|upstreams| upstreams.iter());
        upstreams
            .map(|one| (one.label.clone(), one.problems.load(Ordering::Relaxed) == 0))
            .collect()
    }

    /// The counter of requests that an `AllowedOrigin` pattern matched. The same pattern gets the
    /// same counter as long as something holds it.
    #[must_use]
    pub fn allowed_origin(&self, pattern: &str) -> Counter {
        // One key for the process: patterns come from the config, not from clients.
        static HASH: OnceLock<RandomState> = OnceLock::new();
        let hash = HASH.get_or_init(RandomState::new).hash_one(pattern);
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = allowed.get(&hash).and_then(WeakCounter::upgrade) {
            return counter;
        }
        let counter = Counter::labelled(self.workers, pattern);
        allowed.insert(hash, counter.downgrade());
        counter
    }

    /// The counters of patterns that matched at least once, ordered by pattern.
    pub(crate) fn allowed_counts(&self) -> Vec<(String, u64)> {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        // Drops counters of configurations that are gone.
        allowed.retain(|_, counter| counter.upgrade().is_some());
        let mut counts: Vec<_> = allowed
            .values()
            .filter_map(WeakCounter::upgrade)
            .map(|counter| (counter.label().to_owned(), counter.get()))
            .filter(|(_, count)| *count > 0)
            .collect();
        counts.sort();
        counts
    }

    /// The refused origins with their counts: the most frequent first, the rest as `other`. Empty
    /// until there is one.
    #[must_use]
    pub fn denied_origins(&self) -> Vec<(String, u64)> {
        self.denied
            .get()
            .map_or_else(Vec::new, |denied| denied.counts())
    }

    /// The sum over all workers, once anything was counted.
    pub(super) fn totals(&self) -> Option<Totals> {
        let mut totals = Totals::default();
        for cells in self.cells.get()?.iter().filter_map(OnceLock::get) {
            totals.add(&cells.0);
        }
        Some(totals)
    }

    /// The counts of a worker. Threads that are not workers use those of the first worker.
    #[must_use]
    pub fn counts(&self, worker: Worker) -> &RouteCounts {
        let make = || (0..self.workers.max(1)).map(|_| OnceLock::new()).collect();
        let workers = self.cells.get_or_init(make);
        let counts = workers.get(worker.0).or_else(|| workers.first());
        let counts = counts.expect("there is at least one worker");
        counts.get_or_init(RouteCounts::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_route_takes_little_memory() {
        assert!(
            size_of::<RouteMetrics>() <= 128,
            "{}",
            size_of::<RouteMetrics>()
        );
        let route = RouteMetrics::new("photos", 64);
        assert!(route.cells.get().is_none() && route.denied.get().is_none());
    }

    #[test]
    fn a_pattern_keeps_its_counter_while_a_snapshot_holds_it() {
        let route = RouteMetrics::new("photos", 2);
        let before = route.allowed_origin("https://*.example");
        before.inc(Worker(0));
        let after = route.allowed_origin("https://*.example");
        drop(before);
        after.inc(Worker(1));
        assert_eq!(
            route.allowed_counts(),
            [("https://*.example".to_owned(), 2)]
        );
        drop(after);
        assert_eq!(route.allowed_counts(), []);
        assert_eq!(route.allowed_origin("https://*.example").get(), 0);
    }
}
