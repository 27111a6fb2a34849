//! A socket that is bound and not listening yet.

use std::os::unix::net::UnixListener as StdUnixListener;

/// A bound socket, not yet of any runtime.
#[derive(Debug)]
pub(crate) enum BoundSocket {
    Tcp(std::net::TcpListener),
    Unix(StdUnixListener),
}
