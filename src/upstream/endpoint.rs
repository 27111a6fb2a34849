//! An upstream and its settings.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::metrics::{UpstreamCounts, UpstreamHealth, UpstreamMetrics, Worker};

use super::check_settings::CheckSettings;
use super::health::{HealthReport, HealthSettings, HealthTracker};
use super::resolver::Resolver;
use super::tls::UpstreamTls;

/// A server that requests are forwarded to.
///
/// Equality covers everything that makes two connections differ. A reload keeps the `Arc` of an
/// unchanged upstream, and with it the id and the connections.
#[derive(Debug)]
pub struct Upstream {
    /// The key under which workers keep its connections; unique in the process.
    pub(crate) id: u64,
    /// What the config says about it.
    pub settings: UpstreamSettings,
    /// The value of `Host` if the route sets `host_header = "upstream"`.
    pub(crate) authority: HeaderValue,
    /// Its address, for logs.
    shown_address: Box<str>,
    /// The name in its certificate, if it uses TLS.
    pub(crate) server_name: Option<ServerName<'static>>,
    tls_config: OnceLock<Arc<ClientConfig>>,
    /// The same for HTTP/1.1 only, if HTTP/2 is offered otherwise.
    tls_config_for_http1: OnceLock<Arc<ClientConfig>>,
    /// Its health, shared by all workers.
    pub(crate) health: HealthTracker,
    /// Resolves its host name, if the config has one.
    resolver: Option<Resolver>,
    /// The counts of its connections, once it is part of a snapshot.
    metrics: OnceLock<Arc<UpstreamMetrics>>,
}

/// rustls' settings for a handshake.
pub(crate) type TlsConfig = Result<Arc<ClientConfig>, rustls::Error>;

/// What the config says about an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamSettings {
    /// Where it listens.
    pub address: Address,
    /// Its TLS settings; `None`: plain text.
    pub tls: Option<UpstreamTls>,
    /// Whether to use HTTP/2: by prior knowledge over plain TCP, by ALPN over TLS.
    pub http2: bool,
    /// How long to wait for it.
    pub timeouts: Timeouts,
    /// How much it may send, and how many requests it gets at a time.
    pub limits: UpstreamLimits,
    /// When it is ejected.
    pub health: HealthSettings,
    /// Its active health check, if any.
    pub check: Option<CheckSettings>,
}

impl UpstreamSettings {
    /// An upstream that speaks HTTP/1.1 without TLS, with the default limits.
    #[must_use]
    pub fn plain(address: Address) -> Self {
        Self {
            address,
            tls: None,
            http2: false,
            timeouts: Timeouts::default(),
            limits: UpstreamLimits::default(),
            health: HealthSettings::default(),
            check: None,
        }
    }
}

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP port of a host name or address.
    Tcp {
        /// A name, which is resolved regularly, or an address (IPv6 without brackets).
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The host, if it is a name and not an address.
    fn host_name(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } if host.parse::<IpAddr>().is_err() => Some(host),
            Self::Tcp { .. } | Self::Unix(_) => None,
        }
    }
}

/// How long the proxy waits for an upstream, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// For a connection to become free, if no more may be opened.
    pub queue: Duration,
    /// Name lookup, TCP and TLS handshake together.
    pub connect: Duration,
    /// From the end of the request to the head of the response.
    pub response_head: Duration,
    /// Between two pieces of a body, in either direction; [`NO_LIMIT`](Self::NO_LIMIT): no limit.
    pub body_idle: Duration,
    /// How long an idle connection is kept.
    pub upstream_idle: Duration,
    /// After this time, a connection gets no more requests; `None`: no limit.
    pub upstream_max_age: Option<Duration>,
}

impl Timeouts {
    /// Longer than any process runs, and safe to add to any clock's time.
    pub const NO_LIMIT: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            queue: Duration::from_secs(1),
            connect: Duration::from_secs(5),
            response_head: Duration::from_secs(60),
            body_idle: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(60),
            upstream_max_age: None,
        }
    }
}

/// How much an upstream may send before a response's body, and how many requests it gets at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamLimits {
    /// A response's status line and fields, in bytes.
    pub response_head_bytes: usize,
    /// The number of fields in a response.
    pub response_header_count: usize,
    /// The number of interim responses (1xx) before the final one.
    pub interim_responses: usize,
    /// Concurrent connections, over all workers; each has its share.
    pub connections: usize,
    /// Requests waiting for a connection, over all workers.
    pub queue: usize,
    /// The percentage of connections that requests from one client address may use, including
    /// waiting requests; 100: all of them.
    pub client_share_percent: usize,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            response_head_bytes: 64 * 1024,
            response_header_count: 100,
            interim_responses: 16,
            connections: 4096,
            queue: 1024,
            client_share_percent: 25,
        }
    }
}

/// The upstream's host is neither a name nor an address.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a valid host name or address")]
pub struct InvalidUpstreamHost(String);

impl Upstream {
    /// Creates an upstream with its own connections.
    ///
    /// # Errors
    ///
    /// [`InvalidUpstreamHost`] if the host is neither a name nor an address.
    pub fn new(settings: UpstreamSettings) -> Result<Self, InvalidUpstreamHost> {
        Self::resolved_by(settings, Resolver::system)
    }

