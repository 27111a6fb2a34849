//! One client's connection, request by request, until it ends or we drain.
//!
//! While a connection waits it holds no buffer: the worker's one scratch buffer is borrowed when
//! bytes are there. HTTP/2 begins with its preface and is hyper's; every HTTP/1.1 head is read
//! here, and then the request is answered at once, carried out by the lane, or let through to
//! hyper alone.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::proxy::Client;
use crate::proxy::Deadline;
use crate::proxy::Exchange;
use crate::proxy::Look;
use crate::proxy::Proxy;
use crate::proxy::Single;
use crate::proxy::Went;
use crate::proxy::body::Body;
use crate::proxy::wire::Framing;

use super::Limits;
use super::drain::{DrainSignal, GRACE};
use super::gate::Gate;
use super::http2::Http2;
use super::listener::Socket;
use super::prefixed::Prefixed;

/// How a client that knows that we speak HTTP/2 begins ([RFC 9113 §3.4]).
///
/// [RFC 9113 §3.4]: https://www.rfc-editor.org/rfc/rfc9113#section-3.4
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// As much as is read at once of what a client asks.
const PIECE: usize = 16 * 1024;

/// How much of what a refused client still sends is read, so that it can read the refusal.
const LINGER_BYTES: usize = 1024 * 1024;

/// And for how long.
const LINGER: Duration = Duration::from_secs(2);

/// Serves connections: one worker's protocol settings.
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: Http2,
    limits: Limits,
}

/// What a client was found to speak before it said a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// Nothing: its first bytes will tell.
    Unknown,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocols {
    pub(super) fn new(limits: &Limits, metrics: &Arc<Metrics>) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_headers(limits.header_count)
            .max_header_size(limits.request_head_bytes);
        Self {
            http1,
            http2: Http2::new(limits, metrics),
            limits: limits.clone(),
        }
    }

    /// The limits on what clients send.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Serves a connection to its end.
    pub(super) async fn serve<S: Socket>(
        &self,
        mut stream: S,
        spoken: Spoken,
        client: Client,
        proxy: &Rc<Proxy>,
        drain: &DrainSignal,
    ) {
        if spoken == Spoken::Http2 {
            let proxy = Rc::clone(proxy);
            return Box::pin(self.http2.serve(stream, client, proxy, drain)).await;
        }
        let mut wait = Wait {
            limits: &self.limits,
            closing: pin!(drain.closing()),
            is_closing: false,
            is_fresh: true,
            is_hurried: false,
            may_be_http2: spoken == Spoken::Unknown,
            ahead: Vec::new(),
            is_partial: false,
            requests: 0,
            deadline: Deadline::after(self.limits.head_read),
        };
        loop {
            let turn = poll_fn(|cx| wait.poll_turn(cx, &mut stream, client, proxy)).await;
            if !turn.unwritten.is_empty() || turn.is_unflushed {
                let limit = self.limits.head_read;
                if write(&mut stream, &turn.unwritten, limit).await.is_err() {
                    return;
                }
            }
            match turn.then {
                Then::Wait => {}
                Then::End => return end(stream).await,
                Then::Linger => return Box::pin(linger(stream)).await,
                Then::Exchange(exchange) => {
                    let Wait {
                        ahead, deadline, ..
                    } = &mut wait;
                    let closes = || drain.is_closing();
                    let carried = proxy.carry_out(&exchange, &mut stream, ahead, deadline, &closes);
                    // Boxed: a connection that waits has no room for an exchange.
                    let went = Box::pin(carried).await;
                    proxy.take_back(*exchange);
                    match went {
                        Went::On => {}
                        Went::Ends => return end(stream).await,
                        Went::Refused => return Box::pin(linger(stream)).await,
                    }
                }
                Then::Single(request) => {
                    let ahead = std::mem::take(&mut wait.ahead);
                    let gate = Gate::new(stream, ahead, request);
                    let served = self.single(gate, request, client, proxy, drain);
                    let Some(gate) = Box::pin(served).await else {
                        return;
                    };
                    (stream, wait.ahead) = gate.into_parts();
                }
                Then::Http2 => {
                    let first = std::mem::take(&mut wait.ahead).into();
                    let stream = Prefixed::new(first, stream);
                    let proxy = Rc::clone(proxy);
                    return Box::pin(self.http2.serve(stream, client, proxy, drain)).await;
                }
            }
            wait.rest();
        }
    }

    /// Has hyper serve one request. Gives the connection back when that is answered; `None`: it
    /// has ended.
    async fn single<S: Socket>(
        &self,
        gate: Gate<S>,
        request: Single,
        client: Client,
        proxy: &Rc<Proxy>,
        drain: &DrainSignal,
    ) -> Option<Gate<S>> {
        let answered = Rc::new(Cell::new(false));
        let keeper = gate.keeper();
        let service = {
            let (proxy, answered, keeper) =
                (Rc::clone(proxy), Rc::clone(&answered), keeper.clone());
            service_fn(move |asked: Request<Incoming>| {
                let (proxy, answered) = (Rc::clone(&proxy), Rc::clone(&answered));
                let keeper = keeper.clone();
                Box::pin(async move {
                    let mut response = proxy.respond(asked, client).await;
                    // What we answer ourselves, we answer without a look at the body.
                    let is_ours = response.body().comes_from().is_none();
                    let is_unread = match is_ours {
                        true => request.framing != Framing::Length(0),
                        false => !keeper.is_through(),
                    };
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        keeper.open();
                    } else if request.has_upgrade || request.closes || is_unread {
                        // Where an upgrade was asked for, the connection is not had back either.
                        let close = HeaderValue::from_static("close");
                        response.headers_mut().insert(CONNECTION, close);
                    }
                    Ok::<_, Infallible>(response.map(|body| Answer { body, answered }))
                })
            })
        };
        let connection = self.http1.serve_connection(TokioIo::new(gate), service);
        let mut closing = pin!(drain.closing());
        // Where the connection is to end with this request, the response says so.
        let mut is_closing = request.closes;
        let mut closes_now = |cx: &mut Context<'_>| {
            let closes_now = !is_closing && closing.as_mut().poll(cx).is_ready();
            is_closing |= closes_now;
            closes_now
        };
        if request.has_upgrade {
            let mut connection = pin!(connection.with_upgrades());
            poll_fn(|cx| {
                let mut polled = connection.as_mut().poll(cx);
                if polled.is_pending() && closes_now(cx) {
                    connection.as_mut().graceful_shutdown();
                    polled = connection.as_mut().poll(cx);
                }
                polled.map(log_end)
            })
            .await;
            return None;
        }
        let mut connection = connection;
        let has_ended = poll_fn(|cx| {
            let mut polled = Pin::new(&mut connection).poll(cx);
            // Not before hyper has read the request: it would end without an answer.
            if polled.is_pending() && closes_now(cx) {
                Pin::new(&mut connection).graceful_shutdown();
                polled = Pin::new(&mut connection).poll(cx);
            }
            if let Poll::Ready(result) = polled {
                log_end(result);
                return Poll::Ready(true);
            }
            // The response's body was given up, so hyper has all of it; and the client has all
            // that hyper had.
            if answered.get() && !keeper.is_blocked() {
                return Poll::Ready(false);
            }
            Poll::Pending
        })
        .await;
        let parts = connection.into_parts();
        let gate = parts.io.into_inner();
        // What hyper has read of this request and not passed on is no next request.
        if !gate.is_through() || !parts.read_buf.is_empty() {
            linger(gate.into_parts().0).await;
            return None;
        }
        (!has_ended).then_some(gate)
    }
}

