//! Reads request heads on an HTTP/1.1 connection while no exchange is under way, and limits how long
//! that may take.
//!
//! A waiting connection holds no buffer: it borrows the worker's scratch buffer when bytes
//! arrive. Requests that need no upstream are answered here.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use crate::net::deadline::Deadline;
use crate::proxy::{Action, HeaderMapRequest, Http1Exchange, Proxy};
use crate::routing::client::Client;

use super::Limits;
use super::drain::GRACE;
use super::end_signal::EndSignal;
use super::head_budget::UnfinishedHead;
use super::listener::Socket;

/// The start of an HTTP/2 connection with prior knowledge ([RFC 9113 §3.4]).
///
/// [RFC 9113 §3.4]: https://www.rfc-editor.org/rfc/rfc9113#section-3.4
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The size of each read, in bytes.
const PIECE: usize = 16 * 1024;

/// The result of processing a client's bytes.
pub(super) struct Turn {
    /// Responses that the client has not accepted yet.
    unwritten: Vec<u8>,
    /// Whether the layer above the socket (TLS) holds back bytes.
    is_unflushed: bool,
    pub(super) then: Then,
}

/// How a connection continues.
pub(super) enum Then {
    /// Everything was answered: wait for more.
    HeadReader,
    /// The connection ends.
    End,
    /// The connection ends, although the client may still be sending.
    Linger,
    /// Boxed, so that a waiting connection needs no memory for it.
    Exchange(Box<Http1Exchange>),
    HeaderMapRequest(HeaderMapRequest),
    Http2,
}

impl Turn {
    /// Whether the client has accepted all responses so far.
    pub(super) fn is_delivered(&self) -> bool {
        self.unwritten.is_empty() && !self.is_unflushed
    }

    /// Sends the rest of the responses.
    pub(super) async fn deliver<S: Socket>(
        &self,
        stream: &mut S,
        limit: Duration,
    ) -> io::Result<()> {
        let delivered = async {
            stream.write_all(&self.unwritten).await?;
            stream.flush().await
        };
        tokio::time::timeout(limit, delivered).await?
    }
}

impl From<Then> for Turn {
    fn from(then: Then) -> Self {
        Self {
            unwritten: Vec::new(),
            is_unflushed: false,
            then,
        }
    }
}

/// Waits for requests, until the client has been silent too long or the server stops.
pub(super) struct HeadReader<'w, C> {
    limits: &'w Limits,
    end: &'w EndSignal<'w>,
    /// Counts the start of an unfinished head.
    unfinished: UnfinishedHead,
    closing: Pin<&'w mut C>,
    is_closing: bool,
    /// Whether the grace period limits the silence.
    is_hurried: bool,
    /// Whether the socket was read once more after the grace period.
    has_looked_again: bool,
    may_be_http2: bool,
    /// Bytes that were read but not processed.
    pub(super) ahead: Vec<u8>,
    /// Whether they are the start of a head.
    is_partial: bool,
    /// The size at which it is parsed again without a sign of its end.
    parse_at: usize,
    /// The number of requests.
    requests: usize,
    pub(super) deadline: Deadline,
}

impl<'w, C: Future<Output = ()>> HeadReader<'w, C> {
    /// Starts a connection; `closing` resolves when the server begins to drain.
    pub(super) fn new(
        limits: &'w Limits,
        may_be_http2: bool,
        unfinished: UnfinishedHead,
        end: &'w EndSignal<'w>,
        closing: Pin<&'w mut C>,
    ) -> Self {
        Self {
            limits,
            end,
            unfinished,
            closing,
            is_closing: false,
            is_hurried: false,
            has_looked_again: false,
            may_be_http2,
            ahead: Vec::new(),
            is_partial: false,
            parse_at: 0,
            requests: 0,
            deadline: Deadline::after(limits.head_read),
        }
    }

