//! Lingering close: ends a connection so that its client can still read the last response.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::upstream::unread_bodies::Linger;

use super::listener::Socket;

/// The size of each read, in bytes.
const PIECE: usize = 16 * 1024;

/// Shuts down the write side.
pub(super) async fn end<S: Socket>(mut stream: S) {
    let limits = Linger::default();
    // Fails if the client has already left.
    let _ = tokio::time::timeout(limits.idle, stream.shutdown()).await;
}

/// Ends a connection whose client may still be sending: if it were closed with unread bytes, the
/// system would reset it, and the client could lose the response ([RFC 9112 §9.6]).
///
/// [RFC 9112 §9.6]: https://www.rfc-editor.org/rfc/rfc9112#section-9.6
pub(super) async fn linger<S: Socket>(mut stream: S) {
    let limits = Linger::default();
    let drained = async {
        tokio::time::timeout(limits.idle, stream.shutdown()).await??;
        let mut left = limits.bytes;
        let mut bytes = vec![0; PIECE];
        while left > 0 {
            let read = tokio::time::timeout(limits.idle, stream.read(&mut bytes)).await??;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(limits.total, drained).await;
}
