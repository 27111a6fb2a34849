//! A worker thread: a runtime, an accept loop for each listener, and their connections.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::http1::request_head::HeadLimits;
use crate::metrics::{Metrics, Worker};
use crate::net::descriptor_reserve;
use crate::proxy::Proxy;
use crate::routing::snapshot::Current;
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::live::LiveFeed;
use crate::telemetry::traces::Tracer;

use super::accept_backoff::{Shortage, is_about_one_connection};
use super::admission::Admission;
use super::bound_socket::BoundSocket;
use super::by_descriptor::{ByDescriptor, Retired};
use super::connection::Protocols;
use super::connection_limit::{ConnectionLimit, CountedConnection};
use super::drain::DrainSignal;
use super::end_signal::EndSignal;
use super::handshake::Handshake;
use super::head_budget::HeadBudget;
use super::heartbeat::Heartbeat;
use super::listener::{Accepted, Listener, Socket};
use super::per_client::PerClient;
use super::{Limits, handshake_log, overload};

/// The interval of periodic work.
const TICK: Duration = Duration::from_secs(1);

/// The pause after the system has run out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a request may continue if its connection's descriptor is in the reserve.
const RETIRED_PATIENCE: Duration = Duration::from_secs(5);

/// The most refused clients that each worker waits for; others get the 503 without a wait.
const REFUSED_AT_ONCE: usize = 1_000;

/// The arguments of a worker's thread.
pub(super) struct Start {
    pub(super) worker: Worker,
    pub(super) sockets: Vec<(Handshake, BoundSocket)>,
    pub(super) limits: Limits,
    /// Shared by all workers, as are the next two.
    pub(super) connections: Arc<ConnectionLimit>,
    pub(super) clients: Arc<PerClient>,
    pub(super) heads: Arc<HeadBudget>,
    pub(super) current: Arc<Current>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) access_log: Option<AccessLogger>,
    pub(super) tracer: Option<Tracer>,
    pub(super) live: Option<LiveFeed>,
    pub(super) drain: DrainSignal,
    pub(super) heartbeat: Heartbeat,
}

/// Runs a worker until the end of the drain. Returns how many connections were cut.
pub(super) fn run(start: Start) -> io::Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(tokio::runtime::LocalOptions::default())?;
    let heartbeat = start.heartbeat.clone();
    start.metrics.show_worker(start.worker, runtime.handle());
    let served = runtime.block_on(serve(start));
    heartbeat.end();
    // Does not wait for name lookups that still block a thread.
    runtime.shutdown_background();
    served
}

/// Shared by a worker's connections.
struct Shared {
    worker: Worker,
    protocols: Protocols,
    proxy: Rc<Proxy>,
    metrics: Arc<Metrics>,
    connections: Arc<ConnectionLimit>,
    by_descriptor: ByDescriptor,
    /// The start of the reserve when this worker last checked.
    reserve_begins: Cell<RawFd>,
    /// The deadline of requests on connections with a descriptor in the reserve.
    retired_until: Cell<Option<Instant>>,
    clients: Arc<PerClient>,
    /// How many clients a 503 is being sent to.
    refused: Cell<usize>,
    drain: DrainSignal,
}

impl Shared {
    fn new(start: Start) -> Self {
        let limits = HeadLimits {
            uri_bytes: start.limits.uri_bytes,
            head_bytes: start.limits.request_head_bytes,
            header_count: start.limits.header_count,
        };
        Self {
            worker: start.worker,
            protocols: Protocols::new(&start.limits, start.heads, &start.metrics),
            proxy: Rc::new(
                Proxy::new(
                    start.worker,
                    limits,
                    start.current,
                    &start.metrics,
                    start.access_log,
                    start.tracer,
                )
                .with_live(start.live.as_ref()),
            ),
            metrics: start.metrics,
            connections: start.connections,
            by_descriptor: ByDescriptor::default(),
            reserve_begins: Cell::new(descriptor_reserve::reserved().start),
            retired_until: Cell::new(None),
            clients: start.clients,
            refused: Cell::new(0),
            drain: start.drain,
        }
    }
}

impl Shared {
    /// Ends the connections with a descriptor in the reserve: idle ones at once, the others after
    /// the current request, which has a time limit. There are none unless the limit on open files
    /// was lowered.
    fn keep_reserve(&self) {
        descriptor_reserve::read_limit();
        let reserved = descriptor_reserve::reserved();
        if self.reserve_begins.replace(reserved.start) <= reserved.start {
            if self.retired_until.get().is_some() {
                self.by_descriptor.keep_outside(&reserved);
                self.close_retired();
            }
            return;
        }
        let limit = reserved.end;
        let Retired { idle, busy } = self.by_descriptor.retire(reserved);
        if busy > 0 {
            let until = Instant::now() + RETIRED_PATIENCE;
            self.retired_until.set(Some(until));
        }
        if idle + busy > 0 {
            tracing::warn!(
                limit,
                closed = idle,
                closing = busy,
                "the limit on open files was lowered: connections are closed to keep a reserve of descriptors for the admin listener"
            );
        }
    }