    /// Records a request that was answered at `now`.
    pub(super) fn rest(&mut self, now: Instant) {
        self.is_partial = false;
        self.deadline.set(now + self.limits.keep_alive_idle);
    }

    /// Reads and answers requests that can be answered at once, until something else must be
    /// done.
    pub(super) fn poll_turn<S: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        client: Client,
        proxy: &Proxy,
    ) -> Poll<Turn> {
        let scratch = &mut *proxy.scratch();
        loop {
            let mut length = self.ahead.len();
            if length == 0 || self.is_partial {
                let free = scratch.input.get_mut(..PIECE).unwrap_or_default();
                let mut buffer = ReadBuf::new(free);
                match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                    Poll::Ready(_) => return Poll::Ready(Then::End.into()),
                    Poll::Pending => return self.poll_limits(cx, client, proxy),
                }
                if length > 0 {
                    self.ahead.extend_from_slice(buffer.filled());
                    if !self.may_be_whole(length) {
                        continue;
                    }
                }
                length += buffer.filled().len();
            }
            if !self.ahead.is_empty() {
                scratch.make_room(length);
                if let Some(front) = scratch.input.get_mut(..length) {
                    front.copy_from_slice(&self.ahead);
                }
            }
            let bytes = scratch.input.get(..length).unwrap_or_default();
            if self.may_be_http2 {
                if bytes.starts_with(HTTP2_PREFACE) {
                    self.ahead = bytes.to_vec();
                    return Poll::Ready(Then::Http2.into());
                }
                if HTTP2_PREFACE.starts_with(bytes) {
                    self.keep_partial(bytes);
                    continue;
                }
                self.may_be_http2 = false;
            }
            scratch.output.clear();
            let is_ending = self.end.is_ending();
            let left = self
                .limits
                .requests_per_connection
                .saturating_sub(self.requests);
            let (mut left, before) = match is_ending {
                true => (1, 1),
                false => (left, left),
            };
            let (rest, then) = answer(bytes, client, &mut left, proxy, &mut scratch.output);
            let asked = before - left;
            self.requests += asked;
            let Ok((unwritten, is_unflushed)) = write_at_once(cx, stream, &scratch.output) else {
                return Poll::Ready(Then::End.into());
            };
            match then {
                // Nothing can be done before more bytes arrive.
                Then::HeadReader if !rest.is_empty() => self.keep_partial(rest),
                // Empty lines are not a request: the silence continues.
                Then::HeadReader if asked == 0 => {
                    (self.ahead, self.is_partial) = (Vec::new(), false)
                }
                then => {
                    self.unfinished.finish();
                    self.ahead = rest.to_vec();
                    return Poll::Ready(Turn {
                        unwritten,
                        is_unflushed,
                        then,
                    });
                }
            }
            let turn = Turn {
                unwritten,
                is_unflushed,
                then: Then::HeadReader,
            };
            if !turn.is_delivered() {
                return Poll::Ready(turn);
            }
        }
    }

    /// Whether to parse a partial head again, of which `known` bytes were parsed before: if there
    /// is a sign of its end, or its size has doubled. So a head that arrives byte by byte costs
    /// no more than a few times its length.
    fn may_be_whole(&self, known: usize) -> bool {
        let fresh = self.ahead.get(known.saturating_sub(3)..);
        let fresh = fresh.unwrap_or_default();
        let ends = |line_end: &[u8]| fresh.windows(line_end.len()).any(|bytes| bytes == line_end);
        self.may_be_http2
            || self.ahead.len() >= self.parse_at
            || self.ahead.len() > self.limits.request_head_bytes
            || ends(b"\n\r\n")
            || ends(b"\n\n")
    }

    fn keep_partial(&mut self, bytes: &[u8]) {
        if !self.is_partial {
            self.is_partial = true;
            // Half an empty line is not a request either.
            if bytes != b"\r" {
                self.deadline.set(Instant::now() + self.limits.head_read);
            }
        }
        self.parse_at = bytes.len().saturating_mul(2);
        self.ahead = bytes.to_vec();
    }

    fn is_closing(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_closing = self.is_closing || self.closing.as_mut().poll(cx).is_ready();
        self.is_closing
    }

    /// Handles silence: whether it is still allowed.
    fn poll_limits(&mut self, cx: &mut Context<'_>, client: Client, proxy: &Proxy) -> Poll<Turn> {
        self.end.set_busy(self.is_partial);
        if self.is_partial {
            let bytes = self.ahead.capacity();
            self.unfinished.hold(bytes, client.counted(), cx);
            if self.unfinished.is_refused() {
                let mut unwritten = Vec::new();
                proxy.refuse_unfinished_head(&self.ahead, client, &mut unwritten);
                return Poll::Ready(Turn {
                    unwritten,
                    ..Then::End.into()
                });
            }
        } else {
            self.unfinished.finish();
        }
        if !self.is_partial && self.end.is_retired() {
            return Poll::Ready(Then::End.into());
        }
        if self.is_closing(cx) && !self.is_partial && !self.is_hurried {
            self.is_hurried = true;
            self.deadline.set(Instant::now() + GRACE);
        }
        ready!(self.deadline.poll(cx));
        if self.is_hurried
            && !self.is_partial
            && !std::mem::replace(&mut self.has_looked_again, true)
        {
            // A request may have arrived that the runtime has not seen yet.
            return pin!(tokio::task::yield_now())
                .poll(cx)
                .map(|()| Then::End.into());
        }
        Poll::Ready({
            let mut unwritten = Vec::new();
            if self.is_partial {
                proxy.refuse_slow_head(&self.ahead, client, &mut unwritten);
            }
            Turn {
                unwritten,
                ..Then::End.into()
            }
        })
    }
}

