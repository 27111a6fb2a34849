//! A deadline that moves with every request, without resetting a timer each time.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};

/// The latest time at which a wait ends.
///
/// Moving the deadline later, the usual case, leaves the timer alone. When the timer fires early,
/// it is set to the current deadline.
pub struct Deadline {
    timer: Pin<Box<Sleep>>,
    due: Instant,
    /// Whether the timer has a task to wake.
    is_armed: bool,
}

impl Deadline {
    /// Creates a deadline this far from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        let due = Instant::now() + limit;
        Self {
            timer: Box::pin(tokio::time::sleep_until(due)),
            due,
            is_armed: false,
        }
    }

    /// Moves the deadline.
    pub fn set(&mut self, due: Instant) {
        self.due = due;
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
            self.is_armed = false;
        }
    }

    /// Whether the deadline has passed.
    pub fn has_passed(&self) -> bool {
        self.due <= Instant::now()
    }

    /// Ready once the deadline has passed; until then, wakes the task at that time. Every call must
    /// come from the same task.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_armed && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        self.is_armed = true;
        // Unconstrained: a task without budget left would get `Pending` from a timer that never
        // registered its waker.
        while pin!(unconstrained(self.timer.as_mut())).poll(cx).is_ready() {
            if self.due <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.due);
        }
        Poll::Pending
    }
}

pub(crate) fn due(limit: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + limit
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn the_last_deadline_set_applies() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        runtime.block_on(async {
            let start = Instant::now();
            let mut deadline = Deadline::after(Duration::from_millis(5));
            for (moved_to, ends) in [(20, 20), (10, 20), (30, 30), (31, 31)] {
                deadline.set(start + Duration::from_millis(moved_to));
                poll_fn(|cx| deadline.poll(cx)).await;
                assert!(start.elapsed() >= Duration::from_millis(ends));
            }
        });
    }
}
