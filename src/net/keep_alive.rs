//! Connections on which nothing may be said for long, as in tunnels: whether the other side is
//! still there, the system finds out.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// After how long without a word it is asked first.
const IDLE: Duration = Duration::from_secs(60);

/// Between two questions that are not answered.
const INTERVAL: Duration = Duration::from_secs(15);

/// How many are not answered before a connection is given up.
const RETRIES: u32 = 4;

/// Has the system ask whether the other side of a TCP connection is still there. Connections that
/// a listening socket accepts do as it does.
///
/// # Errors
///
/// What the system says.
pub fn ask_now_and_then(socket: SockRef<'_>) -> io::Result<()> {
    let keep_alive = TcpKeepalive::new()
        .with_time(IDLE)
        .with_interval(INTERVAL)
        .with_retries(RETRIES);
    socket.set_tcp_keepalive(&keep_alive)
}
