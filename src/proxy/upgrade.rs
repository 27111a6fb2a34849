//! A connection that has switched protocols (WebSocket and other upgrades): carries bytes both ways
//! until both ends have closed ([RFC 9110 §7.8]).
//!
//! [RFC 9110 §7.8]: https://www.rfc-editor.org/rfc/rfc9110#section-7.8

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http1::buffers::Scratch;
use crate::net::client_stream::ClientStream;
use crate::net::splice::Side;
use crate::net::write::write_at_once;
use crate::upstream::http1_conn::Http1Conn;

use super::running_exchange::{ConnFate, RunningExchange};

/// How much is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// One direction of a tunnel.
struct Direction {
    /// What was read and not written yet.
    unwritten: Vec<u8>,
    /// Whether the source has ended.
    is_ended: bool,
    /// Whether the sink was shut down.
    is_shut: bool,
    moved: u64,
}

impl Direction {
    /// How much the sink has.
    fn sent(&self) -> u64 {
        self.moved.saturating_sub(self.unwritten.len() as u64)
    }

    fn new(unwritten: Vec<u8>) -> Self {
        Self {
            moved: unwritten.len() as u64,
            unwritten,
            is_ended: false,
            is_shut: false,
        }
    }

    /// Moves as much as possible now; ready when the source has ended and the sink was shut down.
    fn poll_move<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        scratch: &mut Scratch,
    ) -> Poll<Result<(), Side>> {
        loop {
            if !self.unwritten.is_empty() {
                self.unwritten = write_at_once(cx, sink, &self.unwritten).map_err(Side::Sink)?;
                if !self.unwritten.is_empty() {
                    return Poll::Pending;
                }
            }
            if self.is_shut {
                return Poll::Ready(Ok(()));
            }
            if self.is_ended {
                ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(Side::Sink)?;
                self.is_shut = true;
                continue;
            }
            // TLS flushes data that it holds back as the socket accepts it.
            if let Poll::Ready(flushed) = Pin::new(&mut *sink).poll_flush(cx) {
                flushed.map_err(Side::Sink)?;
            }
            let free = scratch.input.get_mut(..PIECE).unwrap_or_default();
            let mut buffer = ReadBuf::new(free);
            ready!(Pin::new(&mut *source).poll_read(cx, &mut buffer)).map_err(Side::Source)?;
            self.is_ended = buffer.filled().is_empty();
            self.moved += buffer.filled().len() as u64;
            self.unwritten = write_at_once(cx, sink, buffer.filled()).map_err(Side::Sink)?;
        }
    }
}

impl<C: ClientStream> RunningExchange<'_, C> {
    /// Carries bytes both ways. `unwritten` is the part of the response that the client has not
    /// accepted, and `first` what the upstream sent after it.
    pub(crate) async fn tunnel(
        &mut self,
        mut conn: Box<Http1Conn>,
        mut unwritten: Vec<u8>,
        mut first: Vec<u8>,
    ) -> ConnFate {
        // TCP keep-alive ends the tunnel if a peer has vanished. Client sockets inherit it from the
        // listener.
        if let Err(error) = conn.stream.keep_alive() {
            tracing::debug!(%error, "cannot enable TCP keep-alive for a tunnel");
        }
        unwritten.append(&mut first);
        let mut down = Direction::new(unwritten);
        let mut up = Direction::new(std::mem::take(self.ahead));
        let before = [
            self.moved.client_received,
            self.moved.upstream_sent,
            self.moved.client_sent,
            self.moved.upstream_received,
        ];
        let carried = poll_fn(|cx| {
            let scratch = &mut *self.proxy.scratch.borrow_mut();
            let went_up = match up.poll_move(cx, self.client, &mut conn.stream, scratch) {
                // An upstream that accepts no more data may still have sent some.
                Poll::Ready(Err(Side::Sink(_))) => Poll::Ready(Ok(())),
                went => went,
            }?;
            let went_down = down.poll_move(cx, &mut conn.stream, self.client, scratch);
            self.moved.client_received = before[0] + up.moved;
            self.moved.upstream_sent = before[1] + up.sent();
            self.moved.client_sent = before[2] + down.sent();
            self.moved.upstream_received = before[3] + down.moved;
            self.moved.count();
            let went_down = went_down?;
            match (went_up, went_down) {
                (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Result::<(), Side>::Ok(())),
                _ => Poll::Pending,
            }
        });
        if let Err(side) = carried.await {
            tracing::debug!(?side, "tunnel interrupted");
        }
        ConnFate::Ends
    }
}
