//! Listening sockets: bound before anything serves, closed without dropping connections in the backlog.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::net::client_stream::ClientStream;
use crate::net::descriptor_reserve;

use super::bound_socket::BoundSocket;
use super::socket::{BACKLOG, Claim, SocketFile};
use super::{Bind, StartError, socket, systemd_sockets};

/// One address, bound once for each worker.
#[derive(Debug)]
pub(super) struct BoundListener {
    /// The actual address, with the port that the system chose for port 0.
    pub(super) address: Bind,
    /// One for each worker.
    pub(super) sockets: Vec<BoundSocket>,
    /// The file of a Unix socket.
    pub(super) file: Option<SocketFile>,
}

impl BoundListener {
    /// Binds an address; systemd may pass several sockets under one name.
    pub(super) fn bind(
        address: &Bind,
        workers: usize,
        claim: Claim,
    ) -> Result<Vec<Self>, StartError> {
        match address {
            Bind::Tcp(address) => bind_tcp(*address, workers, claim).map(|bound| vec![bound]),
            Bind::Unix(path) => bind_unix(path, workers, claim).map(|bound| vec![bound]),
            Bind::Systemd(name) => take_over(name, workers),
        }
        .map_err(|source| StartError::Bind {
            address: address.clone(),
            source,
        })
    }
}

/// All workers accept from one socket, which systemd shares.
fn take_over(name: &str, workers: usize) -> io::Result<Vec<BoundListener>> {
    let passed = systemd_sockets::sockets(name, workers)?.into_iter();
    let bound = passed.map(|sockets| BoundListener {
        address: Bind::Systemd(name.to_owned()),
        sockets,
        file: None,
    });
    Ok(bound.collect())
}

/// Each worker has its own socket on the same port; the kernel distributes connections.
fn bind_tcp(address: SocketAddr, workers: usize, claim: Claim) -> io::Result<BoundListener> {
    let first = socket::tcp(address, claim)?;
    let address = first.local_addr()?;
    let mut sockets = vec![BoundSocket::Tcp(first)];
    for _ in 1..workers {
        sockets.push(BoundSocket::Tcp(socket::tcp(address, Claim::Shared)?));
    }
    Ok(BoundListener {
        address: Bind::Tcp(address),
        sockets,
        file: None,
    })
}

/// All workers accept from one socket: Unix sockets cannot share a path.
fn bind_unix(path: &Path, workers: usize, claim: Claim) -> io::Result<BoundListener> {
    let (first, file) = socket::unix(path, claim)?;
    // Open to everyone, like a port; the folder's permissions restrict access.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(BoundSocket::Unix(first.try_clone()?));
    }
    sockets.push(BoundSocket::Unix(first));
    Ok(BoundListener {
        address: Bind::Unix(path.to_owned()),
        sockets,
        file: Some(file),
    })
}

/// A socket that a worker accepts from.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A client's connection.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// A connection, whatever its socket.
pub(super) trait Socket: ClientStream + Send + 'static {}

impl<S: ClientStream + Send + 'static> Socket for S {}

impl Accepted {
    pub(super) fn descriptor(&self) -> RawFd {
        match self {
            Self::Tcp(stream, _) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }

    /// Whether its descriptor is in the reserve: all others are in use.
    pub(super) fn is_in_reserve(&self) -> bool {
        match self {
            Self::Tcp(stream, _) => descriptor_reserve::is_reserved(stream),
            Self::Unix(stream) => descriptor_reserve::is_reserved(stream),
        }
    }
}

impl Listener {
    pub(super) fn new(socket: BoundSocket) -> io::Result<Self> {
        match socket {
            BoundSocket::Tcp(socket) => TcpListener::from_std(socket).map(Self::Tcp),
            BoundSocket::Unix(socket) => UnixListener::from_std(socket).map(Self::Unix),
        }
    }

    /// Closes the listener, and returns the connections already in its queue. Asks the system
    /// directly, because the runtime learns of new connections only on its next poll.
    pub(super) fn into_waiting(self) -> Vec<Accepted> {
        let backlog = usize::try_from(BACKLOG).unwrap_or_default();
        let accepted: io::Result<Vec<_>> = match self {
            Self::Tcp(listener) => listener.into_std().map(|listener| {
                let waiting = std::iter::from_fn(|| listener.accept().ok());
                let waiting = waiting.filter_map(|(stream, address)| {
                    stream.set_nonblocking(true).ok()?;
                    stream.set_nodelay(true).ok()?;
                    let stream = TcpStream::from_std(stream).ok()?;
                    Some(Accepted::Tcp(stream, address))
                });
                waiting.take(backlog).collect()
            }),
            Self::Unix(listener) => listener.into_std().map(|listener| {
                let waiting = std::iter::from_fn(|| listener.accept().ok());
                let waiting = waiting.filter_map(|(stream, _)| {
                    stream.set_nonblocking(true).ok()?;
                    UnixStream::from_std(stream).ok().map(Accepted::Unix)
                });
                waiting.take(backlog).collect()
            }),
        };
        accepted.unwrap_or_default()
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, address))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Unix(stream))
            }
        }
    }
}
