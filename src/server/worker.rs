//! One thread: a runtime, an accept loop for each listener, and the connections they bring.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::metrics::Gauge;
use crate::metrics::Metrics;
use crate::metrics::Worker;
use crate::proxy::HeadLimits;
use crate::proxy::Proxy;
use crate::proxy::access_log::AccessLogger;
use crate::proxy::snapshot::Current;
use crate::proxy::traces::Tracer;

use super::Limits;
use super::connection::Protocols;
use super::drain::DrainSignal;
use super::entrance::Entrance;
use super::listener::{Accepted, BoundSocket, Listener};

/// How often what is apart from any request is done.
const TICK: Duration = Duration::from_secs(1);

/// How long to wait after the system has no descriptor or memory left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a client gets when there is no room for its connection.
const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What a worker's thread is started with.
pub(super) struct Start {
    pub(super) worker: Worker,
    pub(super) sockets: Vec<(Entrance, BoundSocket)>,
    pub(super) limits: Limits,
    /// This worker's share of the connections.
    pub(super) connections: usize,
    pub(super) current: Arc<Current>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) access_log: Option<AccessLogger>,
    pub(super) tracer: Option<Tracer>,
    pub(super) drain: DrainSignal,
}

/// Runs a worker to the end of the drain. Returns how many connections were cut.
pub(super) fn run(start: Start) -> io::Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(start))
}

/// What the connections of one worker share.
struct Shared {
    worker: Worker,
    protocols: Protocols,
    proxy: Rc<Proxy>,
    metrics: Arc<Metrics>,
    room: usize,
    drain: DrainSignal,
}

async fn serve(start: Start) -> io::Result<usize> {
    let limits = HeadLimits {
        uri_bytes: start.limits.uri_bytes,
        head_bytes: start.limits.request_head_bytes,
        header_count: start.limits.header_count,
    };
    let shared = Rc::new(Shared {
        worker: start.worker,
        protocols: Protocols::new(&start.limits, &start.metrics),
        proxy: Rc::new(Proxy::new(
            start.worker,
            limits,
            start.current,
            &start.metrics,
            start.access_log,
            start.tracer,
        )),
        metrics: Arc::clone(&start.metrics),
        room: start.connections,
        drain: start.drain.clone(),
    });
    let open = Rc::new(());
    let mut listeners = JoinSet::new();
    for (entrance, socket) in start.sockets {
        let gauge = start.metrics.listener(&entrance.listener);
        let listener = Listener::new(socket)?;
        let (shared, open) = (Rc::clone(&shared), Rc::clone(&open));
        listeners.spawn_local(accept(listener, Rc::new(entrance), gauge, shared, open));
    }
    let proxy = Rc::clone(&shared.proxy);
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(TICK).await;
            proxy.tick();
        }
    });
    let mut left = 0;
    while let Some(result) = listeners.join_next().await {
        let mut connections = result.map_err(io::Error::other)?;
        let emptied = async { while connections.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = emptied => {}
            () = start.drain.cut() => {}
        }
        left += connections.len();
    }
    tokio::select! {
        biased;
        () = shared.proxy.tunnels_ended() => {}
        () = start.drain.cut() => {}
    }
    Ok(left + shared.proxy.tunnels())
}

/// Accepts until closing, and then whoever waits already: a queue that is closed unread is reset
/// connections. Returns the connections that are still open.
async fn accept(
    listener: Listener,
    entrance: Rc<Entrance>,
    gauge: Gauge,
    shared: Rc<Shared>,
    open: Rc<()>,
) -> JoinSet<()> {
    let mut hall = Hall {
        entrance,
        gauge,
        shared: Rc::clone(&shared),
        open,
        connections: JoinSet::new(),
    };
    let mut closing = pin!(shared.drain.closing());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut closing => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => hall.admit(accepted).await,
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections for now");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Who waits in a socket that is not ours alone is left to whoever comes after us.
    if !hall.entrance.is_shared {
        for accepted in listener.into_waiting() {
            hall.admit(accepted).await;
        }
    }
    hall.connections
}

/// A listener's connections.
struct Hall {
    entrance: Rc<Entrance>,
    gauge: Gauge,
    shared: Rc<Shared>,
    open: Rc<()>,
    connections: JoinSet<()>,
}

impl Hall {
    async fn admit(&mut self, accepted: Accepted) {
        while let Some(ended) = self.connections.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                self.shared.metrics.panicked();
            }
        }
        if Rc::strong_count(&self.open) > self.shared.room {
            return refuse(accepted, &self.entrance).await;
        }
        let (entrance, shared) = (Rc::clone(&self.entrance), Rc::clone(&self.shared));
        let (gauge, open) = (self.gauge.clone(), Rc::clone(&self.open));
        self.connections.spawn_local(async move {
            let _open = Open::new(gauge, shared.worker, open);
            converse(accepted, &entrance, &shared).await;
        });
    }
}

/// A connection as it is counted: gone when dropped, by a panic too.
struct Open {
    gauge: Gauge,
    worker: Worker,
    /// The worker's own count of them.
    _one: Rc<()>,
}

impl Open {
    fn new(gauge: Gauge, worker: Worker, one: Rc<()>) -> Self {
        gauge.inc(worker);
        Self {
            gauge,
            worker,
            _one: one,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec(self.worker);
    }
}

async fn converse(accepted: Accepted, entrance: &Entrance, shared: &Shared) {
    let protocols = &shared.protocols;
    let (proxy, drain) = (Rc::clone(&shared.proxy), shared.drain.clone());
    match accepted {
        Accepted::Tcp(stream, address) => {
            let address = Some(address.ip());
            let served = entrance.serve(stream, address, protocols, proxy, drain);
            served.await;
        }
        Accepted::Unix(stream) => {
            let served = entrance.serve(stream, None, protocols, proxy, drain);
            served.await;
        }
    }
}

async fn refuse(accepted: Accepted, entrance: &Entrance) {
    if entrance.tls.is_some() {
        // Whoever waits for a handshake could not read it.
        return;
    }
    // Whether it arrives is not waited for: there is no room.
    let _ = match accepted {
        Accepted::Tcp(mut stream, _) => stream.write_all(NO_ROOM).await,
        Accepted::Unix(mut stream) => stream.write_all(NO_ROOM).await,
    };
}

/// The client left before it was accepted: the next one is fine.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
