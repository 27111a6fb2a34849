//! The small HTTP/1.1 servers of the demo: its store and its page.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The most connections of one server. A further client waits until one closes.
const MAX_CONNECTIONS: usize = 64;

/// How long to wait after an error before accepting again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server of the demo answers.
pub(super) trait Site {
    /// The response to a request.
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>>;
}

/// An address of the demo cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address} for the {what} ({flag})")]
pub(super) struct BindError {
    what: &'static str,
    flag: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// A socket of the demo, and the names that errors have for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint {
    /// What listens there.
    pub(super) what: &'static str,
    /// The flag that moves it.
    pub(super) flag: &'static str,
    /// Its default port; 0: any.
    pub(super) port: u16,
}

impl Endpoint {
    /// Listens on `address`, if there is one. Otherwise on the default port of this machine's loopback
    /// address, or on a free port if that one is taken.
    pub(super) fn listen(self, address: Option<SocketAddr>) -> Result<TcpListener, BindError> {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let wanted = address.unwrap_or_else(|| loopback(self.port));
        let listener = bind(wanted).or_else(|error| match address {
            None if error.kind() == io::ErrorKind::AddrInUse => bind(loopback(0)),
            _ => Err(error),
        });
        listener.map_err(|source| BindError {
            what: self.what,
            flag: self.flag,
            address: wanted,
            source,
        })
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves a site on the runtime that polls it, until dropped.
pub(super) async fn serve(listener: TcpListener, site: impl Site + 'static) -> Infallible {
    let site = Rc::new(site);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            // A client that left at once, or no descriptors for a moment.
            Err(error) => {
                tracing::warn!(%error, "the demo cannot accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        let site = Rc::clone(&site);
        connections.spawn_local(async move {
            let service =
                service_fn(|request| async { Ok::<_, Infallible>(site.answer(request).await) });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of the demo failed");
            }
        });
    }
}
