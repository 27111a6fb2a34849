//! What the config says of listeners, limits and the drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use super::head_budget::HeadBudget;
use super::tls::TlsCell;

/// What needs a restart to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many threads serve requests.
    pub workers: usize,
    /// Where clients connect to.
    pub listeners: Vec<ListenerSettings>,
    /// Limits on what clients send.
    pub limits: Limits,
    /// How a stop is gone about.
    pub drain: DrainSettings,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Where it listens.
    pub address: Bind,
    /// Whether TLS is spoken, and with which certificates.
    pub tls: Option<TlsCell>,
    /// Whether each connection begins with a PROXY protocol header, which it then has to, and only
    /// from a listed proxy.
    pub proxy_protocol: bool,
    /// The name that routes are bound to it by.
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

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// What systemd passed under this name.
    Systemd(String),
}

/// Limits on what clients send and hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A request's line and fields together, in bytes.
    pub request_head_bytes: usize,
    /// How many fields a request may have.
    pub header_count: usize,
    /// A request's target, in bytes.
    pub uri_bytes: usize,
    /// How many bytes the heads that are not whole yet may have, of all clients together. Beyond that,
    /// the oldest are refused.
    pub unfinished_head_bytes: usize,
    /// The same for one client address.
    pub unfinished_head_bytes_per_client: usize,
    /// Maximum concurrent connections of all workers. `None`: 20 000, or fewer if fewer files may be open.
    pub connections: Option<usize>,
    /// How many connections an address may have, an IPv6 network of 64 bits being one, over all
    /// workers; listed proxies may have any number.
    pub connections_per_client: usize,
    /// How many requests a connection may carry before it ends.
    pub requests_per_connection: usize,
    /// How long a client may take over the PROXY protocol's header and a TLS handshake together.
    pub handshake: Duration,
    /// How long a client may take to send a request's head.
    pub head_read: Duration,
    /// How long a kept-alive connection may stay without a request.
    pub keep_alive_idle: Duration,
    /// How many requests an HTTP/2 connection may have under way.
    pub http2_streams: u32,
    /// How many more requests than it lets be answered the client of an HTTP/2 connection may take
    /// back, before the connection ends.
    pub http2_resets: u32,
    /// How many frames a second that carry no part of a request (PING, SETTINGS, PRIORITY and the
    /// like) the client of an HTTP/2 connection may send beyond what its traffic explains.
    pub http2_control_frames: u32,
    /// How much of all responses waits in memory for the client of an HTTP/2 connection, in bytes,
    /// beyond one piece of each.
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

/// How a stop is gone about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// How long connections are still accepted after `/readyz` says 503, so that balancers notice.
    pub delay: Duration,
    /// After how long what is still under way is cut.
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
    /// An address cannot be listened on.
    #[error("cannot listen on {address} (`listen.address` or --listen)")]
    Bind {
        /// The address.
        address: Bind,
        /// What the operating system said.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a worker thread")]
    Thread(#[source] io::Error),
}
