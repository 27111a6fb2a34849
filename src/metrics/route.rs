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
use super::upstream_failure::UpstreamFailure;
use super::{Counter, Worker};

#[expect(
    clippy::disallowed_types,
    reason = "guards the list of patterns, asked for when a snapshot is built or scraped"
)]
use std::sync::Mutex;

/// One route's counters.
///
/// Small until the route's first request: a config may have a hundred thousand routes, most of
/// them seldom asked for.
#[derive(Debug)]
pub struct RouteMetrics {
    name: Box<str>,
    workers: usize,
    /// Made at the first request; each worker's cells at that worker's first request, by itself.
    cells: OnceLock<Box<[OnceLock<Arc<Cells>>]>>,
    denied: OnceLock<Box<DeniedOrigins>>,
    /// By the hash of the pattern: two that share one would share a counter, which among a
    /// million patterns is to be expected once in 10⁷ processes.
    #[expect(clippy::disallowed_types, reason = "as above")]
    allowed: Mutex<HashMap<u64, WeakCounter>>,
    upstreams: ArcSwapOption<Vec<UpstreamHealth>>,
}

/// Counts one worker's upstream failures of a route.
///
/// Of that worker's cells, so that no two cores count who holds it.
#[derive(Debug)]
pub struct UpstreamFailures(Option<Arc<Cells>>);

impl UpstreamFailures {
    /// Counts a request that got no whole response from its upstream.
    pub fn count(&self, failure: UpstreamFailure) {
        if let Some(cells) = &self.0 {
            cells.failure(failure);
        }
    }
}

/// One of a route's upstreams, as a scrape shows it.
#[derive(Clone, Debug)]
pub struct UpstreamHealth {
    /// The `upstream` label.
    pub label: Box<str>,
    /// What it suffers from, kept by whoever finds out; 0: nothing.
    pub ills: Arc<AtomicU8>,
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

    /// Counts a response at its head, with the time since its request's head.
    pub fn request(&self, worker: Worker, method: &Method, status: StatusCode, to_head: Duration) {
        if let Some(cells) = self.cells(worker) {
            cells.request(method, status, to_head);
        }
    }

    /// Counts a decision; `Ok` is an allowance.
    pub fn decision(&self, worker: Worker, kind: Kind, outcome: Result<(), Reason>) {
        if let Some(cells) = self.cells(worker) {
            cells.decision(kind, outcome);
        }
    }

    /// Counts what a browser will make of an answer.
    pub fn verdict(&self, worker: Worker, verdict: AnswerVerdict) {
        if let Some(cells) = self.cells(worker) {
            cells.verdict(verdict);
        }
    }

    /// Counts a refused request's origin among the heaviest.
    pub fn denied_origin(&self, origin: &[u8]) {
        self.denied.get_or_init(Box::default).count(origin);
    }

    /// Counts a request that got no whole response from its upstream.
    pub fn upstream_failure(&self, worker: Worker, failure: UpstreamFailure) {
        if let Some(cells) = self.cells(worker) {
            cells.failure(failure);
        }
    }

    /// Shows these upstreams' health; replaces what was shown before.
    pub fn show_upstreams(&self, upstreams: Vec<UpstreamHealth>) {
        self.upstreams.store(Some(Arc::new(upstreams)));
    }

    /// The labels of the upstreams, and whether each fares well.
    pub(super) fn upstreams(&self) -> Vec<(Box<str>, bool)> {
        let upstreams = self.upstreams.load();
        let upstreams = upstreams.iter().flat_map(|upstreams| upstreams.iter());
        upstreams
            .map(|one| (one.label.clone(), one.ills.load(Ordering::Relaxed) == 0))
            .collect()
    }

    /// What counts a worker's failures after a response's head, for whoever outlives the request.
    #[must_use]
    pub fn upstream_failures(&self, worker: Worker) -> UpstreamFailures {
        UpstreamFailures(self.cells(worker).map(Arc::clone))
    }

    /// The counter of requests that an `AllowedOrigin` pattern matched; the same one for the
    /// same text, as long as somebody holds it.
    #[must_use]
    pub fn allowed_origin(&self, pattern: &str) -> Counter {
        // One key for all: the patterns come from the config.
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

    /// The counters of the patterns that matched something, in the patterns' order.
    pub(crate) fn allowed_counts(&self) -> Vec<(String, u64)> {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of configurations that are gone.
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

    /// The refused origins with their counts, the heaviest first, the rest as `other`; empty until
    /// there is one.
    #[must_use]
    pub fn denied_origins(&self) -> Vec<(String, u64)> {
        self.denied
            .get()
            .map_or_else(Vec::new, |denied| denied.counts())
    }

    /// All workers' counts, once there is something to count.
    pub(super) fn totals(&self) -> Option<Totals> {
        let mut totals = Totals::default();
        for cells in self.cells.get()?.iter().filter_map(OnceLock::get) {
            totals.add(cells);
        }
        Some(totals)
    }

    fn cells(&self, worker: Worker) -> Option<&Arc<Cells>> {
        let make = || (0..self.workers.max(1)).map(|_| OnceLock::new()).collect();
        let workers = self.cells.get_or_init(make);
        // Who is no worker counts in the first one's.
        let cells = workers.get(worker.0).or_else(|| workers.first())?;
        Some(cells.get_or_init(Arc::default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_route_is_small() {
        assert!(
            size_of::<RouteMetrics>() <= 128,
            "{}",
            size_of::<RouteMetrics>()
        );
        let route = RouteMetrics::new("photos", 64);
        assert!(route.cells.get().is_none() && route.denied.get().is_none());
    }

    #[test]
    fn a_pattern_has_one_counter_as_long_as_a_snapshot_holds_it() {
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
