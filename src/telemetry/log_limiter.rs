//! Limits log lines to a few a second for each reason, so that a flood of one kind of event cannot
//! fill the log.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How many lines each reason may have in each [`PERIOD`], per worker.
pub const LINES: u32 = 5;

/// The length of a period.
pub const PERIOD: Duration = Duration::from_secs(1);

/// One worker's limits. A suppressed event costs only a reading of the clock: no formatting, no
/// lock.
#[derive(Debug)]
pub struct LogLimiter<const REASONS: usize>([Cell<Period>; REASONS]);

/// What was logged for one reason since `start`.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    start: Option<Instant>,
    shown: u32,
    suppressed: u64,
}

impl<const REASONS: usize> Default for LogLimiter<REASONS> {
    fn default() -> Self {
        Self([const { Cell::new(Period::NEVER) }; REASONS])
    }
}

impl<const REASONS: usize> LogLimiter<REASONS> {
    /// Whether an event with this reason may be logged; counts it either way. If a period has ended
    /// in which lines were suppressed, calls `over` with their number.
    pub fn take(&self, reason: usize, now: Instant, over: impl FnOnce(u64)) -> bool {
        let Some(cell) = self.0.get(reason) else {
            return false;
        };
        let mut period = cell.get();
        period.renew(now, over);
        let is_left = period.shown < LINES;
        if is_left {
            period.shown += 1;
        } else {
            period.suppressed += 1;
        }
        cell.set(period);
        is_left
    }

    /// Calls `over` with each reason and its number of suppressed lines in a period that has ended.
    /// Call it regularly, so that they are reported even if no more events come.
    pub fn summarise(&self, now: Instant, mut over: impl FnMut(usize, u64)) {
        for (reason, cell) in self.0.iter().enumerate() {
            let mut period = cell.get();
            period.renew(now, |suppressed| over(reason, suppressed));
            cell.set(period);
        }
    }
}

impl Period {
    const NEVER: Self = Self {
        start: None,
        shown: 0,
        suppressed: 0,
    };

    /// Starts a new period if this one is over.
    fn renew(&mut self, now: Instant, over: impl FnOnce(u64)) {
        let is_over = |start| now.saturating_duration_since(start) >= PERIOD;
        if self.start.is_none_or(is_over) {
            if self.suppressed > 0 {
                over(self.suppressed);
            }
            *self = Self {
                start: Some(now),
                ..Self::NEVER
            };
        }
    }
}
