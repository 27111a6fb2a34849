//! TCP keep-alive for connections that may stay silent for long, such as tunnels: the kernel
//! detects a peer that is gone.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Idle time before the first probe.
const IDLE: Duration = Duration::from_secs(60);

/// Time between probes that get no answer.
const INTERVAL: Duration = Duration::from_secs(15);

/// Unanswered probes before the connection is closed.
const RETRIES: u32 = 4;

/// Enables TCP keep-alive on a socket. Connections accepted from a listening socket inherit it.
///
/// # Errors
///
/// The error of `setsockopt`.
pub fn enable(socket: SockRef<'_>) -> io::Result<()> {
    let keep_alive = TcpKeepalive::new()
        .with_time(IDLE)
        .with_interval(INTERVAL)
        .with_retries(RETRIES);
    socket.set_tcp_keepalive(&keep_alive)
}
