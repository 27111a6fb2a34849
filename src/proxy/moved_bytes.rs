//! The body bytes of an exchange, counted for its route while they move.

use crate::metrics::{RouteCounts, Transfer};

/// The body bytes that an exchange has moved so far.
pub(crate) struct MovedBytes<'c> {
    pub(crate) counts: &'c RouteCounts,
    pub(crate) client_received: u64,
    pub(crate) client_sent: u64,
    pub(crate) upstream_sent: u64,
    pub(crate) upstream_received: u64,
    /// How many of them are counted, in the same order.
    counted: [u64; 4],
}

impl<'c> MovedBytes<'c> {
    pub(crate) fn new(counts: &'c RouteCounts) -> Self {
        Self {
            counts,
            client_received: 0,
            client_sent: 0,
            upstream_sent: 0,
            upstream_received: 0,
            counted: [0; 4],
        }
    }

    /// Counts the bytes moved since the last call. Call it regularly, because an exchange may take
    /// hours.
    pub(crate) fn count(&mut self) {
        let moved = [
            (Transfer::ClientReceived, self.client_received),
            (Transfer::ClientSent, self.client_sent),
            (Transfer::UpstreamSent, self.upstream_sent),
            (Transfer::UpstreamReceived, self.upstream_received),
        ];
        for ((transfer, moved), counted) in moved.into_iter().zip(&mut self.counted) {
            if moved > *counted {
                self.counts.bytes(transfer, moved - *counted);
                *counted = moved;
            }
        }
    }
}
