//! Streams a response's body to the client, without ever holding all of it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::http1::body::{BodyReader, part};
use crate::net::client_stream::ClientStream;
use crate::net::deadline::{Deadline, due};
use crate::net::splice::{Pipe, Side, WORTH_IT};
use crate::net::write::{flush, write_all, write_at_once};
use crate::telemetry::access_log::BodyCut;
use crate::upstream::http1_conn::Http1Conn;

use super::moved_bytes::MovedBytes;
use super::running_exchange::RunningExchange;

/// How much is read at once for a client that did not accept everything, in bytes.
pub(crate) const SMALLEST_PIECE: usize = 16 * 1024;

/// How long a response may be silent before a client that sends no more is presumed gone.
const LEFT_PATIENCE: Duration = Duration::from_millis(500);

/// Why a response's body ends early. The client notices it.
#[derive(Debug)]
pub(crate) enum DownloadFailure {
    /// The upstream's connection failed or ended during the body.
    Upstream(io::Error),
    /// The upstream sent an invalid chunk.
    Chunk,
    /// The upstream stopped sending.
    Idle {
        /// Whether the body's length is known, so that data is missing.
        owes: bool,
    },
    /// The client left, or stopped reading.
    Client,
}

impl DownloadFailure {
    /// The access log's name for it.
    pub(crate) fn cut(&self) -> BodyCut {
        match self {
            Self::Upstream(_) | Self::Chunk => BodyCut::Upstream,
            Self::Idle { .. } => BodyCut::Idle,
            Self::Client => BodyCut::Client,
        }
    }
}

impl<C: ClientStream> RunningExchange<'_, C> {
    /// Streams the rest of a response's body to the client, after `unwritten`.
    pub(crate) async fn download(
        &mut self,
        mut left: BodyReader,
        mut unwritten: Vec<u8>,
        conn: &mut Http1Conn,
        limit: Duration,
    ) -> Result<(), DownloadFailure> {
        let mut piece = SMALLEST_PIECE;
        loop {
            self.deadline.set(due(limit));
            self.moved.count();
            if !unwritten.is_empty() {
                // A client may be slow as long as it accepts something.
                let renewed = Some(limit);
                let _held = self.proxy.untaken.hold(unwritten.len());
                let written = write_all(self.client, &unwritten, self.deadline, renewed).await;
                written.map_err(|_| DownloadFailure::Client)?;
                unwritten = Vec::new();
            }
            if left.is_ended() {
                return Ok(());
            }
            if matches!(left, BodyReader::Broken) {
                return Err(DownloadFailure::Chunk);
            }
            if let BodyReader::Length(length) = &mut left
                && *length >= WORTH_IT
                && let (Some(source), Some(sink)) = (conn.stream.tcp(), self.client.tcp())
                && let Some(pipe) = self.proxy.pipes.take()
            {
                let bytes = &mut self.moved;
                let moved =
                    download_spliced(source, sink, pipe, length, self.deadline, limit, bytes);
                self.proxy.pipes.give_back(moved.await?);
                continue;
            }
            piece = self.proxy.untaken.piece(piece, SMALLEST_PIECE);
            let mut has_left = false;
            let moved = poll_fn(|cx| {
                // While waiting for the upstream, the client may accept what it did not before.
                if flush(cx, self.client).is_err() {
                    return Poll::Ready(Err(DownloadFailure::Client));
                }
                let moved = self.poll_piece(cx, &mut left, piece, conn);
                if moved.is_ready() {
                    return moved;
                }
                if !has_left && let Poll::Ready(ended) = self.poll_ahead(cx) {
                    if ended.is_err() {
                        return Poll::Ready(Err(DownloadFailure::Client));
                    }
                    // It may still read; only writing to it shows that.
                    has_left = true;
                    self.deadline.set(due(limit.min(LEFT_PATIENCE)));
                }
                self.deadline.poll(cx).map(|()| {
                    Err(match has_left {
                        true => DownloadFailure::Client,
                        false => DownloadFailure::Idle {
                            owes: matches!(left, BodyReader::Length(_)),
                        },
                    })
                })
            });
            unwritten = moved.await?;
            // A client that accepts everything gets larger pieces; for others, little data is kept
            // waiting.
            piece = if unwritten.is_empty() {
                piece.saturating_mul(2)
            } else {
                SMALLEST_PIECE
            };
        }
    }

    /// Reads one piece and writes it; returns what was not accepted.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        left: &mut BodyReader,
        piece: usize,
        conn: &mut Http1Conn,
    ) -> Poll<Result<Vec<u8>, DownloadFailure>> {
        let coding = self.exchange.coding();
        let scratch = &mut *self.proxy.scratch.borrow_mut();
        let piece = piece.min(scratch.input.len());
        let mut buffer = ReadBuf::new(scratch.input.get_mut(..piece).unwrap_or_default());
        ready!(Pin::new(&mut conn.stream).poll_read(cx, &mut buffer))
            .map_err(DownloadFailure::Upstream)?;
        let mut bytes = buffer.filled();
        let written = match left {
            BodyReader::Length(length) if !bytes.is_empty() => {
                let now = part(bytes, *length);
                *length -= now.len() as u64;
                self.moved.client_sent += now.len() as u64;
                self.moved.upstream_received += now.len() as u64;
                // Bytes after the body belong to no request: the connection cannot be used again.
                conn.is_spent |= now.len() < bytes.len();
                write_at_once(cx, self.client, now)
            }
            left => {
                scratch.output.clear();
                if bytes.is_empty() {
                    if !left.close() {
                        let ended = io::ErrorKind::UnexpectedEof.into();
                        return Poll::Ready(Err(DownloadFailure::Upstream(ended)));
                    }
                    coding.write_end(b"", &mut scratch.output);
                } else {
                    let passed = left.pass(&mut bytes, coding, &mut scratch.output);
                    self.moved.client_sent += passed;
                    self.moved.upstream_received += passed;
                    conn.is_spent |= !bytes.is_empty();
                }
                write_at_once(cx, self.client, &scratch.output)
            }
        };
        Poll::Ready(written.map_err(|_| DownloadFailure::Client))
    }
}

