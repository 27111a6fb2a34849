//! The admin socket: TCP or Unix.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net as unix;
use std::path::Path;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::net::descriptor_reserve;
use crate::server::socket::{Claim, SocketFile};
use crate::server::{Bind, socket};

use super::host::Local;

/// The admin listener's address cannot be bound.
#[derive(Debug, Error)]
#[error("cannot listen on admin address {address} (`admin.address` or --admin)")]
pub struct BindError {
    address: Bind,
    source: io::Error,
}

impl BindError {
    /// The admin listener's address.
    #[must_use]
    pub fn address(&self) -> &Bind {
        &self.address
    }
}

/// A bound socket that is not served yet.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(unix::UnixListener, SocketFile),
}

/// A socket that accepts connections.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "removed when dropped")] SocketFile,
    ),
}

/// A TCP or Unix connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Whether its descriptor is in the reserve: clients use all others.
    fn is_in_reserve(&self) -> bool;
}

impl<S: AsyncRead + AsyncWrite + AsFd + Send + Unpin> Stream for S {
    fn is_in_reserve(&self) -> bool {
        descriptor_reserve::is_reserved(self)
    }
}

impl Bound {
    pub(super) fn new(address: &Bind, claim: Claim) -> Result<Self, BindError> {
        let bound = match address {
            Bind::Tcp(address) => socket::tcp(*address, claim).map(Self::Tcp),
            Bind::Unix(path) => bind_unix(path, claim),
            // The config cannot express this.
            Bind::Systemd(_) => Err(io::ErrorKind::Unsupported.into()),
        };
        bound.map_err(|source| BindError {
            address: address.clone(),
            source,
        })
    }

    /// Its address, with the port that the system chose for port 0.
    pub(super) fn address(&self) -> io::Result<Bind> {
        Ok(match self {
            Self::Tcp(listener) => Bind::Tcp(listener.local_addr()?),
            Self::Unix(_, file) => Bind::Unix(file.path().to_owned()),
        })
    }

    pub(super) fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener, file) => Listener::Unix(UnixListener::from_std(listener)?, file),
        })
    }
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Local)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                (Box::new(stream), Local::Tcp)
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                (Box::new(stream), Local::Unix)
            }
        })
    }
}

fn bind_unix(path: &Path, claim: Claim) -> io::Result<Bound> {
    let (listener, file) = socket::unix(path, claim)?;
    // For the user and the group; the folder's permissions restrict access.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o660))?;
    Ok(Bound::Unix(listener, file))
}
