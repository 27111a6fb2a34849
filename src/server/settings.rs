//! Settings of listeners, limits and the drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use super::head_budget::HeadBudget;
use super::tls::TlsCell;

/// Settings that need a restart to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The number of worker threads.
    pub workers: usize,
    /// The listeners.
    pub listeners: Vec<ListenerSettings>,
    /// Limits on what clients send.
    pub limits: Limits,
    /// The drain settings.
    pub drain: DrainSettings,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Its address.
    pub address: Bind,
    /// Its TLS certificates, if any.
    pub tls: Option<TlsCell>,
    /// Whether each connection must begin with a PROXY protocol header, from a listed proxy only.
    pub proxy_protocol: bool,
    /// The name that routes are bound to.
    pub name: Option<Box<str>>,
}

impl ListenerSettings {
    /// A listener for plain HTTP.
    #[must_use]
    pub fn plain(address: Bind) -> Self {
        Self {
            address,
            tls: None,
            proxy_protocol: false,
            name: None,
        }
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// The sockets that systemd passes under this name.
    Systemd(String),
}

/// Limits on what clients send and hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size of a request's line and fields together, in bytes.
    pub request_head_bytes: usize,
    /// The maximum number of fields in a request.
    pub header_count: usize,
    /// The size of a request's target, in bytes.
    pub uri_bytes: usize,
    /// How many bytes the heads that are not whole yet may have, of all clients together. Beyond that,
    /// the oldest are refused.
    pub unfinished_head_bytes: usize,
    /// The same for one client address.
    pub unfinished_head_bytes_per_client: usize,
    /// Maximum concurrent connections of all workers. `None`: 20 000, or fewer if fewer files may be open.
    pub connections: Option<usize>,
    /// The maximum number of connections of a client address, over all workers; an IPv6 network
    /// of 64 bits counts as one, and listed proxies have no limit.
    pub connections_per_client: usize,
    /// The maximum number of requests per connection.
    pub requests_per_connection: usize,
    /// The time limit for the PROXY protocol's header and the TLS handshake together.
    pub handshake: Duration,
    /// The time limit for a request's head.
    pub head_read: Duration,
    /// How long a kept-alive connection may stay idle.
    pub keep_alive_idle: Duration,
    /// The maximum number of concurrent requests on an HTTP/2 connection.
    pub http2_streams: u32,
    /// How many more requests an HTTP/2 client may reset than it lets complete, before the
    /// connection ends.
    pub http2_resets: u32,
    /// How many frames per second without a part of a request (PING, SETTINGS, PRIORITY and the
    /// like) an HTTP/2 client may send beyond those that its traffic explains.
    pub http2_control_frames: u32,
    /// The size of all response data buffered for an HTTP/2 connection, in bytes, beyond one
    /// piece of each response.
    pub http2_send_buffer_bytes: usize,
}

impl Limits {
    /// The budget of unfinished heads; room for a few of the largest heads at least.
    pub(super) fn head_budget(&self) -> Arc<HeadBudget> {
        let least = self.request_head_bytes.saturating_mul(2);
        HeadBudget::new(
            self.unfinished_head_bytes.max(least),
            self.unfinished_head_bytes_per_client.max(least),
        )
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_head_bytes: 64 * 1024,
            header_count: 100,
            uri_bytes: 32 * 1024,
            unfinished_head_bytes: 32 * 1024 * 1024,
            unfinished_head_bytes_per_client: 8 * 1024 * 1024,
            connections: None,
            connections_per_client: 10_000,
            requests_per_connection: 1_000_000,
            handshake: Duration::from_secs(10),
            head_read: Duration::from_secs(30),
            keep_alive_idle: Duration::from_secs(75),
            http2_streams: 128,
            http2_resets: 100,
            http2_control_frames: 1_000,
            http2_send_buffer_bytes: 256 * 1024,
        }
    }
}

/// Drain settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// How long connections are still accepted after `/readyz` answers 503, so that load
    /// balancers notice.
    pub delay: Duration,
    /// When requests still under way are cut.
    pub deadline: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(0),
            deadline: Duration::from_secs(30),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound.
    #[error("cannot listen on {address} (`listen.address` or --listen)")]
    Bind {
        /// The address.
        address: Bind,
        /// The system's error.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a worker thread")]
    Thread(#[source] io::Error),
}
