//! Forwards a request and its body to the upstream, which may answer before it has all of it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http1::body::{Coding, part, pass_chunks};
use crate::http1::chunked::{Chunked, InvalidChunk, TrailerPolicy};
use crate::http1::request_head::Framing;
use crate::http1::request_rules::CONTINUE_PATIENCE;
use crate::net::client_stream::ClientStream;
use crate::net::deadline::{Deadline, due};
use crate::net::splice::{Pipe, Side, WORTH_IT};
use crate::net::write::write_at_once;
use crate::upstream::balance::InFlight;
use crate::upstream::error::Error;
use crate::upstream::http1_conn::Http1Conn;
use crate::upstream::http1_response::{NoReply, PartialResponse};

use super::download::SMALLEST_PIECE;
use super::exchange::Http1Exchange;
use super::running_exchange::{ExchangeFailure, RunningExchange};

/// The proxy's answer to a client whose body is held for too long ([RFC 9110 §10.1.1]).
///
/// [RFC 9110 §10.1.1]: https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The rest of a request's body.
enum Left {
    /// This many bytes.
    Length(u64),
    /// Chunked; decoded and encoded again, without extensions.
    Chunks(Chunked),
}

impl Left {
    fn of(exchange: &Http1Exchange) -> Self {
        let trailers = match exchange.announces_trailers {
            true => TrailerPolicy::Strict,
            false => TrailerPolicy::Unannounced,
        };
        match exchange.framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunks(Chunked::with_trailers(trailers)),
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunks(chunked) => chunked.is_ended(),
        }
    }

    /// Writes the part of the body that `bytes` begin with and returns its length; bytes after the
    /// body stay.
    fn pass(&mut self, bytes: &mut &[u8], out: &mut Vec<u8>) -> Result<u64, InvalidChunk> {
        match self {
            Self::Length(left) => {
                let now = part(bytes, *left);
                out.extend_from_slice(now);
                *left -= now.len() as u64;
                *bytes = bytes.get(now.len()..).unwrap_or_default();
                Ok(now.len() as u64)
            }
            Self::Chunks(chunked) => pass_chunks(chunked, bytes, Coding::Chunks, out),
        }
    }

    /// How many bytes may be moved without inspecting them.
    fn opaque(&mut self) -> Option<&mut u64> {
        match self {
            Self::Length(left) => Some(left),
            Self::Chunks(_) => None,
        }
    }
}

