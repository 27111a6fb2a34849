//! What is counted of a listener.

use super::Worker;
use super::counter::{Counter, Gauge};

/// Why a client found no room: the `reason` label, which is the key of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// There are as many connections as there may be.
    Connections,
    /// Its address has as many as it may have.
    ConnectionsPerClient,
}

impl NoRoom {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::Connections, Self::ConnectionsPerClient];

    /// The value of the `reason` label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerClient => "connections_per_client",
        }
    }
}

/// One listener's counts.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    open: Gauge,
    refused: [Counter; NoRoom::ALL.len()],
}

impl ListenerMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            open: Gauge::new(workers),
            refused: NoRoom::ALL.map(|_| Counter::new(workers)),
        }
    }

    /// A connection is open.
    pub fn opened(&self, worker: Worker) {
        self.open.inc(worker);
    }

    /// A connection is gone.
    pub fn closed(&self, worker: Worker) {
        self.open.dec(worker);
    }

    /// A client was sent away.
    pub fn refused(&self, worker: Worker, reason: NoRoom) {
        let reasons = NoRoom::ALL.iter().zip(&self.refused);
        for (_, counter) in reasons.filter(|(one, _)| **one == reason) {
            counter.inc(worker);
        }
    }

    /// How many connections are open.
    pub(super) fn connections(&self) -> i64 {
        self.open.get()
    }

    /// How many clients were sent away, by reason.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = NoRoom::ALL.iter().zip(&self.refused);
        reasons.map(|(reason, counter)| (reason.as_str(), counter.get()))
    }
}
