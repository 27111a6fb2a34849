//! `s3cors health`: asks a running process whether it is ready.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use clap::Args;
use socket2::{Domain, SockAddr, Socket, Type};

use super::manual::Manual;
use super::output::{Failure, NO, YES, complain, print};

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "The health check of a container, or ExecStartPost of a service",
            "s3cors health",
        ),
        (
            "An admin listener on a Unix socket",
            "s3cors health --admin unix:/run/s3cors/admin.sock",
        ),
    ],
    exit_codes: &[
        ("0", "ready: `/readyz` answers 200"),
        ("1", "starting, draining, or no answer within 5 seconds"),
        ("2", "bad usage"),
    ],
    environment: &[],
    files: &[],
};

/// The admin listener's default address.
const DEFAULT: &str = "127.0.0.1:9901";

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer that is read.
const MAX_ANSWER: u64 = 4096;

/// Ask a running s3cors whether it serves requests.
///
/// Requests `/readyz` from the admin listener. Use it as the health check of a container without a
/// shell or curl, or as the ExecStartPost of a service.
#[derive(Debug, Args)]
pub(super) struct Health {
    /// The admin listener: ADDRESS:PORT, NAME:PORT or unix:PATH. For an address such as 0.0.0.0,
    /// which stands for all of this machine's, the loopback address is asked.
    #[arg(
        long,
        env = "S3CORS_ADMIN",
        value_name = "ADDRESS",
        default_value = DEFAULT
    )]
    admin: String,
}

impl Health {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let admin = self.admin.trim();
        if admin == "off" {
            let usage = "--admin off: without an admin listener there is nothing to ask";
            return Err(Failure::Usage(usage.to_owned()));
        }
        let deadline = Instant::now() + PATIENCE;
        let answer = match admin.strip_prefix("unix:") {
            Some(path) => unix(path, deadline),
            None => {
                let addresses = admin.to_socket_addrs().map_err(|error| {
                    let what = "is not ADDRESS:PORT or unix:PATH";
                    Failure::Usage(format!("--admin {admin}: {what}: {error}"))
                })?;
                tcp(addresses, deadline)
            }
        };
        let (is_ready, text) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                complain(&format!("s3cors: cannot ask {admin}: {error}\n"));
                return Ok(NO);
            }
        };
        print(&format!("{text}\n"))?;
        Ok(if is_ready { YES } else { NO })
    }
}

fn unix(path: &str, deadline: Instant) -> io::Result<(bool, String)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full backlog would make a blocking connect wait for ever.
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(&SockAddr::unix(path)?)?;
    ask(
        UnixStream::from(std::os::fd::OwnedFd::from(socket)),
        deadline,
        UnixStream::set_read_timeout,
    )
}

/// Asks the first of these addresses that can be connected to.
fn tcp(
    addresses: impl Iterator<Item = SocketAddr>,
    deadline: Instant,
) -> io::Result<(bool, String)> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&reachable(address), left(deadline)?) {
            Ok(stream) => return ask(stream, deadline, TcpStream::set_read_timeout),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The loopback address in place of one that stands for all.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Whether the answer to `/readyz` is 200, and what it says.
fn ask<S: Read + Write>(
    mut stream: S,
    deadline: Instant,
    set_timeout: impl Fn(&S, Option<Duration>) -> io::Result<()>,
) -> io::Result<(bool, String)> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    loop {
        set_timeout(&stream, Some(left(deadline)?))?;
        let read = match stream.read(&mut piece) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_late()),
            Err(error) => return Err(error),
        };
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        if read == 0 || answer.len() as u64 > MAX_ANSWER {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    match status {
        Some("200") => Ok((true, body.trim().to_owned())),
        Some(status) => Ok((false, format!("{status}: {}", body.trim()))),
        None => Err(io::Error::other(
            "the answer is not from an admin listener of s3cors",
        )),
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(too_late())
    } else {
        Ok(left)
    }
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_stands_for_all_is_asked_on_loopback() {
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
