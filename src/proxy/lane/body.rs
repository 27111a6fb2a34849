//! A response's body on its way to the client: moved as it comes, and never held whole.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::proxy::deadline::Deadline;
use crate::proxy::wire::{Chunked, InvalidChunk, ResponseBody, TrailerPolicy};

use super::connection::Raw;
use super::exchange::{Carrying, ClientStream, due};
use super::splice::{Pipe, Side, WORTH_IT};

/// As much as is read at once for somebody who did not take all that was there, in bytes.
pub(super) const SMALLEST_PIECE: usize = 16 * 1024;

/// A response's body, as far as it is still to come.
pub(in crate::proxy) enum Body {
    /// So many bytes.
    Length(u64),
    /// In chunks, which are read and written again: extensions stay behind.
    Chunked(Chunked),
    /// All that comes until the upstream's connection ends.
    UntilClose {
        /// Whether it has come.
        is_ended: bool,
    },
    /// What came last is no chunk: it is cut here.
    Broken,
}

/// How long a response may be silent before a client that sends no more is taken to have left.
const LEFT_PATIENCE: Duration = Duration::from_millis(500);

/// How a body whose length is not known goes to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// In chunks.
    Chunks,
    /// As it is, up to the connection's end (HTTP/1.0).
    Identity,
}

/// Why a response's body breaks off. The client sees it cut.
#[derive(Debug)]
pub(super) enum Broken {
    /// The upstream's connection failed or ended in the middle of it.
    Upstream(io::Error),
    /// What the upstream sends is no chunk.
    Chunk,
    /// The upstream stopped sending.
    Idle {
        /// Whether it had said how much it would send: then it owes the rest.
        owes: bool,
    },
    /// The client left, or stopped taking.
    Client,
}

impl Body {
    pub(in crate::proxy) fn of(framing: ResponseBody, trailers: TrailerPolicy) -> Self {
        match framing {
            ResponseBody::Length(length) => Self::Length(length),
            ResponseBody::Chunked => Self::Chunked(Chunked::with_trailers(trailers)),
            ResponseBody::UntilClose => Self::UntilClose { is_ended: false },
        }
    }

    pub(in crate::proxy) fn is_ended(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_ended(),
            Self::UntilClose { is_ended } => *is_ended,
            Self::Broken => false,
        }
    }

    /// Writes what `bytes` have of the body as the client gets it; what is behind it stays. Says
    /// how many bytes of the body that were, its coding apart.
    pub(super) fn pass(&mut self, bytes: &mut &[u8], coding: Coding, out: &mut Vec<u8>) -> u64 {
        let mut passed = 0;
        match self {
            Self::Length(left) => {
                let now = part(bytes, *left);
                out.extend_from_slice(now);
                *left -= now.len() as u64;
                *bytes = bytes.get(now.len()..).unwrap_or_default();
                passed = now.len() as u64;
            }
            Self::Chunked(chunked) => match pass_chunks(chunked, bytes, coding, out) {
                Ok(now) => passed = now,
                Err(InvalidChunk) => *self = Self::Broken,
            },
            Self::UntilClose { .. } => {
                passed = bytes.len() as u64;
                coding.write(std::mem::take(bytes), out);
            }
            Self::Broken => {}
        }
        passed
    }

    /// Takes the next piece of the body from the front of `bytes`: empty where there is none, in
    /// which case all of `bytes` was taken or the body has ended.
    pub(in crate::proxy) fn take(&mut self, bytes: &mut Bytes) -> Result<Bytes, InvalidChunk> {
        match self {
            Self::Length(left) => {
                let now = part(bytes, *left).len();
                *left -= now as u64;
                Ok(bytes.split_to(now))
            }
            Self::Chunked(chunked) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() && !chunked.is_ended() {
                    let data = chunked.take(&mut rest)?;
                    if !data.is_empty() {
                        let data = bytes.slice_ref(data);
                        bytes.advance(bytes.len() - rest.len());
                        return Ok(data);
                    }
                }
                bytes.advance(bytes.len() - rest.len());
                Ok(Bytes::new())
            }
            Self::UntilClose { .. } => Ok(std::mem::take(bytes)),
            Self::Broken => Err(InvalidChunk),
        }
    }

    /// The upstream's connection has ended: whether the body has, too.
    pub(in crate::proxy) fn close(&mut self) -> bool {
        match self {
            Self::UntilClose { is_ended } => {
                *is_ended = true;
                true
            }
            Self::Length(_) | Self::Chunked(_) | Self::Broken => false,
        }
    }
}

