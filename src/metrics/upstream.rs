//! Counts of an upstream's connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::Duration;

#[expect(
    clippy::disallowed_types,
    reason = "guards the list of upstreams, asked for when a snapshot is built or scraped"
)]
use std::sync::Mutex;

use super::Worker;
use super::family::Family;
use super::histogram::{Histogram, HistogramTotals};

/// The upstreams by address. An entry is removed when nothing uses it any more.
#[derive(Debug, Default)]
#[expect(clippy::disallowed_types, reason = "as above")]
pub(super) struct Upstreams(Mutex<HashMap<Box<str>, Weak<UpstreamMetrics>>>);

impl Upstreams {
    /// The counts of the upstream with this address: the same ones for every caller while they are
    /// in use.
    pub(super) fn get(&self, label: &str, workers: usize) -> Arc<UpstreamMetrics> {
        let mut upstreams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(upstream) = upstreams.get(label).and_then(Weak::upgrade) {
            return upstream;
        }
        if upstreams.len() == upstreams.capacity() {
            // Remove those that a reload removed before the map grows.
            upstreams.retain(|_, upstream| upstream.strong_count() > 0);
        }
        let upstream = Arc::new(UpstreamMetrics {
            label: label.into(),
            workers: (0..workers.max(1)).map(|_| OnceLock::new()).collect(),
        });
        upstreams.insert(label.into(), Arc::downgrade(&upstream));
        upstream
    }

    fn all(&self) -> Vec<Arc<UpstreamMetrics>> {
        let upstreams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = upstreams.values().filter_map(Weak::upgrade).collect();
        all.sort_by(|a, b| a.label.cmp(&b.label));
        all
    }

    /// The metrics of all upstreams that requests were sent to.
    pub(super) fn families(&self) -> [Family; 4] {
        let mut connections = Family::gauge(
            "s3cors_upstream_connections",
            "Open connections to an upstream, in use or idle.",
        );
        let mut connects = Family::histogram_of(
            "s3cors_upstream_connect_seconds",
            "Time to open a connection to an upstream: name lookup, TCP and TLS.",
        );
        let mut queued = Family::gauge(
            "s3cors_upstream_queue_requests",
            "Requests waiting for a connection to an upstream.",
        );
        let mut waits = Family::histogram_of(
            "s3cors_upstream_queue_seconds",
            "How long requests waited for a connection to an upstream.",
        );
        for upstream in self.all() {
            let label = ("upstream", &*upstream.label);
            let Some(totals) = upstream.totals() else {
                continue;
            };
            // A connection that opens or closes meanwhile may be in one sum only.
            let active = (totals.open - totals.idle).max(0);
            for (state, count) in [("active", active), ("idle", totals.idle)] {
                connections.value(&[label, ("state", state)], count as f64);
            }
            connects.histogram(&[label], &totals.connect);
            queued.value(&[label], totals.queued as f64);
            waits.histogram(&[label], &totals.queue);
        }
        [connections, connects, queued, waits]
    }
}

/// One upstream's counts.
///
/// Upstreams with the same address are counted together, whichever routes use them.
#[derive(Debug)]
pub struct UpstreamMetrics {
    label: Box<str>,
    /// Each worker's counts, created when the worker first needs a connection.
    workers: Box<[OnceLock<Arc<UpstreamCounts>>]>,
}

impl UpstreamMetrics {
    /// The counts of a worker.
    #[must_use]
    pub fn counts(&self, worker: Worker) -> Arc<UpstreamCounts> {
        let counts = self.workers.get(worker.0).or_else(|| self.workers.first());
        let counts = counts.map(|counts| counts.get_or_init(Arc::default));
        counts.map(Arc::clone).unwrap_or_default()
    }

    /// `None`: no worker has needed a connection yet.
    fn totals(&self) -> Option<Totals> {
        let mut totals = None;
        for counts in self.workers.iter().filter_map(|counts| counts.get()) {
            totals.get_or_insert_with(Totals::default).add(counts);
        }
        totals
    }
}

/// One worker's counts of one upstream: written by that worker only, read by a scrape.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct UpstreamCounts {
    requests: AtomicI64,
    open: AtomicI64,
    idle_http1: AtomicI64,
    http2: AtomicI64,
    queued: AtomicI64,
    connect: Histogram,
    queue: Histogram,
}

impl UpstreamCounts {
    /// Counts a request that begins, or waits for a connection.
    pub fn request_begun(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a request.
    pub fn request_ended(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a connection that is being opened.
    pub fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a closed connection.
    pub fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Changes the number of idle HTTP/1.1 connections.
    pub fn idle_changed(&self, by: i64) {
        self.idle_http1.fetch_add(by, Ordering::Relaxed);
    }

    /// Counts an open connection as one with HTTP/2, which requests share.
    pub fn http2_opened(&self) {
        self.http2.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a closed connection with HTTP/2.
    pub fn http2_closed(&self) {
        self.http2.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts an opened connection, with the time that this took.
    pub fn connected(&self, took: Duration) {
        self.connect.observe(took);
    }

    /// Counts a request that begins to wait for a connection.
    pub fn queue_entered(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a wait, with or without a connection.
    pub fn queue_left(&self, waited: Duration) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
        self.queue.observe(waited);
    }
}

/// All workers' counts of an upstream.
#[derive(Default)]
struct Totals {
    open: i64,
    idle: i64,
    queued: i64,
    connect: HistogramTotals,
    queue: HistogramTotals,
}

impl Totals {
    fn add(&mut self, counts: &UpstreamCounts) {
        let get = |cell: &AtomicI64| cell.load(Ordering::Relaxed);
        self.open += get(&counts.open);
        self.idle += get(&counts.idle_http1);
        // Without a request, none of a worker's HTTP/2 connections is in use.
        if get(&counts.requests) == 0 {
            self.idle += get(&counts.http2);
        }
        self.queued += get(&counts.queued);
        self.connect.add(&counts.connect);
        self.queue.add(&counts.queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_has_one_set_of_counts_as_long_as_a_snapshot_holds_it() {
        let upstreams = Upstreams::default();
        let before = upstreams.get("http://minio:9000", 2);
        before.counts(Worker(1)).opened();
        let after = upstreams.get("http://minio:9000", 2);
        drop(before);
        assert_eq!(after.totals().unwrap().open, 1);
        drop(after);
        assert!(upstreams.all().is_empty());
        for number in 0..10_000 {
            let _gone = upstreams.get(&number.to_string(), 2);
        }
        assert!(upstreams.0.lock().unwrap().capacity() < 100);
    }

    #[test]
    fn an_http2_connection_is_idle_while_its_worker_has_no_request() {
        let upstreams = Upstreams::default();
        let upstream = upstreams.get("http://minio:9000", 2);
        for worker in [Worker(0), Worker(1)] {
            let counts = upstream.counts(worker);
            counts.opened();
            counts.http2_opened();
        }
        let idle = || upstream.totals().unwrap().idle;
        assert_eq!(idle(), 2);
        upstream.counts(Worker(1)).request_begun();
        assert_eq!(idle(), 1);
        upstream.counts(Worker(1)).request_ended();
        assert_eq!(idle(), 2);
    }

    #[test]
    fn an_upstream_without_connections_has_no_series() {
        let upstreams = Upstreams::default();
        let _unused = upstreams.get("http://minio:9000", 2);
        for family in upstreams.families() {
            assert!(family.finish().get_metric().is_empty());
        }
    }
}
