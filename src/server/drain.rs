//! Drain: serving, then draining, then closing. One shared cell signals every thread and connection.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::unconstrained;

/// How long a connection that is there, but has asked nothing yet, may still do so when the server
/// closes: who has just connected meets no closed door.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// How far a stop has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// As usual.
    Serving,
    /// As usual for clients; `/readyz` says no already.
    Draining,
    /// No new connections; those there end with the response they are owed.
    Closing,
    /// What is left is cut.
    Cut,
}

/// Moves everything on.
#[derive(Debug)]
pub(super) struct Drain(watch::Sender<Phase>);

/// Waits for a phase.
#[derive(Clone, Debug)]
pub(super) struct DrainSignal(watch::Receiver<Phase>);

impl Drain {
    pub(super) fn new() -> (Self, DrainSignal) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self(sender), DrainSignal(receiver))
    }

    pub(super) fn set(&self, phase: Phase) {
        self.0.send_replace(phase);
    }
}

impl DrainSignal {
    /// Whether a stop has begun. Costs one load.
    pub(super) fn has_begun(&self) -> bool {
        self.0.has_changed().unwrap_or(true)
    }

    /// Whether connections are to close. Costs one load until a stop has begun.
    pub(super) fn is_closing(&self) -> bool {
        self.has_begun() && *self.0.borrow() >= Phase::Closing
    }

    /// Ends when connections are to close.
    ///
    /// The cell is asked once, which has it wake the task, and then only when a stop has begun:
    /// a request costs no lock.
    pub(super) async fn closing(&self) {
        let mut reached = pin!(self.reached(Phase::Closing));
        let mut is_asked = false;
        poll_fn(|cx| {
            if is_asked && !self.has_begun() {
                return Poll::Pending;
            }
            is_asked = true;
            // Unconstrained: asked once, it has to hear of it.
            pin!(unconstrained(reached.as_mut())).poll(cx)
        })
        .await;
    }

    /// Ends when a connection that has asked nothing yet is to close.
    pub(super) async fn grace_over(&self) {
        self.closing().await;
        tokio::time::sleep(GRACE).await;
    }

    /// Ends when what is left is to be cut.
    pub(super) async fn cut(&self) {
        self.reached(Phase::Cut).await;
    }

    async fn reached(&self, phase: Phase) {
        // A sender that is gone means that the process is ending: there is nothing to wait for.
        let _ = self.0.clone().wait_for(|now| *now >= phase).await;
    }
}
