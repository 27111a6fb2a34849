//! Responses to clients beyond a connection limit.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// How long a client may take to read the response.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers that a connection limit is reached.
pub(super) async fn tell(stream: impl AsyncRead + AsyncWrite + Unpin) {
    say(stream, NO_ROOM).await;
}

/// Sends a response, then reads and discards the request until the client closes: a connection
/// closed with unread bytes is reset, and the client might lose the response.
pub(super) async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) {
    let told = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        let mut unread = [0; 512];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Delivery is best effort.
    let _ = tokio::time::timeout(PATIENCE, told).await;
}

/// Sends a 503 without waiting. A client whose request has arrived can read it; others may see a
/// reset.
pub(super) fn tell_in_passing(stream: &impl AsFd) {
    let socket = SockRef::from(stream);
    let mut unread = [MaybeUninit::uninit(); 4096];
    // Delivery is best effort.
    let _ = socket.recv(&mut unread);
    let _ = socket.send(NO_ROOM);
}
