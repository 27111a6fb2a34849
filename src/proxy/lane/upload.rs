//! A request and its body on their way to the upstream, which may answer before it has all of it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::balance::Lease;
use crate::proxy::error::Error;

use super::body::{SMALLEST_PIECE, part, write_at_once};
use super::connection::Raw;
use super::exchange::{Carrying, ClientStream, Failure, due};
use super::reply::{NoReply, Received};
use super::splice::{Pipe, Side, WORTH_IT};

impl<C: ClientStream> Carrying<'_, C> {
    /// Sends a request with its body. False: the upstream answered before it had all of it, so
    /// that the rest stays where it is.
    pub(super) async fn upload(
        &mut self,
        lease: &Lease,
        raw: &mut Raw,
        received: &mut Received,
    ) -> Result<bool, Failure> {
        let limit = lease.upstream().settings.timeouts.body_idle;
        if raw.is_reused && raw.is_closed() {
            let source = io::ErrorKind::UnexpectedEof.into();
            return Err(Failure::Unsent(closed(lease, source)));
        }
        let mut left = self.exchange.body;
        let mut unwritten = self.exchange.upstream_head().to_vec();
        let first = part(self.ahead, left).len();
        unwritten.extend(self.ahead.get(..first).unwrap_or_default());
        left -= first as u64;
        let (mut piece, mut written) = (SMALLEST_PIECE, 0);
        let is_worth_it =
            left >= WORTH_IT && raw.stream.tcp().is_some() && self.client.tcp().is_some();
        let mut pipe = is_worth_it.then(|| self.proxy.pipes.take()).flatten();
        let mut has_begun = false;
        // What came of the last write. Whoever answers early may close at once, and then it is the
        // write that fails first.
        let mut refused = None;
        self.deadline.set(due(limit));
        let sent = poll_fn(|cx| {
            loop {
                // A response that comes now is the answer to what the upstream has seen so far.
                match self.poll_early(cx, lease, raw, received) {
                    Poll::Ready(Ok(true)) => return Poll::Ready(Ok(false)),
                    Poll::Ready(Ok(false)) => continue,
                    Poll::Ready(Err(error)) => {
                        let error = closed(lease, refused.take().unwrap_or(error));
                        return Poll::Ready(Err(match (raw.is_reused, has_begun) {
                            (true, false) => Failure::Unsent(error),
                            (true, true) => Failure::Stale(error),
                            (false, _) => Failure::Final(error),
                        }));
                    }
                    Poll::Pending if refused.is_some() => {
                        ready!(self.deadline.poll(cx));
                        return Poll::Ready(Err(Failure::Final(NoReply::Late.error(lease))));
                    }
                    Poll::Pending => {}
                }
                let rest = unwritten.get(written..).unwrap_or_default();
                let waits_for_client = rest.is_empty() && pipe.as_ref().is_none_or(Pipe::is_empty);
                let moved = if !rest.is_empty() {
                    let now = Pin::new(&mut raw.stream).poll_write(cx, rest);
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
                } else if let (Some(pipe), Some(source), Some(sink)) = (
                    pipe.as_mut().filter(|pipe| left > 0 || !pipe.is_empty()),
                    self.client.tcp(),
                    raw.stream.tcp(),
                ) {
                    let now = pipe.poll_move(cx, source, sink, &mut left);
                    now.map_ok(|_| ())
                } else if left > 0 {
                    unwritten.clear();
                    written = 0;
                    let now = self.poll_forward(cx, raw, left, piece, &mut unwritten);
                    now.map_ok(|now| {
                        left -= now as u64;
                        piece = piece.saturating_mul(2);
                    })
                } else {
                    let flushed = ready!(Pin::new(&mut raw.stream).poll_flush(cx));
                    match flushed {
                        Ok(()) => return Poll::Ready(Ok(true)),
                        Err(error) => Poll::Ready(Err(Side::Sink(error))),
                    }
                };
                match moved {
                    Poll::Ready(Ok(())) => self.deadline.set(due(limit)),
                    Poll::Ready(Err(Side::Sink(error))) => refused = Some(error),
                    // It may still read, and is told that its request was not whole.
                    Poll::Ready(Err(Side::Ended)) => {
                        let error = Error::RequestBody(io::ErrorKind::UnexpectedEof.into());
                        return Poll::Ready(Err(Failure::Final(error)));
                    }
                    Poll::Ready(Err(Side::Source(_))) => {
                        return Poll::Ready(Err(Failure::ClientLeft));
                    }
                    Poll::Pending => {
                        ready!(self.deadline.poll(cx));
                        return Poll::Ready(Err(Failure::Final(if waits_for_client {
                            Error::RequestBodyTimeout
                        } else {
                            NoReply::Late.error(lease)
                        })));
                    }
                }
            }
        })
        .await;
        if let Some(pipe) = pipe {
            self.proxy.pipes.give_back(pipe);
        }
        if !matches!(sent, Err(Failure::Unsent(_))) {
            // Until then, another connection may have to begin with it.
            self.ahead.drain(..first);
        }
        sent
    }

    /// Reads what the upstream says in the middle of an upload; true: there is something to look
    /// at that is not an interim response.
    fn poll_early(
        &mut self,
        cx: &mut Context<'_>,
        lease: &Lease,
        raw: &mut Raw,
        received: &mut Received,
    ) -> Poll<io::Result<bool>> {
        let scratch = &mut *self.proxy.scratch.borrow_mut();
        let free = scratch.input.get_mut(..SMALLEST_PIECE).unwrap_or_default();
        let mut buffer = ReadBuf::new(free);
        ready!(Pin::new(&mut raw.stream).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        received.bytes.extend_from_slice(buffer.filled());
        let is_final = !received.drop_interim(&lease.upstream().settings.limits);
        received.is_new = !received.bytes.is_empty();
        Poll::Ready(Ok(is_final))
    }

    /// Reads a piece of the client's body and writes it to the upstream; what is not taken is
    /// left in `unwritten`.
    fn poll_forward(
        &mut self,
        cx: &mut Context<'_>,
        raw: &mut Raw,
        left: u64,
        piece: usize,
        unwritten: &mut Vec<u8>,
    ) -> Poll<Result<usize, Side>> {
        let scratch = &mut *self.proxy.scratch.borrow_mut();
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let most = most.min(piece).min(scratch.input.len());
        let mut buffer = ReadBuf::new(scratch.input.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(&mut *self.client).poll_read(cx, &mut buffer)).map_err(Side::Source)?;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Err(Side::Ended));
        }
        *unwritten = write_at_once(cx, &mut raw.stream, bytes).map_err(Side::Sink)?;
        Poll::Ready(Ok(bytes.len()))
    }
}

fn closed(lease: &Lease, source: io::Error) -> Error {
    Error::Closed {
        upstream: lease.upstream().to_string(),
        source,
    }
}
