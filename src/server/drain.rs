//! Drain: serving, then draining, then closing. One shared cell signals every thread and connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::unconstrained;

/// How long a connection without a request may still send one when the server closes: its client
/// may have just connected, or may be about to reuse it.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// The phases of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Normal operation.
    Serving,
    /// New connections are still accepted, but `/readyz` answers 503, and each connection ends after
    /// its next response.
    Draining,
    /// No new connections are accepted. Connections without a request end after a grace period.
    Closing,
    /// The remaining connections are closed.
    Cut,
}

/// Advances the phase of all connections.
#[derive(Debug)]
pub(super) struct Drain(Arc<Stage>);

/// Waits for a phase.
#[derive(Clone, Debug)]
pub(super) struct DrainSignal(Arc<Stage>);

/// The phase, and the tasks that wait for the next one. Every connection waits, and a `Notified`
/// needs a third of the memory that waiting on a `watch::Receiver` does.
#[derive(Debug)]
struct Stage {
    /// A [`Phase`].
    phase: AtomicU8,
    moved_on: Notify,
}

impl Drain {
    pub(super) fn new() -> (Self, DrainSignal) {
        let stage = Arc::new(Stage {
            phase: AtomicU8::new(Phase::Serving as u8),
            moved_on: Notify::new(),
        });
        (Self(Arc::clone(&stage)), DrainSignal(stage))
    }

    pub(super) fn set(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Release);
        self.0.moved_on.notify_waiters();
    }
}

impl Drop for Drain {
    /// The process is ending: nothing waits for it.
    fn drop(&mut self) {
        self.set(Phase::Cut);
    }
}

impl DrainSignal {
    fn has_reached(&self, phase: Phase) -> bool {
        self.0.phase.load(Ordering::Acquire) >= phase as u8
    }

    /// Whether a stop has begun. Costs one atomic load.
    pub(super) fn has_begun(&self) -> bool {
        self.has_reached(Phase::Draining)
    }

    /// Resolves when a stop has begun.
    pub(super) fn begun(&self) -> impl Future<Output = ()> {
        self.cheaply_reached(Phase::Draining)
    }

    /// Resolves when connections must close.
    pub(super) fn closing(&self) -> impl Future<Output = ()> {
        self.cheaply_reached(Phase::Closing)
    }

    /// Resolves when a connection without a request must close.
    pub(super) async fn grace_over(&self) {
        self.closing().await;
        tokio::time::sleep(GRACE).await;
    }

    /// Resolves when the remaining connections must be closed.
    pub(super) async fn cut(&self) {
        self.reached(Phase::Cut).await;
    }

    /// Resolves when a phase has begun.
    ///
    /// The phase is polled once, which registers the waker, and again only when a stop has begun:
    /// a request costs no lock.
    async fn cheaply_reached(&self, phase: Phase) {
        let mut reached = pin!(self.reached(phase));
        let mut is_asked = false;
        poll_fn(|cx| {
            if is_asked && !self.has_begun() {
                return Poll::Pending;
            }
            is_asked = true;
            // Unconstrained: a task that has used up its budget would not be registered.
            pin!(unconstrained(reached.as_mut())).poll(cx)
        })
        .await;
    }

    async fn reached(&self, phase: Phase) {
        loop {
            // Created before the phase is read, so that no change in between is missed.
            let moved_on = self.0.moved_on.notified();
            if self.has_reached(phase) {
                return;
            }
            moved_on.await;
        }
    }
}
