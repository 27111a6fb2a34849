//! Whether there is room for a client at a listener, and what is counted of that.

use std::sync::Arc;

use crate::metrics::{HandshakeFailure, ListenerMetrics, NoRoom, Worker};
use crate::routing::client::Client;

use super::per_client::{Counted, PerClient};

/// One worker's count of a listener's connections.
pub(super) struct Admission {
    pub(super) worker: Worker,
    pub(super) listener: ListenerMetrics,
    /// All listeners' clients.
    pub(super) clients: Arc<PerClient>,
}

impl Admission {
    pub(super) fn opened(&self) {
        self.listener.opened(self.worker);
    }

    pub(super) fn closed(&self) {
        self.listener.closed(self.worker);
    }

    /// There are as many connections as there may be.
    pub(super) fn is_full(&self) {
        self.listener.refused(self.worker, NoRoom::Connections);
    }

    /// A connection ended before HTTP began.
    pub(super) fn handshake_failed(&self, reason: HandshakeFailure) {
        self.listener.handshake_failed(self.worker, reason);
    }

    /// Counts one of a client's connections; `None`: it has as many as it may.
    pub(super) fn admit(&self, client: Client) -> Option<Counted<'_>> {
        let counted = self.clients.count(client);
        if counted.is_none() {
            let reason = NoRoom::ConnectionsPerClient;
            self.listener.refused(self.worker, reason);
        }
        counted
    }
}
