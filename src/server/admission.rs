//! Admits clients at a listener within the limits, and counts them.

use std::sync::Arc;

use crate::metrics::{HandshakeFailure, ListenerMetrics, NoRoom, TlsHandshake, Worker};
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
    /// A connection was accepted.
    pub(super) fn accepted(&self) {
        self.listener.accept(self.worker);
    }

    /// A TLS handshake is complete.
    pub(super) fn tls_handshake(&self, kind: TlsHandshake) {
        self.listener.tls_handshake(self.worker, kind);
    }

    pub(super) fn opened(&self) {
        self.listener.opened(self.worker);
    }

    pub(super) fn closed(&self) {
        self.listener.closed(self.worker);
    }

    /// The connection limit is reached.
    pub(super) fn is_full(&self) {
        self.listener.refused(self.worker, NoRoom::Connections);
    }

    /// Records a connection that ended before HTTP.
    pub(super) fn handshake_failed(&self, reason: HandshakeFailure) {
        self.listener.handshake_failed(self.worker, reason);
    }

    /// Counts one of a client's connections; `None` if it has reached its limit.
    pub(super) fn admit(&self, client: Client) -> Option<Counted<'_>> {
        let counted = self.clients.count(client);
        if counted.is_none() {
            let reason = NoRoom::ConnectionsPerClient;
            self.listener.refused(self.worker, reason);
        }
        counted
    }
}
