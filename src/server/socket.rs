//! How a listening socket comes to its address: nobody's yet, or shared with a process that is to
//! go.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::proxy::keep_alive;

/// How many connections may wait to be accepted.
pub(super) const BACKLOG: i32 = 4096;

/// Whose an address may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody's: one that is served already, even by another s3cors, cannot be had.
    Free,
    /// Another s3cors' of the same user too, which is to stop when this one serves.
    Shared,
}

/// A TCP socket that listens.
///
/// # Errors
///
/// What the system says, [`io::ErrorKind::AddrInUse`] above all.
pub fn tcp(address: SocketAddr, claim: Claim) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // SO_REUSEPORT lets any process of the same user share the port: two proxies started by
    // mistake would each get half of the connections. Bound without it, a socket is refused where
    // anybody listens; set before it listens, those that are meant to share may join.
    socket.set_reuse_port(claim == Claim::Shared)?;
    keep_alive::ask_now_and_then(SockRef::from(&socket))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.set_reuse_port(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A Unix socket that listens, and its file. A path that a process left behind which is gone is
/// free.
///
/// # Errors
///
/// What the system says; [`io::ErrorKind::AddrInUse`] for a path that somebody listens on, unless
/// it may be shared, and for what is no socket.
pub fn unix(path: &Path, claim: Claim) -> io::Result<(UnixListener, SocketFile)> {
    let there = std::fs::symlink_metadata(path);
    let is_socket = there.is_ok_and(|there| there.file_type().is_socket());
    let is_left_behind = is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    let listener = if is_socket && !is_left_behind && claim == Claim::Shared {
        // Paths are not shared: whoever connects from now on finds the new socket, and who has
        // connected before is the other process' to serve.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let listener = UnixListener::bind(&beside)?;
        std::fs::rename(&beside, path)?;
        listener
    } else {
        if is_left_behind {
            std::fs::remove_file(path)?;
        }
        UnixListener::bind(path)?
    };
    listener.set_nonblocking(true)?;
    let file = SocketFile {
        identity: identity(path),
        path: path.to_owned(),
    };
    Ok((listener, file))
}

/// A Unix socket's file, removed when its listener is gone, unless it is another's by then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == self.identity
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "cannot remove a socket");
        }
    }
}

/// What tells a file from another that takes its place: device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let there = std::fs::symlink_metadata(path).ok()?;
    Some((there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("s3cors-socket-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let path = path("stale");
        drop(UnixListener::bind(&path).unwrap());
        let live = unix(&path, Claim::Free).unwrap();
        let error = unix(&path, Claim::Free).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(live);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_taken_over_where_that_is_asked_for() {
        let path = path("shared");
        let (old, old_file) = unix(&path, Claim::Free).unwrap();
        let _waits = UnixStream::connect(&path).unwrap();
        let (new, new_file) = unix(&path, Claim::Shared).unwrap();
        let _comes = UnixStream::connect(&path).unwrap();
        let waiting = [&old, &new].map(|one| std::iter::from_fn(|| one.accept().ok()).count());
        // The old one was asked whether it lives, too.
        assert_eq!(waiting, [2, 1]);
        drop(old_file);
        assert!(path.exists());
        drop(new_file);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_in_the_sockets_place_stays() {
        let path = path("file");
        std::fs::write(&path, "precious").unwrap();
        assert!(unix(&path, Claim::Free).is_err());
        assert!(unix(&path, Claim::Shared).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_port_is_shared_only_where_that_is_asked_for() {
        let first = tcp("127.0.0.1:0".parse().unwrap(), Claim::Free).unwrap();
        let address = first.local_addr().unwrap();
        let error = tcp(address, Claim::Free).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        tcp(address, Claim::Shared).unwrap();
    }
}