/// Answers the requests at the start of `bytes` that can be answered at once. Returns the rest,
/// and what to do with it. The connection may have `left` more requests; the last response says
/// so.
fn answer<'b>(
    mut bytes: &'b [u8],
    client: Client,
    left: &mut usize,
    proxy: &Proxy,
    out: &mut Vec<u8>,
) -> (&'b [u8], Then) {
    loop {
        // Empty lines before a request are ignored (RFC 9112 §2.2).
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        if bytes.is_empty() {
            return (bytes, Then::HeadReader);
        }
        let behind = |consumed| bytes.get(consumed..).unwrap_or_default();
        let action = proxy.handle_head(bytes, client, *left <= 1, out);
        if !matches!(action, Action::More) {
            *left = left.saturating_sub(1);
        }
        match action {
            Action::More => return (bytes, Then::HeadReader),
            Action::Answered { consumed, close } if close => {
                return (behind(consumed), Then::Linger);
            }
            Action::Answered { consumed, .. } => bytes = behind(consumed),
            Action::Exchange { consumed, exchange } => {
                return (behind(consumed), Then::Exchange(Box::new(exchange)));
            }
            Action::HeaderMapRequest(request) => return (bytes, Then::HeaderMapRequest(request)),
        }
    }
}

/// Writes as much as the client accepts at once; returns the rest, and whether TLS holds back
/// bytes.
fn write_at_once<S: Socket>(
    cx: &mut Context<'_>,
    stream: &mut S,
    bytes: &[u8],
) -> io::Result<(Vec<u8>, bool)> {
    if bytes.is_empty() {
        return Ok((Vec::new(), false));
    }
    let written = match Pin::new(&mut *stream).poll_write(cx, bytes) {
        Poll::Ready(written) => written?,
        Poll::Pending => 0,
    };
    let rest = bytes.get(written..).unwrap_or_default();
    match Pin::new(stream).poll_flush(cx) {
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(())) => Ok((rest.to_vec(), false)),
        Poll::Pending => Ok((rest.to_vec(), true)),
    }
}