    /// Likewise, with the resolver that `resolver_of` returns for its host name.
    ///
    /// # Errors
    ///
    /// [`InvalidUpstreamHost`] if the host is neither a name nor an address.
    pub fn resolved_by(
        settings: UpstreamSettings,
        resolver_of: impl FnOnce(&str) -> Resolver,
    ) -> Result<Self, InvalidUpstreamHost> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let invalid = || InvalidUpstreamHost(settings.address.to_string());
        let (authority, server_name) = match &settings.address {
            Address::Unix(_) => ("localhost".to_owned(), None),
            Address::Tcp { host, port } => {
                let authority = match (settings.tls.is_some(), *port) {
                    (false, 80) | (true, 443) => bracketed(host),
                    (_, port) => format!("{}:{port}", bracketed(host)),
                };
                let name = ServerName::try_from(host.clone()).map_err(|_| invalid())?;
                (authority, Some(name))
            }
        };
        let server_name = settings.tls.as_ref().and_then(|tls| {
            // The host, unless the config sets another name.
            tls.server_name.clone().or(server_name)
        });
        let resolver = settings.address.host_name().map(resolver_of);
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            authority: HeaderValue::try_from(authority).map_err(|_| invalid())?,
            shown_address: settings.address.to_string().into(),
            server_name,
            tls_config: OnceLock::new(),
            tls_config_for_http1: OnceLock::new(),
            health: HealthTracker::default(),
            resolver,
            metrics: OnceLock::new(),
            settings,
        })
    }
}

impl Upstream {
    /// The resolver of its host name; `None`: the config has an address.
    #[must_use]
    pub fn resolver(&self) -> Option<&Resolver> {
        self.resolver.as_ref()
    }

    /// Whether it may be asked to switch protocols. HTTP/2 has no such mechanism ([RFC 9113 §8.6]).
    ///
    /// [RFC 9113 §8.6]: https://www.rfc-editor.org/rfc/rfc9113#section-8.6
    pub(crate) fn may_upgrade(&self) -> bool {
        !self.settings.http2 || self.settings.tls.is_some()
    }

    /// The TLS settings for a handshake; `None`: plain text.
    pub(crate) fn tls_config(&self) -> Option<TlsConfig> {
        let tls = self.settings.tls.as_ref()?;
        if let Some(config) = self.tls_config.get() {
            return Some(Ok(Arc::clone(config)));
        }
        let config = tls.config(self.settings.http2);
        Some(config.map(|config| Arc::clone(self.tls_config.get_or_init(|| config))))
    }

    /// The TLS settings for a handshake that offers only HTTP/1.1; `None`: plain text.
    pub(crate) fn tls_config_for_http1(&self) -> Option<TlsConfig> {
        let config = self.tls_config()?;
        if !self.settings.http2 {
            return Some(config);
        }
        let for_http1 = |config: &ClientConfig| {
            // A clone shares trusted certificates and sessions with the other settings.
            let mut config = ClientConfig::clone(config);
            config.alpn_protocols.retain(|name| name != b"h2");
            Arc::new(config)
        };
        Some(config.map(|config| {
            let cell = &self.tls_config_for_http1;
            Arc::clone(cell.get_or_init(|| for_http1(&config)))
        }))
    }

    /// Its address, for logs.
    pub(crate) fn shown_address(&self) -> &str {
        &self.shown_address
    }

    /// Counts its connections in `metrics`, which must be those of its [`url`](Self::url).
    pub fn count_with(&self, metrics: Arc<UpstreamMetrics>) {
        // Every snapshot with this upstream has the same counts.
        let _ = self.metrics.set(metrics);
    }

    /// A worker's counts of its connections.
    pub(crate) fn counts(&self, worker: Worker) -> Arc<UpstreamCounts> {
        let metrics = self.metrics.get();
        metrics.map_or_else(Arc::default, |metrics| metrics.counts(worker))
    }

    /// Its health, for metrics.
    #[must_use]
    pub fn shown_health(&self) -> UpstreamHealth {
        self.health.shown(self.url())
    }

    /// Its current health, for status pages.
    #[must_use]
    pub fn condition(&self) -> HealthReport {
        self.health.condition()
    }

    /// Its address as in the config: its name in metrics and status.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = match (&self.settings.address, self.settings.tls.is_some()) {
            (Address::Unix(_), _) => "",
            (Address::Tcp { .. }, false) => "http://",
            (Address::Tcp { .. }, true) => "https://",
        };
        format!("{scheme}{self}")
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{}:{port}", bracketed(host)),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.address.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_has_one_tls_config_for_each_http_version() {
        let pin = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let upstream = Upstream::new(UpstreamSettings {
            tls: Some(UpstreamTls {
                pins: [pin.parse().unwrap()].into(),
                ..UpstreamTls::default()
            }),
            http2: true,
            ..UpstreamSettings::plain(Address::Tcp {
                host: "s3.example".to_owned(),
                port: 443,
            })
        });
        let upstream = upstream.unwrap();
        let both = || upstream.tls_config().unwrap().unwrap();
        let http1 = || upstream.tls_config_for_http1().unwrap().unwrap();
        assert_eq!(both().alpn_protocols, [&b"h2"[..], b"http/1.1"]);
        assert_eq!(http1().alpn_protocols, [b"http/1.1"]);
        assert!(Arc::ptr_eq(&both(), &both()));
        assert!(Arc::ptr_eq(&http1(), &http1()));
    }
}