/// A response's body that tells when hyper has had all of it.
struct Answer {
    body: Body,
    answered: Rc<Cell<bool>>,
}

impl HttpBody for Answer {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.answered.set(true);
    }
}

fn log_end(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a client's connection ended early");
    }
}

/// What comes of the bytes that a client sent.
struct Turn {
    /// What the client did not take of the answers so far.
    unwritten: Vec<u8>,
    /// Whether something is held back above the socket (TLS).
    is_unflushed: bool,
    then: Then,
}

/// How a connection goes on.
enum Then {
    /// All was answered: wait for more.
    Wait,
    /// It ends.
    End,
    /// It ends, though the client may still be sending.
    Linger,
    /// Boxed: a connection that waits has no room for it.
    Exchange(Box<Exchange>),
    Single(Single),
    Http2,
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

/// Waits for requests, for as long as a client may be silent and nobody stops the server.
struct Wait<'w, C> {
    limits: &'w Limits,
    closing: Pin<&'w mut C>,
    is_closing: bool,
    /// Whether nothing came yet: who has just connected is about to ask something.
    is_fresh: bool,
    /// Whether the silence is limited by the grace.
    is_hurried: bool,
    may_be_http2: bool,
    /// What was read and not used yet.
    ahead: Vec<u8>,
    /// Whether that is the beginning of a head, whose rest has to come.
    is_partial: bool,
    /// How many requests there were.
    requests: usize,
    deadline: Deadline,
}