impl Coding {
    /// Writes a piece of a body.
    fn write(self, data: &[u8], out: &mut Vec<u8>) {
        match self {
            // An empty chunk would be the last.
            Self::Chunks if data.is_empty() => {}
            Self::Chunks => {
                write_size(data.len(), out);
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
            Self::Identity => out.extend_from_slice(data),
        }
    }

    /// Writes a body's end, with lines of trailers.
    pub(super) fn write_end(self, trailers: &[u8], out: &mut Vec<u8>) {
        if self == Self::Chunks {
            for part in [b"0\r\n", trailers, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

/// Writes a chunk's size and the end of its line.
fn write_size(size: usize, out: &mut Vec<u8>) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = DIGITS.get(size >> (4 * place) & 15);
        out.push(digit.copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the data of the chunks that `bytes` begin with; what is behind the body stays. Says how
/// many bytes of data they had.
pub(super) fn pass_chunks(
    chunked: &mut Chunked,
    bytes: &mut &[u8],
    coding: Coding,
    out: &mut Vec<u8>,
) -> Result<u64, InvalidChunk> {
    let mut passed = 0;
    while !bytes.is_empty() && !chunked.is_ended() {
        let data = chunked.take(bytes)?;
        coding.write(data, out);
        passed += data.len() as u64;
    }
    if chunked.is_ended() {
        coding.write_end(chunked.trailers(), out);
    }
    Ok(passed)
}

/// The front of `bytes`, `most` of them at the most.
pub(super) fn part(bytes: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    bytes.get(..most.min(bytes.len())).unwrap_or_default()
}

impl<C: ClientStream> Carrying<'_, C> {
    /// Moves the rest of a response's body to the client; `unwritten` goes first.
    pub(super) async fn download(
        &mut self,
        mut left: Body,
        mut unwritten: Vec<u8>,
        raw: &mut Raw,
        limit: Duration,
    ) -> Result<(), Broken> {
        let mut piece = SMALLEST_PIECE;
        loop {
            self.deadline.set(due(limit));
            if !unwritten.is_empty() {
                // A client may be slow, as long as it takes something.
                let renewed = Some(limit);
                let written = write_all(self.client, &unwritten, self.deadline, renewed).await;
                written.map_err(|_| Broken::Client)?;
                unwritten.clear();
            }
            if left.is_ended() {
                return Ok(());
            }
            if matches!(left, Body::Broken) {
                return Err(Broken::Chunk);
            }
            if let Body::Length(length) = &mut left
                && *length >= WORTH_IT
                && let (Some(source), Some(sink)) = (raw.stream.tcp(), self.client.tcp())
                && let Some(pipe) = self.proxy.pipes.take()
            {
                let bytes = &mut self.bytes;
                let moved =
                    download_spliced(source, sink, pipe, length, self.deadline, limit, bytes);
                self.proxy.pipes.give_back(moved.await?);
                continue;
            }
            let mut has_left = false;
            let moved = poll_fn(|cx| {
                // While the upstream is waited for, the client may take what it did not at once.
                if flush(cx, self.client).is_err() {
                    return Poll::Ready(Err(Broken::Client));
                }
                let moved = self.poll_piece(cx, &mut left, piece, raw);
                if moved.is_ready() {
                    return moved;
                }
                if !has_left && let Poll::Ready(ended) = self.poll_ahead(cx) {
                    if ended.is_err() {
                        return Poll::Ready(Err(Broken::Client));
                    }
                    // It may still read, but nothing shows it before something is sent.
                    has_left = true;
                    self.deadline.set(due(limit.min(LEFT_PATIENCE)));
                }
                self.deadline.poll(cx).map(|()| {
                    Err(match has_left {
                        true => Broken::Client,
                        false => Broken::Idle {
                            owes: matches!(left, Body::Length(_)),
                        },
                    })
                })
            });
            unwritten = moved.await?;
            // Who takes all at once gets more at once; who does not is not waited for with much.
            piece = if unwritten.is_empty() {
                piece.saturating_mul(2)
            } else {
                SMALLEST_PIECE
            };
        }
    }

    /// Reads one piece and writes it; gives what was not taken.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        left: &mut Body,
        piece: usize,
        raw: &mut Raw,
    ) -> Poll<Result<Vec<u8>, Broken>> {
        let coding = self.exchange.coding();
        let scratch = &mut *self.proxy.scratch.borrow_mut();
        let piece = piece.min(scratch.input.len());
        let mut buffer = ReadBuf::new(scratch.input.get_mut(..piece).unwrap_or_default());
        ready!(Pin::new(&mut raw.stream).poll_read(cx, &mut buffer)).map_err(Broken::Upstream)?;
        let mut bytes = buffer.filled();
        let written = match left {
            Body::Length(length) if !bytes.is_empty() => {
                let now = part(bytes, *length);
                *length -= now.len() as u64;
                self.bytes += now.len() as u64;
                // What comes behind the body is no response to anything: the connection is spent.
                raw.is_spent |= now.len() < bytes.len();
                write_at_once(cx, self.client, now)
            }
            left => {
                scratch.output.clear();
                if bytes.is_empty() {
                    if !left.close() {
                        let ended = io::ErrorKind::UnexpectedEof.into();
                        return Poll::Ready(Err(Broken::Upstream(ended)));
                    }
                    coding.write_end(b"", &mut scratch.output);
                } else {
                    self.bytes += left.pass(&mut bytes, coding, &mut scratch.output);
                    raw.is_spent |= !bytes.is_empty();
                }
                write_at_once(cx, self.client, &scratch.output)
            }
        };
        Poll::Ready(written.map_err(|_| Broken::Client))
    }
}

/// Moves the rest of a body of known length from one TCP connection to another; gives the pipe
/// back.
async fn download_spliced(
    source: &TcpStream,
    sink: &TcpStream,
    mut pipe: Pipe,
    left: &mut u64,
    deadline: &mut Deadline,
    limit: Duration,
    bytes: &mut u64,
) -> Result<Pipe, Broken> {
    while *left > 0 || !pipe.is_empty() {
        deadline.set(due(limit));
        let mut has_left = false;
        let moved = poll_fn(|cx| match pipe.poll_move(cx, source, sink, left) {
            Poll::Pending => {
                match sink.poll_peek(cx, &mut ReadBuf::new(&mut [0])) {
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Client)),
                    Poll::Ready(Ok(0)) if !has_left => {
                        has_left = true;
                        deadline.set(due(limit.min(LEFT_PATIENCE)));
                    }
                    Poll::Ready(Ok(_)) | Poll::Pending => {}
                }
                deadline.poll(cx).map(|()| {
                    Err(match pipe.is_empty() && !has_left {
                        true => Broken::Idle { owes: true },
                        false => Broken::Client,
                    })
                })
            }
            Poll::Ready(moved) => Poll::Ready(moved.map_err(|side| match side {
                Side::Source(error) => Broken::Upstream(error),
                Side::Ended | Side::Invalid => {
                    Broken::Upstream(io::ErrorKind::UnexpectedEof.into())
                }
                Side::Sink(_) => Broken::Client,
            })),
        });
        *bytes += moved.await? as u64;
    }
    Ok(pipe)
}

/// Writes as much as is taken at once; gives the rest.
pub(in crate::proxy) fn write_at_once<W: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut W,
    bytes: &[u8],
) -> io::Result<Vec<u8>> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match Pin::new(&mut *stream).poll_write(cx, rest) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(written)) => rest = rest.get(written..).unwrap_or_default(),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => break,
        }
    }
    flush(cx, stream)?;
    Ok(rest.to_vec())
}

