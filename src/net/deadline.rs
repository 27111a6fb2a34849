//! A limit of time that moves with every request and costs no timer for it.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};

/// When a wait ends at the latest.
///
/// The timer stays where it is when the limit moves further away, which is what it does all the
/// time; when it rings, it is set to where the limit is by then.
pub struct Deadline {
    timer: Pin<Box<Sleep>>,
    due: Instant,
    /// Whether the timer knows whom to wake.
    is_armed: bool,
}

impl Deadline {
    /// A limit from now on.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        let due = Instant::now() + limit;
        Self {
            timer: Box::pin(tokio::time::sleep_until(due)),
            due,
            is_armed: false,
        }
    }

    /// Moves the limit.
    pub fn set(&mut self, due: Instant) {
        self.due = due;
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
            self.is_armed = false;
        }
    }

    /// Whether the limit has passed.
    pub fn has_passed(&self) -> bool {
        self.due <= Instant::now()
    }

    /// Is ready when the limit has passed; else wakes the task then, which has to be the same
    /// from one call to the next.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_armed && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        self.is_armed = true;
        // Unconstrained: a task that has used up its budget would be told to wait, and the timer
        // would not know of it.
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
    fn it_ends_where_it_was_moved_to_last() {
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