impl<C: Future<Output = ()>> Wait<'_, C> {
    /// Something was asked, and answered.
    fn rest(&mut self) {
        self.is_fresh = false;
        self.is_partial = false;
        self.deadline
            .set(Instant::now() + self.limits.keep_alive_idle);
    }

    fn poll_turn<S: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        client: Client,
        proxy: &Proxy,
    ) -> Poll<Turn> {
        let scratch = &mut *proxy.scratch();
        loop {
            let mut length = self.ahead.len();
            scratch.make_room(length);
            if let Some(front) = scratch.input.get_mut(..length) {
                front.copy_from_slice(&self.ahead);
            }
            if length == 0 || self.is_partial {
                let free = scratch.input.get_mut(length..).unwrap_or_default();
                let free = free.split_at_mut(PIECE.min(free.len())).0;
                let mut buffer = ReadBuf::new(free);
                match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                        length += buffer.filled().len();
                    }
                    Poll::Ready(_) => return Poll::Ready(Then::End.into()),
                    Poll::Pending => return self.poll_limits(cx, client, proxy),
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
            let is_closing = self.is_closing(cx);
            let left = self
                .limits
                .requests_per_connection
                .saturating_sub(self.requests);
            let (mut left, before) = match is_closing {
                true => (1, 1),
                false => (left, left),
            };
            let (rest, then) = answer(bytes, client, &mut left, proxy, &mut scratch.output);
            self.requests += before - left;
            let Ok((unwritten, is_unflushed)) = write_at_once(cx, stream, &scratch.output) else {
                return Poll::Ready(Then::End.into());
            };
            match then {
                // There is more to come before anything can be done.
                Then::Wait if !rest.is_empty() => self.keep_partial(rest),
                then => {
                    self.ahead = rest.to_vec();
                    return Poll::Ready(Turn {
                        unwritten,
                        is_unflushed,
                        then,
                    });
                }
            }
            if !unwritten.is_empty() || is_unflushed {
                return Poll::Ready(Turn {
                    unwritten,
                    is_unflushed,
                    then: Then::Wait,
                });
            }
        }
    }

    fn keep_partial(&mut self, bytes: &[u8]) {
        if !self.is_partial {
            self.is_partial = true;
            self.deadline.set(Instant::now() + self.limits.head_read);
        }
        self.ahead = bytes.to_vec();
    }

    fn is_closing(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_closing = self.is_closing || self.closing.as_mut().poll(cx).is_ready();
        self.is_closing
    }

    /// Nothing came: whether that is still allowed.
    fn poll_limits(&mut self, cx: &mut Context<'_>, client: Client, proxy: &Proxy) -> Poll<Turn> {
        if self.is_closing(cx) && !self.is_partial {
            if !self.is_fresh {
                return Poll::Ready(Then::End.into());
            }
            if !self.is_hurried {
                self.is_hurried = true;
                self.deadline.set(Instant::now() + GRACE);
            }
        }
        self.deadline.poll(cx).map(|()| {
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

/// Answers the requests that `bytes` begin with as far as they can be answered at once. Gives what
/// is left, and what is to be done with it. So many requests are `left` to the
/// connection; the last one's response says so.
fn answer<'b>(
    mut bytes: &'b [u8],
    client: Client,
    left: &mut usize,
    proxy: &Proxy,
    out: &mut Vec<u8>,
) -> (&'b [u8], Then) {
    loop {
        // Empty lines before a request are nothing (RFC 9112 §2.2).
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        if bytes.is_empty() {
            return (bytes, Then::Wait);
        }
        let behind = |consumed| bytes.get(consumed..).unwrap_or_default();
        let look = proxy.look(bytes, client, *left <= 1, out);
        if !matches!(look, Look::More) {
            *left = left.saturating_sub(1);
        }
        match look {
            Look::More => return (bytes, Then::Wait),
            Look::Answered { consumed, close } if close => return (behind(consumed), Then::Linger),
            Look::Answered { consumed, .. } => bytes = behind(consumed),
            Look::Exchange { consumed, exchange } => {
                return (behind(consumed), Then::Exchange(Box::new(exchange)));
            }
            Look::Single(request) => return (bytes, Then::Single(request)),
        }
    }
}

/// Writes what the client takes at once; gives the rest, and whether something is held back.
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

async fn write<S: Socket>(stream: &mut S, bytes: &[u8], limit: Duration) -> io::Result<()> {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    tokio::time::timeout(limit, written).await?
}

/// Says that nothing more comes.
async fn end<S: Socket>(mut stream: S) {
    // A client that has left already knows.
    let _ = tokio::time::timeout(LINGER, stream.shutdown()).await;
}

/// Ends a connection whose client may still be sending: closed with bytes unread, the system
/// would reset it, and the client could lose the answer ([RFC 9112 §9.6]).
///
/// [RFC 9112 §9.6]: https://www.rfc-editor.org/rfc/rfc9112#section-9.6
async fn linger<S: Socket>(mut stream: S) {
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
