//! Signals that a connection must end although its client may want to continue: the server
//! drains, or the connection's descriptor is in the reserve.

use std::future::poll_fn;
use std::os::fd::RawFd;
use std::task::Poll;

use super::by_descriptor::ByDescriptor;
use super::drain::DrainSignal;

/// A connection's signal to end.
pub(super) struct EndSignal<'c> {
    pub(super) drain: &'c DrainSignal,
    by_descriptor: &'c ByDescriptor,
    descriptor: RawFd,
}

impl<'c> EndSignal<'c> {
    /// The signal for the connection with this descriptor.
    pub(super) fn new(
        drain: &'c DrainSignal,
        by_descriptor: &'c ByDescriptor,
        descriptor: RawFd,
    ) -> Self {
        Self {
            drain,
            by_descriptor,
            descriptor,
        }
    }

    /// Whether the connection ends after the current request.
    pub(super) fn is_ending(&self) -> bool {
        self.drain.has_begun() || self.is_retired()
    }

    /// Whether its descriptor is in the reserve.
    pub(super) fn is_retired(&self) -> bool {
        self.by_descriptor.is_retired(self.descriptor)
    }

    /// Records whether a request is under way or has begun to arrive.
    pub(super) fn set_busy(&self, is_busy: bool) {
        self.by_descriptor.set_busy(self.descriptor, is_busy);
    }

    /// Resolves once the descriptor is in the reserve; must be polled whenever the connection is.
    pub(super) async fn retired(&self) {
        poll_fn(|_| match self.is_retired() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}
