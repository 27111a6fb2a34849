//! Binds listening sockets: to a free address, or to one shared with a process that will stop.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr as UnixSocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::net::keep_alive;

/// The maximum number of connections that wait to be accepted.
pub(super) const BACKLOG: i32 = 4096;

/// Which addresses may be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Free ones only: an address that is already served, even by another s3cors, is an error.
    Free,
    /// Also those of another s3cors of the same user, which should stop when this one serves.
    Shared,
}

/// Creates a listening TCP socket.
///
/// # Errors
///
/// The system's error, mostly [`io::ErrorKind::AddrInUse`].
pub fn tcp(address: SocketAddr, claim: Claim) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` also accepts IPv4, whatever `net.ipv6.bindv6only` is.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    // SO_REUSEPORT lets any process of the same user share the port: two proxies started by
    // mistake would each get half of the connections. Binding without it fails if any process
    // listens; setting it before listening lets the workers' other sockets join.
    socket.set_reuse_port(claim == Claim::Shared)?;
    keep_alive::enable(SockRef::from(&socket))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.set_reuse_port(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Creates a listening Unix socket and its file. Replaces a stale socket of a process that is
/// gone.
///
/// # Errors
///
/// The system's error; [`io::ErrorKind::AddrInUse`] for a path that a process listens on, unless
/// it may be shared, and for a file that is not a socket.
pub fn unix(path: &Path, claim: Claim) -> io::Result<(UnixListener, SocketFile)> {
    let there = std::fs::symlink_metadata(path);
    let is_socket = there.is_ok_and(|there| there.file_type().is_socket());
    let is_left_behind = is_socket && is_left_behind(path)?;
    let listener = if is_socket && !is_left_behind && claim == Claim::Shared {
        // A path cannot be shared: new connections reach the new socket, and the other process
        // serves the existing ones.
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

/// Whether a socket's path is stale: no process listens on it. Checked without blocking: a
/// stopped process does not accept, and with a full backlog, connecting would block for ever.
fn is_left_behind(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let connected = socket.connect(&SockAddr::unix(path)?);
    Ok(connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
}

/// Checks whether a TCP socket could listen on an address of this machine, whatever its port.
///
/// # Errors
///
/// The system's error, mostly [`io::ErrorKind::AddrNotAvailable`].
pub fn try_tcp(address: IpAddr) -> io::Result<()> {
    TcpListener::bind((address, 0)).map(drop)
}

/// Checks whether a Unix socket could listen at a path; an existing socket is fine. Creates
/// nothing.
///
/// # Errors
///
/// The error that a start would get.
pub fn try_unix(path: &Path) -> io::Result<()> {
    UnixSocketAddr::from_pathname(path)?;
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "the path exists and is not a socket",
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    writable_folder(path)
}

/// Whether files can be created next to a path.
fn writable_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    Ok(rustix::fs::access(
        folder,
        Access::WRITE_OK | Access::EXEC_OK,
    )?)
}

/// A Unix socket's file. It is removed with its listener, unless another process has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// Its path.
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

/// Identifies a file, so that a replacement is noticed: device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let there = std::fs::symlink_metadata(path).ok()?;
    Some((there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("s3cors-socket-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let path = path("stale");
        drop(UnixListener::bind(&path).unwrap());
        let live = unix(&path, Claim::Free).unwrap();
        let error = unix(&path, Claim::Free).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(live);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_taken_over_only_on_request() {
        let path = path("shared");
        let (old, old_file) = unix(&path, Claim::Free).unwrap();
        let _waits = UnixStream::connect(&path).unwrap();
        let (new, new_file) = unix(&path, Claim::Shared).unwrap();
        let _comes = UnixStream::connect(&path).unwrap();
        let waiting = [&old, &new].map(|one| std::iter::from_fn(|| one.accept().ok()).count());
        // The check connected to the old socket, too.
        assert_eq!(waiting, [2, 1]);
        drop(old_file);
        assert!(path.exists());
        drop(new_file);
        assert!(!path.exists());
    }

    /// A stopped process accepts nothing; a start must not wait for it.
    #[test]
    fn a_live_socket_whose_backlog_is_full_is_in_use() {
        let path = path("full");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let connect = || {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let connected = client.connect(&SockAddr::unix(&path).unwrap());
            connected.map(|()| client)
        };
        let waiting: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
        assert!(!waiting.is_empty());
        let error = unix(&path, Claim::Free).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        std::fs::remove_file(&path).unwrap();
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
    fn a_port_is_shared_only_on_request() {
        let first = tcp("127.0.0.1:0".parse().unwrap(), Claim::Free).unwrap();
        let address = first.local_addr().unwrap();
        let error = tcp(address, Claim::Free).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        tcp(address, Claim::Shared).unwrap();
    }
}
