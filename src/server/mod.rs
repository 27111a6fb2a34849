//! Threads and sockets: a current-thread runtime per worker, nothing shared that is written to.
//!
//! Bind first, serve later: [`Server::bind`] takes every address or none. May use `proxy` and
//! `metrics`.

mod admission;
mod by_descriptor;
mod connection;
mod descriptors;
mod drain;
mod entrance;
mod entrances;
#[doc(hidden)]
pub mod fuzzing;
mod handshake_log;
mod heartbeat;
mod http1_server;
mod http2;
mod inherited;
mod linger;
mod listener;
mod no_room;
mod per_client;
mod prefixed;
mod proxy_protocol;
mod shortage;
pub mod socket;
pub mod tls;
mod wait;
mod worker;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::metrics::Worker;
use crate::proxy::access_log::AccessLog;
use crate::proxy::listener_id::ListenerId;
use crate::proxy::snapshot::Current;
use crate::proxy::traces::Traces;

use drain::{Drain, Phase};
use entrance::Entrance;
use listener::BoundListener;
use socket::{Claim, SocketFile};
use tls::TlsCell;

pub use heartbeat::Heartbeats;

/// How long a worker may take to end once its connections were cut.
const LAST_TURN: Duration = Duration::from_secs(2);

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
    /// How many connections are held at a time; each worker has its share. `None`: 20 000, or fewer
    /// where fewer files may be open.
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

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_head_bytes: 64 * 1024,
            header_count: 100,
            uri_bytes: 32 * 1024,
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
#[derive(Debug, Error)]
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

/// Every address bound, nobody served yet.
#[derive(Debug)]
pub struct Bound {
    settings: Settings,
    /// How many connections are held at a time.
    connections: usize,
    listeners: Vec<(ListenerSettings, BoundListener)>,
}

/// The running data plane.
#[derive(Debug)]
pub struct Server {
    drain: Drain,
    settings: DrainSettings,
    workers: usize,
    ended: mpsc::UnboundedReceiver<io::Result<usize>>,
    heartbeats: Heartbeats,
    #[expect(dead_code, reason = "removed when dropped")]
    files: Vec<SocketFile>,
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut at the deadline.
    pub cut: usize,
}

impl Server {
    /// Binds every address, once for each worker; `claim` says whose they may be. Before that, the
    /// process may have as many files open as it can.
    ///
    /// # Errors
    ///
    /// [`StartError::Bind`] for the first address that cannot be had; the others are free again.
    pub fn bind(settings: &Settings, claim: Claim) -> Result<Bound, StartError> {
        let connections = descriptors::connections(settings.limits.connections);
        let mut listeners = Vec::with_capacity(settings.listeners.len());
        for listener in &settings.listeners {
            let workers = settings.workers.max(1);
            let bound = BoundListener::bind(&listener.address, workers, claim)?;
            listeners.extend(bound.into_iter().map(|bound| (listener.clone(), bound)));
        }
        Ok(Bound {
            settings: settings.clone(),
            connections,
            listeners,
        })
    }

    /// Stops: goes on for the drain's delay, then closes every listener and waits for what is
    /// under way, until the deadline.
    pub async fn drain(mut self) -> Drained {
        self.drain.set(Phase::Draining);
        tokio::time::sleep(self.settings.delay).await;
        self.drain.set(Phase::Closing);
        let deadline = tokio::time::Instant::now() + self.settings.deadline;
        let mut cut = 0;
        let mut ended = 0;
        while ended < self.workers {
            let result = tokio::select! {
                result = self.ended.recv() => result,
                () = tokio::time::sleep_until(deadline) => {
                    self.drain.set(Phase::Cut);
                    match tokio::time::timeout(LAST_TURN, self.ended.recv()).await {
                        Ok(result) => result,
                        Err(_) => {
                            tracing::error!("a worker thread is blocked: not waiting for it any longer");
                            break;
                        }
                    }
                }
            };
            match result {
                Some(Ok(left)) => cut += left,
                Some(Err(error)) => tracing::error!(%error, "a worker failed"),
                None => break,
            }
            ended += 1;
        }
        Drained { cut }
    }

    /// Tells which workers still turn their loops.
    #[must_use]
    pub fn heartbeats(&self) -> Heartbeats {
        self.heartbeats.clone()
    }

    /// Ends when a worker ends that was not told to: it cannot go on.
    pub async fn failed(&mut self) -> io::Error {
        match self.ended.recv().await {
            Some(Err(error)) => error,
            Some(Ok(_)) | None => io::Error::other("a worker thread ended"),
        }
    }
}

impl Bound {
    /// Where it listens, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<Bind> {
        let listeners = self.listeners.iter();
        listeners.map(|(_, bound)| bound.address.clone()).collect()
    }

    /// The URL of each listener: `http://127.0.0.1:8080`, `https://…` or `unix:…`.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let urls = self.listeners.iter().map(|(settings, bound)| {
            let scheme = match (&bound.address, &settings.tls) {
                (Bind::Unix(_) | Bind::Systemd(_), _) => "",
                (Bind::Tcp(_), None) => "http://",
                (Bind::Tcp(_), Some(_)) => "https://",
            };
            format!("{scheme}{}", bound.address)
        });
        urls.collect()
    }

    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// [`StartError::Thread`] where the system has no thread for one.
    pub fn serve(
        self,
        current: Arc<Current>,
        metrics: Arc<Metrics>,
        access_log: Option<&AccessLog>,
        traces: Option<&Traces>,
    ) -> Result<Server, StartError> {
        let (drain, signal) = Drain::new();
        let (done, ended) = mpsc::unbounded_channel();
        let workers = self.settings.workers.max(1);
        let limits = &self.settings.limits;
        let connections = self.connections.div_ceil(workers);
        let connections_per_client = limits.connections_per_client.div_ceil(workers);
        metrics.connections_limit(connections * workers);
        let mut sockets_of: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        let mut files = Vec::new();
        let heartbeats = Heartbeats::new(workers);
        for (settings, bound) in self.listeners {
            let entrance = Entrance {
                listener: bound.address.to_string(),
                tls: settings.tls,
                proxy_protocol: settings.proxy_protocol,
                id: ListenerId::of(settings.name.as_deref()),
                is_shared: matches!(bound.address, Bind::Systemd(_)),
            };
            if let Some(cell) = &entrance.tls {
                cell.show_in(&metrics, &entrance.listener);
            }
            files.extend(bound.file);
            for (sockets, socket) in sockets_of.iter_mut().zip(bound.sockets) {
                sockets.push((entrance.clone(), socket));
            }
        }
        for (index, sockets) in sockets_of.into_iter().enumerate() {
            let start = worker::Start {
                worker: Worker(index),
                sockets,
                limits: self.settings.limits.clone(),
                connections,
                connections_per_client,
                current: Arc::clone(&current),
                metrics: Arc::clone(&metrics),
                access_log: access_log.map(AccessLog::logger),
                tracer: traces.map(Traces::tracer),
                drain: signal.clone(),
                heartbeat: heartbeats.of(index),
            };
            let done = done.clone();
            thread::Builder::new()
                .name(format!("s3cors-worker-{index}"))
                .spawn(move || {
                    // Nobody listens any more only when the process is ending.
                    let _ = done.send(worker::run(start));
                })
                .map_err(StartError::Thread)?;
        }
        Ok(Server {
            drain,
            settings: self.settings.drain,
            workers,
            ended,
            heartbeats,
            files,
        })
    }
}
