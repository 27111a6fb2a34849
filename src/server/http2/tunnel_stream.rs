//! An HTTP/2 stream that carries a tunnel's bytes ([RFC 8441 §5]).
//!
//! [RFC 8441 §5]: https://www.rfc-editor.org/rfc/rfc8441#section-5

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::streams::{Piece, TunnelBytes};

/// A client's end of a tunnel.
pub(super) struct TunnelStream {
    sender: SendStream<Piece>,
    receiver: RecvStream,
    /// Received bytes that were not read yet.
    received: Bytes,
    bytes: TunnelBytes,
    is_shut_down: bool,
}

impl TunnelStream {
    pub(super) fn new(sender: SendStream<Piece>, receiver: RecvStream, bytes: TunnelBytes) -> Self {
        Self {
            sender,
            receiver,
            received: Bytes::new(),
            bytes,
            is_shut_down: false,
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.received.is_empty() {
            match ready!(self.receiver.poll_data(cx)) {
                Some(Ok(data)) => self.received = data,
                None => return Poll::Ready(Ok(())),
                // Like a closed TCP connection (RFC 8441 §5).
                Some(Err(error))
                    if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) =>
                {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let length = self.received.len().min(buffer.remaining());
        buffer.put_slice(&self.received.split_to(length));
        // Fails only if the stream is gone; its end follows.
        let _ = self.receiver.flow_control().release_capacity(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.sender.reserve_capacity(bytes.len());
        let room = loop {
            match self.sender.capacity() {
                0 => match ready!(self.sender.poll_capacity(cx)) {
                    Some(capacity) => drop(capacity.map_err(broken)?),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                },
                room => break room,
            }
        };
        let sent = bytes.get(..room).unwrap_or(bytes);
        let piece = self.bytes.piece(Bytes::copy_from_slice(sent));
        self.sender.send_data(piece, false).map_err(broken)?;
        Poll::Ready(Ok(sent.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection sends it at the end of its turn.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_shut_down, true) {
            let last = self.bytes.piece(Bytes::new());
            self.sender.send_data(last, true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        false => io::Error::other(error),
    }
}
