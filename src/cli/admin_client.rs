//! Connections to the admin listener of a running process.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::output::Failure;

/// The admin listener's default address.
pub(super) const DEFAULT: &str = "127.0.0.1:9901";

/// A TCP or Unix stream.
pub(super) trait AdminStream: Read + Write + Send {
    /// Sets the timeout of a read.
    fn limit_reads(&self, limit: Option<Duration>) -> io::Result<()>;
}

impl AdminStream for TcpStream {
    fn limit_reads(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)
    }
}

impl AdminStream for UnixStream {
    fn limit_reads(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)
    }
}

/// Connects to ADDRESS:PORT, NAME:PORT or unix:PATH.
pub(super) fn connect(
    admin: &str,
    deadline: Instant,
) -> Result<io::Result<Box<dyn AdminStream>>, Failure> {
    if admin == "off" {
        let usage = "--admin off: this command needs an admin listener; name its address";
        return Err(Failure::Usage(usage.to_owned()));
    }
    if let Some(path) = admin.strip_prefix("unix:") {
        return Ok(unix(path, deadline));
    }
    let addresses = admin.to_socket_addrs().map_err(|error| {
        let what = "is not ADDRESS:PORT or unix:PATH";
        Failure::Usage(format!("--admin {admin}: {what}: {error}"))
    })?;
    Ok(tcp(addresses, deadline))
}

fn unix(path: &str, deadline: Instant) -> io::Result<Box<dyn AdminStream>> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full backlog would make a blocking connect wait for ever.
    socket.set_write_timeout(Some(left(deadline)?))?;
    socket.connect(&SockAddr::unix(path)?)?;
    let stream = UnixStream::from(std::os::fd::OwnedFd::from(socket));
    Ok(Box::new(stream))
}

/// Connects to the first of these addresses that answers.
fn tcp(
    addresses: impl Iterator<Item = SocketAddr>,
    deadline: Instant,
) -> io::Result<Box<dyn AdminStream>> {
    let mut failed = io::Error::new(
        io::ErrorKind::NotFound,
        "the name does not resolve to an address",
    );
    for address in addresses {
        match TcpStream::connect_timeout(&reachable(address), left(deadline)?) {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Replaces an unspecified address (0.0.0.0, [::]) by loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The time left until the deadline, if there is one.
pub(super) fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(too_late())
    } else {
        Ok(left)
    }
}

/// The error for a passed deadline.
pub(super) fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_replaced_by_loopback() {
        for (address, expected) in [
            ("0.0.0.0:9901", "127.0.0.1:9901"),
            ("[::]:9901", "[::1]:9901"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            let address = reachable(address.parse().unwrap());
            assert_eq!(address, expected.parse().unwrap());
        }
    }
}
