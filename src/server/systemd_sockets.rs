//! The sockets that systemd passed to this process (`sd_listen_fds(3)`).
//!
//! systemd holds them too: connections wait in them while no process accepts, so a restart
//! refuses no client.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use socket2::{Domain, SockRef, Socket};

use crate::net::keep_alive;

use super::bound_socket::BoundSocket;

/// Taken once, kept for the life of the process, and only ever copied: a descriptor has one
/// owner.
static PASSED: OnceLock<Vec<(String, OwnedFd)>> = OnceLock::new();

/// The sockets passed under a name, one copy per worker.
pub(super) fn sockets(name: &str, workers: usize) -> io::Result<Vec<Vec<BoundSocket>>> {
    let passed = PASSED.get_or_init(|| {
        let passed = sd_listen_fds::get().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot take over the passed sockets");
            Vec::new()
        });
        let name = |name: Option<String>| name.unwrap_or_else(|| UNNAMED.to_owned());
        let passed = passed.into_iter();
        passed
            .map(|(passed, socket)| (name(passed), socket.into_std()))
            .collect()
    });
    named(passed, name, workers)
}

/// systemd's name for a socket without one.
const UNNAMED: &str = "unknown";

fn named(
    passed: &[(String, OwnedFd)],
    name: &str,
    workers: usize,
) -> io::Result<Vec<Vec<BoundSocket>>> {
    let mut found = passed
        .iter()
        .filter(|(passed, _)| passed == name)
        .peekable();
    if found.peek().is_none() {
        let names: Vec<_> = passed.iter().map(|(passed, _)| &**passed).collect();
        let passed = match names.as_slice() {
            [] => "none was passed".to_owned(),
            names => format!("passed: {}", names.join(", ")),
        };
        let message = format!("systemd passed no socket with this name; {passed}");
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    found
        .map(|(_, socket)| {
            let copies = (0..workers).map(|_| listening(socket.try_clone()?));
            copies.collect()
        })
        .collect()
}

fn listening(socket: OwnedFd) -> io::Result<BoundSocket> {
    let socket = Socket::from(socket);
    if !socket.is_listener()? {
        let message = "the socket is not listening; remove Accept=yes from its unit";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    socket.set_nonblocking(true)?;
    Ok(match socket.domain()? {
        Domain::UNIX => BoundSocket::Unix(socket.into()),
        _ => {
            keep_alive::enable(SockRef::from(&socket))?;
            BoundSocket::Tcp(socket.into())
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn each_worker_gets_a_copy_of_each_socket_of_the_name() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let two = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [one.local_addr().unwrap(), two.local_addr().unwrap()];
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let passed = [
            ("http".to_owned(), one.into()),
            ("other".to_owned(), other.into()),
            ("http".to_owned(), two.into()),
        ];
        let found = named(&passed, "http", 3).unwrap();
        assert_eq!(found.len(), 2);
        for (copies, address) in found.iter().zip(addresses) {
            assert_eq!(copies.len(), 3);
            for copy in copies {
                let BoundSocket::Tcp(copy) = copy else {
                    panic!("{copy:?}");
                };
                assert_eq!(copy.local_addr().unwrap(), address);
                copy.set_nonblocking(false).unwrap();
                let mut client = TcpStream::connect(address).unwrap();
                drop(copy.accept().unwrap());
                assert_eq!(client.read(&mut [0]).unwrap(), 0);
                copy.set_nonblocking(true).unwrap();
            }
        }
    }

    #[test]
    fn unix_sockets_are_recognized_and_a_socket_that_does_not_listen_is_refused() {
        let path = std::env::temp_dir().join(format!("s3cors-inherited-{}", std::process::id()));
        let unix = UnixListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        let passed = [
            ("unix".to_owned(), unix.into()),
            ("udp".to_owned(), connected.into()),
        ];
        let found = named(&passed, "unix", 1).unwrap();
        assert!(matches!(found[0][0], BoundSocket::Unix(_)));
        let error = named(&passed, "udp", 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let error = named(&passed, "http", 1).unwrap_err();
        assert!(error.to_string().ends_with("passed: unix, udp"), "{error}");
        let error = named(&[], "http", 1).unwrap_err();
        assert!(error.to_string().ends_with("none was passed"), "{error}");
    }
}
