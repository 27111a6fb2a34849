//! When a connection is to end although its client may want to go on: the server drains, or the
//! connection has a descriptor of the reserve.

use std::future::poll_fn;
use std::os::fd::RawFd;
use std::task::Poll;

use super::by_descriptor::ByDescriptor;
use super::drain::DrainSignal;

/// Tells one connection when to end.
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

    /// Whether the connection ends with the request under way.
    pub(super) fn is_ending(&self) -> bool {
        self.drain.has_begun() || self.is_retired()
    }

    /// Whether its descriptor belongs to the reserve.
    pub(super) fn is_retired(&self) -> bool {
        self.by_descriptor.is_retired(self.descriptor)
    }

    /// Notes whether a request is under way, or has begun to arrive.
    pub(super) fn set_busy(&self, is_busy: bool) {
        self.by_descriptor.set_busy(self.descriptor, is_busy);
    }

    /// Ends once the descriptor belongs to the reserve; asked whenever the connection was.
    pub(super) async fn retired(&self) {
        poll_fn(|_| match self.is_retired() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}
