//! Lingering close: ends a connection so that its client can still read the last response.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::listener::Socket;

/// How much of what a refused client still sends is read, so that it can read the refusal.
const LINGER_BYTES: usize = 1024 * 1024;

/// And for how long.
const LINGER: Duration = Duration::from_secs(2);

/// Says that nothing more comes.
pub(super) async fn end<S: Socket>(mut stream: S) {
    // A client that has left already knows.
    let _ = tokio::time::timeout(LINGER, stream.shutdown()).await;
}

/// Ends a connection whose client may still be sending: closed with bytes unread, the system
/// would reset it, and the client could lose the answer ([RFC 9112 §9.6]).
///
/// [RFC 9112 §9.6]: https://www.rfc-editor.org/rfc/rfc9112#section-9.6
pub(super) async fn linger<S: Socket>(mut stream: S) {
    let drained = async {
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut bytes = [0; 4096];
        while left > 0 {
            let read = stream.read(&mut bytes).await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
}