/// As [`write_at_once`], for a head and its body.
pub(super) fn write_both_at_once<W: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut W,
    head: &[u8],
    body: &[u8],
) -> io::Result<Vec<u8>> {
    let slices = [IoSlice::new(head), IoSlice::new(body)];
    let written = match Pin::new(&mut *stream).poll_write_vectored(cx, &slices) {
        Poll::Ready(Ok(written)) => written,
        Poll::Ready(Err(error)) => return Err(error),
        Poll::Pending => 0,
    };
    let mut rest = head.get(written..).unwrap_or_default().to_vec();
    let body = body
        .get(written.saturating_sub(head.len())..)
        .unwrap_or_default();
    if rest.is_empty() {
        return write_at_once(cx, stream, body);
    }
    rest.extend_from_slice(body);
    Ok(rest)
}

/// What is held back above the socket (TLS) is to go as far as it does at once. What does not goes
/// when the socket has room, if this is asked again, or by [`write_all`].
fn flush<W: AsyncWrite + Unpin>(cx: &mut Context<'_>, stream: &mut W) -> io::Result<()> {
    match Pin::new(stream).poll_flush(cx) {
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
    }
}

/// Writes all, until the limit, which begins anew whenever something is taken where `renewed` says
/// how long it is.
pub(in crate::proxy) async fn write_all<W: AsyncWrite + Unpin>(
    stream: &mut W,
    bytes: &[u8],
    deadline: &mut Deadline,
    renewed: Option<Duration>,
) -> io::Result<()> {
    let mut rest = bytes;
    poll_fn(|cx| {
        while !rest.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    rest = rest.get(written..).unwrap_or_default();
                    if let Some(limit) = renewed {
                        deadline.set(due(limit));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let late = || Err(io::ErrorKind::TimedOut.into());
                    return deadline.poll(cx).map(|()| late());
                }
            }
        }
        match Pin::new(&mut *stream).poll_flush(cx) {
            Poll::Pending => deadline
                .poll(cx)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
            ready => ready,
        }
    })
    .await
}
