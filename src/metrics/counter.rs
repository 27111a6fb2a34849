//! Counters and gauges with a cell per worker.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// A counter that workers add to without sharing a cache line.
///
/// It is no larger than its label until something is counted: a config may have a hundred thousand
/// routes with several patterns each.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Labelled>);

#[derive(Debug)]
struct Labelled {
    label: Box<str>,
    workers: usize,
    cells: OnceLock<Box<[WorkerCell<AtomicU64>]>>,
}

/// A registry's weak handle to a counter, which lives as long as something counts with it.
#[derive(Debug)]
pub(super) struct WeakCounter(Weak<Labelled>);

/// Aligned to two cache lines, because CPUs fetch neighbouring lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct WorkerCell<T>(T);

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self::labelled(workers, "")
    }

    /// A counter at zero with a label value.
    pub(super) fn labelled(workers: usize, label: &str) -> Self {
        Self(Arc::new(Labelled {
            label: label.into(),
            workers,
            cells: OnceLock::new(),
        }))
    }

    /// Adds one.
    pub fn inc(&self, worker: Worker) {
        let cells = self.0.cells.get_or_init(|| cells(self.0.workers));
        if let Some(cell) = cell(cells, worker) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The sum over the workers.
    #[must_use]
    pub fn get(&self) -> u64 {
        let cells = self.0.cells.get().map_or(&[][..], |cells| cells);
        cells
            .iter()
            .map(|cell| cell.0.load(Ordering::Relaxed))
            .sum()
    }

    pub(super) fn label(&self) -> &str {
        &self.0.label
    }

    pub(super) fn downgrade(&self) -> WeakCounter {
        WeakCounter(Arc::downgrade(&self.0))
    }
}

impl WeakCounter {
    pub(super) fn upgrade(&self) -> Option<Counter> {
        self.0.upgrade().map(Counter)
    }
}

/// How many of something there are at the moment, with a cell per worker.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<[WorkerCell<AtomicI64>]>);

impl Gauge {
    /// A gauge at zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self(cells(workers).into())
    }

    /// Adds one.
    pub fn inc(&self, worker: Worker) {
        self.add(worker, 1);
    }

    /// Subtracts one.
    pub fn dec(&self, worker: Worker) {
        self.add(worker, -1);
    }

    /// The sum over the workers.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0
            .iter()
            .map(|cell| cell.0.load(Ordering::Relaxed))
            .sum()
    }

    fn add(&self, worker: Worker, amount: i64) {
        if let Some(cell) = cell(&self.0, worker) {
            cell.fetch_add(amount, Ordering::Relaxed);
        }
    }
}

fn cells<T: Default>(workers: usize) -> Box<[WorkerCell<T>]> {
    (0..workers.max(1)).map(|_| WorkerCell::default()).collect()
}

/// A worker's cell. Threads that are not workers use the first worker's.
fn cell<T>(cells: &[WorkerCell<T>], worker: Worker) -> Option<&T> {
    let cell = cells.get(worker.0).or_else(|| cells.first());
    cell.map(|cell| &cell.0)
}

/// The index of the worker that counts: at least 0 and below the number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker(pub usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_the_sum_over_all_workers() {
        let counter = Counter::new(4);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let counter = counter.clone();
                scope.spawn(move || (0..1000).for_each(|_| counter.inc(Worker(worker))));
            }
        });
        assert_eq!(counter.get(), 4000);
    }

    #[test]
    fn a_gauge_may_rise_on_one_worker_and_fall_on_another() {
        let gauge = Gauge::new(2);
        gauge.inc(Worker(0));
        gauge.inc(Worker(0));
        gauge.dec(Worker(1));
        assert_eq!(gauge.get(), 1);
    }

    #[test]
    fn other_threads_count_in_the_first_workers_cell() {
        let counter = Counter::new(1);
        counter.inc(Worker(7));
        assert_eq!(counter.get(), 1);
    }
}