    /// Closes retired connections whose last request takes too long.
    fn close_retired(&self) {
        let is_over = |until: Instant| until <= Instant::now();
        if self.retired_until.get().is_some_and(is_over) {
            self.retired_until.set(None);
            let closed = self.by_descriptor.close_retired();
            if closed > 0 {
                tracing::warn!(
                    closed,
                    "connections were closed during a request to keep a reserve of descriptors for the admin listener"
                );
            }
        }
    }
}

async fn serve(mut start: Start) -> io::Result<usize> {
    let sockets = std::mem::take(&mut start.sockets);
    let heartbeat = start.heartbeat.clone();
    let shared = Rc::new(Shared::new(start));
    let mut listeners = JoinSet::new();
    for (handshake, socket) in sockets {
        let accept_loop = AcceptLoop::new(handshake, &shared);
        listeners.spawn_local(accept_loop.accept(Listener::new(socket)?));
    }
    let for_ticks = Rc::clone(&shared);
    tokio::task::spawn_local(async move {
        loop {
            heartbeat.beat();
            tokio::time::sleep(TICK).await;
            #[cfg(debug_assertions)]
            heartbeat.block_for_test();
            for_ticks.proxy.tick();
            for_ticks.keep_reserve();
            handshake_log::summarise(Instant::now());
        }
    });
    let mut left = 0;
    while let Some(result) = listeners.join_next().await {
        let mut connections = result.map_err(io::Error::other)?;
        let emptied = async { while connections.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = emptied => {}
            () = shared.drain.cut() => {}
        }
        left += connections.len();
    }
    Ok(left)
}

/// The accept loop of a listener.
struct AcceptLoop {
    handshake: Rc<Handshake>,
    admission: Rc<Admission>,
    shared: Rc<Shared>,
    connections: JoinSet<()>,
    shortage: Shortage,
}

impl AcceptLoop {
    fn new(handshake: Handshake, shared: &Rc<Shared>) -> Self {
        Self {
            admission: Rc::new(Admission {
                worker: shared.worker,
                listener: shared.metrics.listener(&handshake.listener),
                clients: Arc::clone(&shared.clients),
            }),
            handshake: Rc::new(handshake),
            shared: Rc::clone(shared),
            connections: JoinSet::new(),
            shortage: Shortage::default(),
        }
    }

