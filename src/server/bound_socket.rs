//! A socket that is bound but not listening.

use std::os::unix::net::UnixListener as StdUnixListener;

/// A bound socket, not yet registered with a runtime.
#[derive(Debug)]
pub(crate) enum BoundSocket {
    Tcp(std::net::TcpListener),
    Unix(StdUnixListener),
}
