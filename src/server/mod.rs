//! Threads and sockets: a current-thread runtime per worker, nothing shared that is written to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
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
    /// How many connections a listener holds at a time, over all workers.
    pub connections: usize,
    /// How long a client may take to send a request's head.
    pub head_read: Duration,
    /// How long a kept-alive connection may stay without a request.
    pub keep_alive_idle: Duration,
    /// How many requests an HTTP/2 connection may have under way.
    pub http2_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_head_bytes: 64 * 1024,
            header_count: 100,
            uri_bytes: 32 * 1024,
            connections: 20_000,
            head_read: Duration::from_secs(30),
            keep_alive_idle: Duration::from_secs(75),
            http2_streams: 128,
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
