//! One listener's counts.

use super::Worker;
use super::counter::{Counter, Gauge};

/// Which limit refused a connection: the `reason` label, named after the limit's config key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The limit on all connections.
    Connections,
    /// The limit on connections from one client address.
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

/// Why a connection ended before the first HTTP request: the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The client spoke plain HTTP where TLS was expected.
    PlainHttp,
    /// It spoke neither TLS nor plain HTTP.
    NotTls,
    /// It offered no supported TLS version.
    TlsVersion,
    /// There was no cipher suite, key exchange or signature scheme in common.
    Cipher,
    /// There was no application protocol in common.
    Alpn,
    /// It sent no certificate although one is required.
    NoClientCertificate,
    /// Its certificate was not accepted.
    ClientCertificate,
    /// It sent a fatal alert, for example because it does not accept the listener's certificate.
    ClientAlert,
    /// Any other TLS error.
    Tls,
    /// The PROXY protocol header is missing or malformed.
    ProxyHeader,
    /// A peer that is not a listed proxy connected to a listener that requires the PROXY protocol.
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

/// A completed TLS handshake: the `kind` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsHandshake {
    /// With certificate and signature.
    Full,
    /// A session was resumed.
    Resumed,
}

impl TlsHandshake {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Full, Self::Resumed];

    /// The value of the `kind` label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
        }
    }
}

/// One listener's counts.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    open: Gauge,
    accepted: Counter,
    tls_handshakes: [Counter; TlsHandshake::ALL.len()],
    failed_handshakes: [Counter; HandshakeFailure::ALL.len()],
    refused: [Counter; NoRoom::ALL.len()],
}

impl ListenerMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            open: Gauge::new(workers),
            accepted: Counter::new(workers),
            tls_handshakes: TlsHandshake::ALL.map(|_| Counter::new(workers)),
            failed_handshakes: HandshakeFailure::ALL.map(|_| Counter::new(workers)),
            refused: NoRoom::ALL.map(|_| Counter::new(workers)),
        }
    }

    /// Counts an accepted connection.
    pub fn accept(&self, worker: Worker) {
        self.accepted.inc(worker);
    }

    /// Counts a completed TLS handshake.
    pub fn tls_handshake(&self, worker: Worker, kind: TlsHandshake) {
        let kinds = TlsHandshake::ALL.iter().zip(&self.tls_handshakes);
        for (_, counter) in kinds.filter(|(one, _)| **one == kind) {
            counter.inc(worker);
        }
    }

    /// How many connections were accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// How many TLS handshakes were completed, by kind.
    pub(super) fn tls_handshakes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let kinds = TlsHandshake::ALL.iter().zip(&self.tls_handshakes);
        kinds.map(|(kind, counter)| (kind.as_str(), counter.get()))
    }

    /// Counts an opened connection.
    pub fn opened(&self, worker: Worker) {
        self.open.inc(worker);
    }

    /// Counts a closed connection.
    pub fn closed(&self, worker: Worker) {
        self.open.dec(worker);
    }

    /// Counts a refused connection.
    pub fn refused(&self, worker: Worker, reason: NoRoom) {
        let reasons = NoRoom::ALL.iter().zip(&self.refused);
        for (_, counter) in reasons.filter(|(one, _)| **one == reason) {
            counter.inc(worker);
        }
    }

    /// Counts a connection that ended before the first HTTP request.
    pub fn handshake_failed(&self, worker: Worker, reason: HandshakeFailure) {
        let reasons = HandshakeFailure::ALL.iter().zip(&self.failed_handshakes);
        for (_, counter) in reasons.filter(|(one, _)| **one == reason) {
            counter.inc(worker);
        }
    }

    /// Connections that ended before the first HTTP request, by reason.
    pub(super) fn handshake_failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = HandshakeFailure::ALL.iter().zip(&self.failed_handshakes);
        reasons.map(|(reason, counter)| (reason.as_str(), counter.get()))
    }

    /// The number of open connections.
    pub(super) fn connections(&self) -> i64 {
        self.open.get()
    }

    /// The number of refused connections, by reason.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = NoRoom::ALL.iter().zip(&self.refused);
        reasons.map(|(reason, counter)| (reason.as_str(), counter.get()))
    }
}
