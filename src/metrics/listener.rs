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

/// Why a connection ended before HTTP began: the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The client spoke plain HTTP where TLS was expected.
    PlainHttp,
    /// It spoke neither TLS nor HTTP.
    NotTls,
    /// It offered no TLS version that is spoken here.
    TlsVersion,
    /// No cipher suite, key exchange or signature scheme in common.
    Cipher,
    /// No application protocol in common.
    Alpn,
    /// It showed no certificate, and one is asked for.
    NoClientCertificate,
    /// Its certificate is not accepted.
    ClientCertificate,
    /// It sent a fatal alert: it does not accept this side's certificate, for instance.
    ClientAlert,
    /// Any other error of TLS.
    Tls,
    /// The PROXY protocol's header is missing or malformed.
    ProxyHeader,
    /// A peer that is no listed proxy connected to a listener for the PROXY protocol.
    UnlistedProxy,
    /// It took too long.
    Timeout,
    /// The client closed the connection.
    Closed,
}

impl HandshakeFailure {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::PlainHttp,
        Self::NotTls,
        Self::TlsVersion,
        Self::Cipher,
        Self::Alpn,
        Self::NoClientCertificate,
        Self::ClientCertificate,
        Self::ClientAlert,
        Self::Tls,
        Self::ProxyHeader,
        Self::UnlistedProxy,
        Self::Timeout,
        Self::Closed,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::TlsVersion => "tls_version",
            Self::Cipher => "cipher",
            Self::Alpn => "alpn",
            Self::NoClientCertificate => "no_client_certificate",
            Self::ClientCertificate => "client_certificate",
            Self::ClientAlert => "client_alert",
            Self::Tls => "tls",
            Self::ProxyHeader => "proxy_header",
            Self::UnlistedProxy => "unlisted_proxy",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
        }
    }
}

/// One listener's counts.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    open: Gauge,
    failed_handshakes: [Counter; HandshakeFailure::ALL.len()],
    refused: [Counter; NoRoom::ALL.len()],
}

impl ListenerMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            open: Gauge::new(workers),
            failed_handshakes: HandshakeFailure::ALL.map(|_| Counter::new(workers)),
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

    /// A connection ended before HTTP began.
    pub fn handshake_failed(&self, worker: Worker, reason: HandshakeFailure) {
        let reasons = HandshakeFailure::ALL.iter().zip(&self.failed_handshakes);
        for (_, counter) in reasons.filter(|(one, _)| **one == reason) {
            counter.inc(worker);
        }
    }

    /// How many connections ended before HTTP began, by reason.
    pub(super) fn handshake_failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = HandshakeFailure::ALL.iter().zip(&self.failed_handshakes);
        reasons.map(|(reason, counter)| (reason.as_str(), counter.get()))
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
