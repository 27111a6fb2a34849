//! Detects blocked workers: each records the time once a second, and the control thread checks
//! the age of the records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A worker without a heartbeat for this long counts as blocked.
const LIMIT: Duration = Duration::from_secs(5);

/// Marks a worker that has ended, as in a drain, and is not blocked.
const ENDED: u64 = u64::MAX;

/// The heartbeats of all workers; clones share them.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    since: Instant,
    workers: Arc<[Cell]>,
}

/// When a worker last turned its event loop, in milliseconds since the start. Aligned to a pair
/// of cache lines, so that workers do not share one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell(AtomicU64);

/// One worker's heartbeat.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    all: Heartbeats,
    worker: usize,
}

impl Heartbeats {
    /// Heartbeats for starting workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            since: Instant::now(),
            workers: (0..workers).map(|_| Cell::default()).collect(),
        }
    }

    pub(super) fn of(&self, worker: usize) -> Heartbeat {
        Heartbeat {
            all: self.clone(),
            worker,
        }
    }

    /// The number of workers that have not turned their loop for 5 seconds.
    #[must_use]
    pub fn stuck(&self) -> usize {
        self.stuck_at(Instant::now())
    }

    fn stuck_at(&self, now: Instant) -> usize {
        let now = self.milliseconds(now);
        let is_stuck = |cell: &&Cell| {
            let last = cell.0.load(Ordering::Relaxed);
            u128::from(now.saturating_sub(last)) >= LIMIT.as_millis()
        };
        self.workers.iter().filter(is_stuck).count()
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.since).as_millis();
        u64::try_from(since).unwrap_or(ENDED - 1)
    }
}

impl Heartbeat {
    /// Records that the loop turned.
    pub(super) fn beat(&self) {
        self.beat_at(Instant::now());
    }

    /// Records that the worker ends.
    pub(super) fn end(&self) {
        self.note(ENDED);
    }

    /// For a test, blocks the first worker once, until the named pipe `S3CORS_TEST_BLOCK_WORKER`
    /// has been written to and closed. Release builds do not have it.
    #[cfg(debug_assertions)]
    pub(super) fn block_for_test(&self) {
        use std::cell::Cell;
        thread_local!(static WAS_BLOCKED: Cell<bool> = const { Cell::new(false) });
        let pipe = std::env::var_os("S3CORS_TEST_BLOCK_WORKER").filter(|_| self.worker == 0);
        if let Some(pipe) = pipe
            && !WAS_BLOCKED.replace(true)
        {
            let _ = std::fs::read(pipe);
        }
    }

    fn beat_at(&self, now: Instant) {
        self.note(self.all.milliseconds(now));
    }

    fn note(&self, time: u64) {
        if let Some(cell) = self.all.workers.get(self.worker) {
            cell.0.store(time, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_stuck_after_five_seconds_without_a_beat() {
        let all = Heartbeats::new(2);
        let at = |seconds| all.since + Duration::from_secs(seconds);
        let (first, second) = (all.of(0), all.of(1));
        assert_eq!(all.stuck_at(at(4)), 0);
        assert_eq!(all.stuck_at(at(5)), 2, "neither has a heartbeat");
        first.beat_at(at(3));
        second.beat_at(at(4));
        assert_eq!(all.stuck_at(at(7)), 0);
        assert_eq!(all.stuck_at(at(8)), 1);
        assert_eq!(all.stuck_at(at(9)), 2);
        first.beat_at(at(9));
        assert_eq!(all.stuck_at(at(9)), 1);
        second.end();
        assert_eq!(all.stuck_at(at(10)), 0);
        assert_eq!(all.stuck_at(at(1_000_000)), 1);
    }
}