/// Splices the rest of a body of known length from one TCP connection to another; returns the pipe.
async fn download_spliced(
    source: &TcpStream,
    sink: &TcpStream,
    mut pipe: Pipe,
    left: &mut u64,
    deadline: &mut Deadline,
    limit: Duration,
    bytes: &mut MovedBytes<'_>,
) -> Result<Pipe, DownloadFailure> {
    while *left > 0 || !pipe.is_empty() {
        deadline.set(due(limit));
        let before = *left;
        let mut has_left = false;
        let moved = poll_fn(|cx| match pipe.poll_move(cx, source, sink, left) {
            Poll::Pending => {
                match sink.poll_peek(cx, &mut ReadBuf::new(&mut [0])) {
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(DownloadFailure::Client)),
                    Poll::Ready(Ok(0)) if !has_left => {
                        has_left = true;
                        deadline.set(due(limit.min(LEFT_PATIENCE)));
                    }
                    Poll::Ready(Ok(_)) | Poll::Pending => {}
                }
                deadline.poll(cx).map(|()| {
                    Err(match pipe.is_empty() && !has_left {
                        true => DownloadFailure::Idle { owes: true },
                        false => DownloadFailure::Client,
                    })
                })
            }
            Poll::Ready(moved) => Poll::Ready(moved.map_err(|side| match side {
                Side::Source(error) => DownloadFailure::Upstream(error),
                Side::Ended | Side::Invalid => {
                    DownloadFailure::Upstream(io::ErrorKind::UnexpectedEof.into())
                }
                Side::Sink(_) => DownloadFailure::Client,
            })),
        });
        let moved = moved.await;
        bytes.upstream_received += before - *left;
        bytes.client_sent += moved? as u64;
        bytes.count();
    }
    Ok(pipe)
}
