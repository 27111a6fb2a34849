//! The admin socket: TCP or Unix.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::server::Bind;

use super::host::Local;

/// The admin listener cannot listen.
#[derive(Debug, Error)]
#[error("cannot listen for the operator on {address}")]
pub struct BindError {
    address: String,
    source: io::Error,
}

/// A bound socket that nobody is served on yet.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(unix::UnixListener, SocketFile),
}

/// A socket that connections are accepted from.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "removed when dropped")] SocketFile,
    ),
}

/// A Unix socket's file, removed when the listener is gone.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

/// A connection, of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Bound {
    pub(super) fn new(address: &Bind) -> Result<Self, BindError> {
        let bound = match address {
            Bind::Tcp(address) => std::net::TcpListener::bind(address)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| Self::Tcp(listener))),
            Bind::Unix(path) => bind_unix(path),
            // The config has no way to say so.
            Bind::Systemd(_) => Err(io::ErrorKind::Unsupported.into()),
        };
        bound.map_err(|source| BindError {
            address: address.to_string(),
            source,
        })
    }

    /// Where it listens; the port is the one that the system chose.
    pub(super) fn address(&self) -> io::Result<Bind> {
        Ok(match self {
            Self::Tcp(listener) => Bind::Tcp(listener.local_addr()?),
            Self::Unix(_, file) => Bind::Unix(file.0.clone()),
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
                let local = Local::Tcp(stream.local_addr()?.ip());
                (Box::new(stream), local)
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                (Box::new(stream), Local::Unix)
            }
        })
    }
}

fn bind_unix(path: &Path) -> io::Result<Bound> {
    remove_stale(path)?;
    let listener = unix::UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    // For the user and the group; who else may come in is for the folder to say.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(Bound::Unix(listener, file))
}

/// Removes a socket that a process left behind which is gone: nobody answers there.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket());
    if is_socket
        && unix::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "cannot remove the admin socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("s3cors-admin-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let path = path("stale");
        drop(unix::UnixListener::bind(&path).unwrap());
        let live = Bound::new(&Bind::Unix(path.clone())).unwrap();
        let error = Bound::new(&Bind::Unix(path.clone())).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().ends_with(&path.display().to_string()));
        drop(live);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_in_the_sockets_place_stays() {
        let path = path("file");
        std::fs::write(&path, "precious").unwrap();
        assert!(Bound::new(&Bind::Unix(path.clone())).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
    }
}