    /// Accepts until closing, then also the connections already in the queue: closing an unread
    /// queue would reset them. Returns the connections that are still open.
    async fn accept(mut self, listener: Listener) -> JoinSet<()> {
        let drain = self.shared.drain.clone();
        let mut closing = pin!(drain.closing());
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut closing => break,
                // A finished task stays in the set until it is joined.
                Some(_) = self.connections.join_next() => continue,
                accepted = listener.accept() => accepted.inspect(|_| self.admission.accepted()),
            };
            match accepted {
                Ok(accepted) if accepted.is_in_reserve() => {
                    self.shortage_met(&rustix::io::Errno::MFILE.into());
                    self.refuse_in_passing(&accepted);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                Ok(accepted) => {
                    if let Some(failures) = self.shortage.accepted(Instant::now) {
                        let listener = &self.handshake.listener;
                        tracing::info!(listener, failures, "connections are accepted again");
                    }
                    self.admit(accepted);
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    self.shortage_met(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // The queue of a shared socket is left to the process that shares it.
        if !self.handshake.is_shared {
            for accepted in listener.into_waiting() {
                self.admission.accepted();
                self.admit(accepted);
            }
        }
        self.connections
    }

    /// Logs a shortage when it begins.
    fn shortage_met(&mut self, error: &io::Error) {
        if self.shortage.met(Instant::now()) {
            let listener = &self.handshake.listener;
            tracing::warn!(listener, %error, "cannot accept connections");
        }
    }

    fn admit(&mut self, accepted: Accepted) {
        let Some(counted) = self.shared.connections.count() else {
            self.admission.is_full();
            return self.refuse(accepted);
        };
        let descriptor = accepted.descriptor();
        match accepted {
            Accepted::Tcp(stream, address) => {
                self.converse(descriptor, counted, stream, Some(address.ip()));
            }
            Accepted::Unix(stream) => self.converse(descriptor, counted, stream, None),
        }
    }

    fn converse<S: Socket>(
        &mut self,
        descriptor: RawFd,
        counted: CountedConnection,
        stream: S,
        address: Option<IpAddr>,
    ) {
        let (handshake, shared) = (Rc::clone(&self.handshake), Rc::clone(&self.shared));
        self.spawn(descriptor, counted, |open| async move {
            let protocols = &shared.protocols;
            let (proxy, admission) = (&shared.proxy, &open.admission);
            let end = EndSignal::new(&shared.drain, &shared.by_descriptor, descriptor);
            let served = handshake.serve(stream, address, admission, protocols, proxy, &end);
            served.await;
        });
    }

    /// Runs a connection, which holds its counts.
    fn spawn<F: Future<Output = ()> + 'static>(
        &mut self,
        descriptor: RawFd,
        counted: CountedConnection,
        conversation: impl FnOnce(OpenConns) -> F,
    ) {
        let open = OpenConns::new(&self.shared, &self.admission, descriptor, counted);
        let task = self.connections.spawn_local(conversation(open));
        self.shared.by_descriptor.add(descriptor, task);
    }

    /// Answers that there is no capacity, and closes.
    fn refuse(&self, accepted: Accepted) {
        // A client that waits for a handshake could not read it.
        if self.handshake.tls.is_some() {
            return;
        }
        let shared = Rc::clone(&self.shared);
        if shared.refused.get() >= REFUSED_AT_ONCE {
            return self.refuse_in_passing(&accepted);
        }
        shared.refused.set(shared.refused.get() + 1);
        tokio::task::spawn_local(async move {
            match accepted {
                Accepted::Tcp(stream, _) => overload::tell(stream).await,
                Accepted::Unix(stream) => overload::tell(stream).await,
            }
            shared.refused.set(shared.refused.get() - 1);
        });
    }

    /// Answers that there is no capacity, without waiting for the client to read it.
    fn refuse_in_passing(&self, accepted: &Accepted) {
        // A client that waits for a handshake could not read it.
        if self.handshake.tls.is_some() {
            return;
        }
        match accepted {
            Accepted::Tcp(stream, _) => overload::tell_in_passing(stream),
            Accepted::Unix(stream) => overload::tell_in_passing(stream),
        }
    }
}

/// A counted connection: the count drops with it, even on a panic.
struct OpenConns {
    shared: Rc<Shared>,
    admission: Rc<Admission>,
    descriptor: RawFd,
    _counted: CountedConnection,
}

impl OpenConns {
    fn new(
        shared: &Rc<Shared>,
        admission: &Rc<Admission>,
        descriptor: RawFd,
        counted: CountedConnection,
    ) -> Self {
        admission.opened();
        Self {
            _counted: counted,
            shared: Rc::clone(shared),
            admission: Rc::clone(admission),
            descriptor,
        }
    }
}

impl Drop for OpenConns {
    fn drop(&mut self) {
        self.shared.by_descriptor.remove(self.descriptor);
        self.admission.closed();
        if std::thread::panicking() {
            self.shared.metrics.panicked();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as StdUnixStream;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use crate::routing::snapshot::Snapshot;

    use super::*;
    use crate::server::drain::Drain;
    use crate::server::heartbeat::Heartbeats;

    /// The client's end, and the accepted connection.
    fn connection() -> (UnixStream, Accepted) {
        let (client, accepted) = StdUnixStream::pair().unwrap();
        let tokio = |stream: StdUnixStream| {
            stream.set_nonblocking(true).unwrap();
            UnixStream::from_std(stream).unwrap()
        };
        (tokio(client), Accepted::Unix(tokio(accepted)))
    }

    #[test]
    fn a_panic_costs_one_connection_and_is_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let metrics = Metrics::new(1);
            let current = Arc::new(Current::new(Snapshot::default()));
            let (_drain, drain) = Drain::new();
            let shared = Rc::new(Shared::new(Start {
                worker: Worker(0),
                sockets: Vec::new(),
                limits: Limits::default(),
                connections: ConnectionLimit::new(10),
                clients: PerClient::new(10),
                heads: HeadBudget::new(1 << 20, 1 << 20),
                current,
                metrics: Arc::clone(&metrics),
                access_log: None,
                tracer: None,
                live: None,
                drain,
                heartbeat: Heartbeats::new(1).of(0),
            }));
            let handshake = Handshake {
                listener: "test".to_owned(),
                tls: None,
                proxy_protocol: false,
                id: Default::default(),
                is_shared: false,
            };
            let mut accept_loop = AcceptLoop::new(handshake, &shared);
            let counted = shared.connections.count().unwrap();
            accept_loop.spawn(1000, counted, |open| async move {
                let _open = open;
                std::panic::panic_any("a bug")
            });
            let (mut client, accepted) = connection();
            accept_loop.admit(accepted);
            assert!(
                metrics
                    .encode()
                    .contains("s3cors_connections{listener=\"test\"} 2")
            );

            let lost = accept_loop.connections.join_next().await.unwrap();
            assert!(lost.unwrap_err().is_panic());
            let request = b"GET / HTTP/1.1\r\nHost: nobody.example\r\nConnection: close\r\n\r\n";
            client.write_all(request).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
            accept_loop.connections.join_next().await.unwrap().unwrap();
            let counted = metrics.encode();
            assert!(counted.contains("s3cors_panics_total 1"), "{counted}");
            assert!(
                counted.contains("s3cors_connections{listener=\"test\"} 0"),
                "{counted}"
            );
        });
    }
}