impl<C: ClientStream> RunningExchange<'_, C> {
    /// Sends a request with its body. False: the upstream answered before it had all of it, and the
    /// rest stays unread.
    pub(crate) async fn upload(
        &mut self,
        in_flight: &InFlight,
        conn: &mut Http1Conn,
        received: &mut PartialResponse,
    ) -> Result<bool, ExchangeFailure> {
        let limit = in_flight.upstream().settings.timeouts.body_idle;
        if conn.is_reused && conn.is_readable() {
            let source = io::ErrorKind::UnexpectedEof.into();
            return Err(ExchangeFailure::Unsent(closed(in_flight, source)));
        }
        let mut left = Left::of(self.exchange);
        let mut unwritten = self.exchange.head_for(in_flight.upstream()).into_owned();
        let mut ahead = &**self.ahead;
        let came_with_head = left.pass(&mut ahead, &mut unwritten);
        // Not added: an earlier try that sent nothing counted the same bytes.
        self.moved.client_received = came_with_head.map_err(|InvalidChunk| invalid())?;
        let first = self.ahead.len() - ahead.len();
        // A client that sends its body at once does not wait for `100 Continue`.
        let mut hold = (self.exchange.expects_continue && first == 0)
            .then(|| Deadline::after(CONTINUE_PATIENCE));
        let (mut piece, mut written) = (SMALLEST_PIECE, 0);
        let is_worth_it = left.opaque().is_some_and(|left| *left >= WORTH_IT)
            && conn.stream.tcp().is_some()
            && self.client.tcp().is_some();
        let mut pipe = is_worth_it.then(|| self.proxy.pipes.take()).flatten();
        let mut has_begun = false;
        // What the client sent after the body.
        let mut behind = Vec::new();
        // The error of a failed write. An upstream that answers early may close at once, and then
        // the write fails before the response is read.
        let mut refused = None;
        self.deadline.set(due(limit));
        let sent = poll_fn(|cx| {
            loop {
                // A response at this point answers what the upstream has seen so far.
                match self.poll_early(cx, in_flight, conn, received) {
                    Poll::Ready(Ok(true)) => return Poll::Ready(Ok(false)),
                    Poll::Ready(Ok(false)) => continue,
                    Poll::Ready(Err(error)) => {
                        let error = closed(in_flight, refused.take().unwrap_or(error));
                        return Poll::Ready(Err(match (conn.is_reused, has_begun) {
                            (true, false) => ExchangeFailure::Unsent(error),
                            (true, true) => ExchangeFailure::Stale(error),
                            (false, _) => ExchangeFailure::Final(error),
                        }));
                    }
                    Poll::Pending if refused.is_some() => {
                        ready!(self.deadline.poll(cx));
                        return Poll::Ready(Err(ExchangeFailure::Final(
                            NoReply::Late.error(in_flight),
                        )));
                    }
                    Poll::Pending => {}
                }
                if self.pass_on(cx, received).is_err() {
                    return Poll::Ready(Err(ExchangeFailure::ClientLeft));
                }
                let rest = unwritten.get(written..).unwrap_or_default();
                let is_empty = rest.is_empty() && pipe.as_ref().is_none_or(Pipe::is_empty);
                if is_empty
                    && !left.is_ended()
                    && let Some(patience) = &mut hold
                {
                    if !received.is_continued && patience.poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    if !std::mem::replace(&mut received.is_continued, true) {
                        received.passed_on.extend_from_slice(CONTINUE);
                    }
                    hold = None;
                    // From now on, the client's time counts.
                    self.deadline.set(Instant::now() + limit);
                    continue;
                }
                let moved = if !rest.is_empty() {
                    let now = Pin::new(&mut conn.stream).poll_write(cx, rest);
                    now.map(|now| match now {
                        Ok(0) => Err(Side::Sink(io::ErrorKind::WriteZero.into())),
                        Ok(now) => {
                            has_begun = true;
                            written += now;
                            piece = SMALLEST_PIECE;
                            Ok(())
                        }
                        Err(error) => Err(Side::Sink(error)),
                    })
                } else if let (Some(pipe), Some(source), Some(sink), Some(left)) = (
                    pipe.as_mut(),
                    self.client.tcp(),
                    conn.stream.tcp(),
                    left.opaque(),
                ) && (*left > 0 || !pipe.is_empty())
                {
                    let before = *left;
                    let now = pipe.poll_move(cx, source, sink, left);
                    self.moved.client_received += before - *left;
                    now.map_ok(|_| ())
                } else if !left.is_ended() {
                    unwritten.clear();
                    written = 0;
                    let now =
                        self.poll_forward(cx, conn, &mut left, piece, &mut unwritten, &mut behind);
                    piece = match now.is_ready() {
                        true => piece.saturating_mul(2),
                        false => piece,
                    };
                    now
                } else {
                    let flushed = ready!(Pin::new(&mut conn.stream).poll_flush(cx));
                    match flushed {
                        Ok(()) => return Poll::Ready(Ok(true)),
                        Err(error) => Poll::Ready(Err(Side::Sink(error))),
                    }
                };
                if let Poll::Ready(Ok(())) = &moved {
                    // What still waits may have the head and framing in it.
                    let waiting = unwritten.len() - written + pipe.as_ref().map_or(0, Pipe::held);
                    let sent = self.moved.client_received.saturating_sub(waiting as u64);
                    self.moved.upstream_sent = self.moved.upstream_sent.max(sent);
                    self.moved.count();
                }
                match moved {
                    Poll::Ready(Ok(())) => self.deadline.set(due(limit)),
                    Poll::Ready(Err(Side::Sink(error))) => refused = Some(error),
                    // It may still read, and gets an error for its incomplete request.
                    Poll::Ready(Err(Side::Ended)) => {
                        let error = Error::RequestBody(io::ErrorKind::UnexpectedEof.into());
                        return Poll::Ready(Err(ExchangeFailure::Final(error)));
                    }
                    Poll::Ready(Err(Side::Invalid)) => return Poll::Ready(Err(invalid())),
                    Poll::Ready(Err(Side::Source(_))) => {
                        return Poll::Ready(Err(ExchangeFailure::ClientLeft));
                    }
                    Poll::Pending => {
                        ready!(self.deadline.poll(cx));
                        return Poll::Ready(Err(ExchangeFailure::Final(match is_empty {
                            true => Error::RequestBodyTimeout,
                            false => NoReply::Late.error(in_flight),
                        })));
                    }
                }
            }
        })
        .await;
        if let Some(pipe) = pipe {
            self.proxy.pipes.give_back(pipe);
        }
        if !matches!(sent, Err(ExchangeFailure::Unsent(_))) {
            // Until then, another connection may have to begin with it.
            self.ahead.drain(..first);
            self.ahead.append(&mut behind);
        }
        sent
    }

    /// Reads from the upstream during an upload; true: something other than an interim response
    /// arrived.
    fn poll_early(
        &mut self,
        cx: &mut Context<'_>,
        in_flight: &InFlight,
        conn: &mut Http1Conn,
        received: &mut PartialResponse,
    ) -> Poll<io::Result<bool>> {
        let scratch = &mut *self.proxy.scratch.borrow_mut();
        let free = scratch.input.get_mut(..SMALLEST_PIECE).unwrap_or_default();
        let mut buffer = ReadBuf::new(free);
        ready!(Pin::new(&mut conn.stream).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        received.bytes.extend_from_slice(buffer.filled());
        let is_final = !received.take_interim(&in_flight.upstream().settings.limits);
        received.is_new = !received.bytes.is_empty();
        Poll::Ready(Ok(is_final))
    }

    /// Reads a piece of the client's body and writes it to the upstream. What is not accepted stays
    /// in `unwritten`, and what follows the body is added to `behind`.
    fn poll_forward(
        &mut self,
        cx: &mut Context<'_>,
        conn: &mut Http1Conn,
        left: &mut Left,
        piece: usize,
        unwritten: &mut Vec<u8>,
        behind: &mut Vec<u8>,
    ) -> Poll<Result<(), Side>> {
        let scratch = &mut *self.proxy.scratch.borrow_mut();
        let most = left.opaque().map_or(u64::MAX, |left| *left);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let most = most.min(piece).min(scratch.input.len());
        let mut buffer = ReadBuf::new(scratch.input.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(&mut *self.client).poll_read(cx, &mut buffer)).map_err(Side::Source)?;
        let mut bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Err(Side::Ended));
        }
        let (now, content) = match left {
            Left::Length(left) => {
                *left -= bytes.len() as u64;
                (bytes, bytes.len() as u64)
            }
            Left::Chunks(_) => {
                scratch.output.clear();
                let content = left.pass(&mut bytes, &mut scratch.output);
                let content = content.map_err(|InvalidChunk| Side::Invalid)?;
                behind.extend_from_slice(bytes);
                (&*scratch.output, content)
            }
        };
        self.moved.client_received += content;
        *unwritten = write_at_once(cx, &mut conn.stream, now).map_err(Side::Sink)?;
        Poll::Ready(Ok(()))
    }
}

/// The client sent an invalid body: the upstream must not treat it as complete.
fn invalid() -> ExchangeFailure {
    ExchangeFailure::Final(Error::RequestBody(io::ErrorKind::InvalidData.into()))
}

fn closed(in_flight: &InFlight, source: io::Error) -> Error {
    Error::Closed {
        upstream: in_flight.upstream().to_string(),
        source,
    }
}
