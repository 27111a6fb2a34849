//! Threads and sockets: a current-thread runtime per worker. Workers share the counts behind limits on
//! connections and unfinished heads, and nothing else that a request writes to.
//!
//! Binds first, serves later: [`Server::bind`] binds all addresses or none. May use `proxy` and
//! `metrics`.

mod accept_backoff;
mod admission;
mod bound_socket;
mod by_descriptor;
mod connection;
mod connection_limit;
mod drain;
mod end_signal;
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod handshake_log;
mod head_budget;
mod head_reader;
mod heartbeat;
mod http1_server;
mod http2;
mod lingering_close;
mod listen_endpoints;
mod listener;
mod overload;
mod per_client;
mod prefixed;
mod proxy_protocol;
mod rlimit;
mod settings;
pub mod socket;
mod systemd_sockets;
pub mod tls;
mod worker;

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tokio::sync::mpsc;

use crate::metrics::{Metrics, Worker};
use crate::net::listener_id::ListenerId;
use crate::routing::snapshot::Current;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::live::LiveFeed;
use crate::telemetry::traces::Traces;

use connection_limit::ConnectionLimit;
use drain::{Drain, Phase};
use handshake::Handshake;
use listener::BoundListener;
use per_client::PerClient;
use socket::{Claim, SocketFile};

pub use heartbeat::Heartbeats;
pub use settings::{Bind, DrainSettings, Limits, ListenerSettings, Settings, StartError};

/// How long a worker may take to end after its connections were cut.
const LAST_TURN: Duration = Duration::from_secs(2);

/// All addresses are bound, but not served yet.
#[derive(Debug)]
pub struct Bound {
    settings: Settings,
    /// The maximum number of concurrent connections.
    connections: usize,
    listeners: Vec<(ListenerSettings, BoundListener)>,
    live: Option<LiveFeed>,
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

/// The result of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The number of connections that were cut at the deadline.
    pub cut: usize,
}

impl Server {
    /// Binds every address, once for each worker; `claim` says which may be bound. Raises the
    /// limit on open files first.
    ///
    /// # Errors
    ///
    /// [`StartError::Bind`] for the first unavailable address; the others are released.
    pub fn bind(settings: &Settings, claim: Claim) -> Result<Bound, StartError> {
        let connections = rlimit::connections(settings.limits.connections);
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
            live: None,
        })
    }

    /// Stops: serves on for the drain's delay, then closes every listener and waits for requests
    /// under way, up to the deadline.
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
                            tracing::error!("a worker thread is blocked; exiting without it");
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

    /// The workers' heartbeats.
    #[must_use]
    pub fn heartbeats(&self) -> Heartbeats {
        self.heartbeats.clone()
    }

    /// Resolves when a worker ends unexpectedly: the server cannot continue.
    pub async fn failed(&mut self) -> io::Error {
        match self.ended.recv().await {
            Some(Err(error)) => error,
            Some(Ok(_)) | None => io::Error::other("a worker thread ended"),
        }
    }
}

impl Bound {
    /// The listeners' addresses, with the ports that the system chose.
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

    /// The same for the listeners in explanations of the console.
    #[must_use]
    pub fn with_live(mut self, feed: LiveFeed) -> Self {
        self.live = Some(feed);
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// [`StartError::Thread`] if the system cannot start a thread.
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
        let connections = ConnectionLimit::new(self.connections);
        let clients = PerClient::new(limits.connections_per_client);
        let heads = limits.head_budget();
        metrics.connections_limit(self.connections);
        let mut sockets_of: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        let mut files = Vec::new();
        let heartbeats = Heartbeats::new(workers);
        for (settings, bound) in self.listeners {
            let handshake = Handshake {
                listener: bound.address.to_string(),
                tls: settings.tls,
                proxy_protocol: settings.proxy_protocol,
                id: ListenerId::of(settings.name.as_deref()),
                is_shared: matches!(bound.address, Bind::Systemd(_)),
            };
            if let Some(cell) = &handshake.tls {
                cell.show_in(&metrics, &handshake.listener);
            }
            files.extend(bound.file);
            for (sockets, socket) in sockets_of.iter_mut().zip(bound.sockets) {
                sockets.push((handshake.clone(), socket));
            }
        }
        for (index, sockets) in sockets_of.into_iter().enumerate() {
            let start = worker::Start {
                worker: Worker(index),
                sockets,
                limits: self.settings.limits.clone(),
                connections: Arc::clone(&connections),
                clients: Arc::clone(&clients),
                heads: Arc::clone(&heads),
                current: Arc::clone(&current),
                metrics: Arc::clone(&metrics),
                access_log: access_log.map(AccessLog::logger),
                tracer: traces.map(Traces::tracer),
                live: self.live.clone(),
                drain: signal.clone(),
                heartbeat: heartbeats.of(index),
            };
            let done = done.clone();
            thread::Builder::new()
                .name(format!("s3cors-worker-{index}"))
                .spawn(move || {
                    // The receiver is gone only when the process is ending.
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
