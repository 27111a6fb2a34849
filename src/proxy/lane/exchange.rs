//! One exchange: a request to the upstream, its response back.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::header::CONNECTION;
use http::{HeaderValue, Method, StatusCode};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::cors::ReplacedFields;
use crate::metrics::UpstreamFailure;
use crate::proxy::answer;
use crate::proxy::balance::Lease;
use crate::proxy::body::BodyError;
use crate::proxy::deadline::Deadline;
use crate::proxy::error::Error;
use crate::proxy::failures;
use crate::proxy::logged::client_left;
use crate::proxy::pool::Tries;
use crate::proxy::snapshot::Route;
use crate::proxy::upstream::{Timeouts, Upstream};
use crate::proxy::wire::{Framing, TrailerPolicy};
use crate::proxy::{Held, Proxy};

use super::body::{self, Body, Broken, Coding, write_all, write_at_once};
use super::connection::Raw;
use super::look::ends;
use super::reply::{Expected, Interim, NoReply, Received};
use super::response::{Dressing, is_unsized, write_for_client, write_line, write_switch};
use super::told::{End, Told};

/// As much as is read ahead of a client that asks before it was answered, in bytes.
const READ_AHEAD: usize = 16 * 1024;

/// Bodies up to this size, in bytes, are copied behind their head, so that one piece is written.
const COPIED: usize = 16 * 1024;

/// A client's connection, as an exchange on bytes uses it.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin {
    /// The TCP connection, where there is nothing else between it and HTTP.
    fn tcp(&self) -> Option<&TcpStream>;
}

impl ClientStream for TcpStream {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl ClientStream for UnixStream {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientStream for TlsStream<S> {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

/// A request that was decided on, as it goes to the upstream.
pub struct Exchange {
    /// The CORS fields that the response gets, then the head that the upstream gets, then what the
    /// access log says of the request.
    pub(super) slip: Vec<u8>,
    /// Where the CORS fields end.
    pub(super) cors: usize,
    /// Where the head ends.
    pub(super) head: usize,
    /// Where in it the chosen upstream's `Host` goes; `None`: it has one.
    pub(super) host_at: Option<usize>,
    /// `None`: there is no log.
    pub(super) told: Option<Box<Told>>,
    /// `None`: CORS is the upstream's business.
    pub(super) marks: Option<Marks>,
    pub(super) held: Rc<Held>,
    /// Which of the snapshot's routes.
    pub(super) route: usize,
    pub(super) method: Method,
    /// Whose it is; `None`: a client that is not counted.
    pub(super) client: Option<IpAddr>,
    /// How the request's body is framed.
    pub(super) framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// Whether the client announces trailers (`Trailer`).
    pub(super) announces_trailers: bool,
    /// Whether the client takes trailers (`TE: trailers`).
    pub(super) accepts_trailers: bool,
    /// Whether it asks to leave HTTP.
    pub(super) upgrades: bool,
    /// Whether its credentials are for the connection (NTLM, Negotiate).
    pub(super) authenticates_connection: bool,
    /// Whether the client speaks HTTP/1.0.
    pub(super) is_http10: bool,
    /// Whether the client's connection ends with the response.
    pub(super) closes: bool,
    pub(super) start: Instant,
}

/// What the policy has on the response, besides the fields that allow it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// What `Vary` has to name.
    pub(super) vary: Option<&'static HeaderValue>,
    /// Which of those fields are beyond CORS.
    pub(super) replaced: ReplacedFields,
}

/// How an exchange left the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// The next request may come.
    On,
    /// It ends, with nothing left to be read.
    Ends,
    /// It ends while the client may still be sending.
    Refused,
    /// It ends without a word: its end must not be taken for a body's.
    Cut,
}

/// Why an exchange has no response, or not the whole.
pub(super) enum Failure {
    /// The connection was closed before anything was sent on it again.
    Unsent(Error),
    /// The connection was closed at the moment that it was used again: what became of the request
    /// is not known, and that the connection was old is no fault of the upstream's.
    Stale(Error),
    /// There is no use in another try.
    Final(Error),
    /// The client has left.
    ClientLeft,
}

impl Failure {
    fn allows_another_try(&self, exchange: &Exchange) -> bool {
        match self {
            Self::Unsent(_) => true,
            Self::Stale(_) => exchange.is_repeatable(),
            Self::Final(_) | Self::ClientLeft => false,
        }
    }
}

impl Exchange {
    /// The head that `upstream` gets.
    pub(super) fn head_for(&self, upstream: &Upstream) -> Cow<'_, [u8]> {
        let part = |from, to| self.slip.get(from..to).unwrap_or_default();
        match self.host_at {
            None => part(self.cors, self.head).into(),
            Some(at) => {
                let host = upstream.authority.as_bytes();
                [
                    part(self.cors, at),
                    b"host: ",
                    host,
                    b"\r\n",
                    part(at, self.head),
                ]
                .concat()
                .into()
            }
        }
    }

    fn cors_lines(&self) -> &[u8] {
        self.slip.get(..self.cors).unwrap_or_default()
    }

    fn dressing(&self, route: &Route, closes: bool) -> Dressing<'_> {
        Dressing {
            cors: self.marks.map(|_| self.cors_lines()),
            replaced: self
                .marks
                .map_or_else(Default::default, |marks| marks.replaced),
            vary: self.marks.and_then(|marks| marks.vary),
            via: route.forwarding.via,
            coding: self.coding(),
            ends: ends(closes, self.is_http10),
        }
    }

    /// How a body whose length is not known goes to the client.
    pub(super) fn coding(&self) -> Coding {
        match self.is_http10 {
            true => Coding::Identity,
            false => Coding::Chunks,
        }
    }

    /// What becomes of the response's trailers.
    fn trailers(&self) -> TrailerPolicy {
        match self.accepts_trailers {
            true => TrailerPolicy::Filter,
            false => TrailerPolicy::Drop,
        }
    }

    /// Which interim responses the client gets.
    fn interim(&self) -> Interim {
        match (self.is_http10, self.expects_continue) {
            (true, _) => Interim::None,
            (false, true) => Interim::All,
            (false, false) => Interim::Unasked,
        }
    }

    /// Whether it has no body.
    pub(super) fn is_bodiless(&self) -> bool {
        self.framing == Framing::Length(0)
    }

    /// Whether it may be sent twice (RFC 9110 §9.2.2): nothing of a body is gone.
    fn is_repeatable(&self) -> bool {
        self.is_bodiless() && self.method.is_idempotent()
    }
}

/// A response whose head, and what came with it, was written to the client.
struct Reply {
    /// What is still to come.
    left: Body,
    /// Whether the upstream's connection can carry another exchange after the body.
    is_upstream_free: bool,
    /// Whether the client's connection ends with it.
    closes: bool,
    /// What the client's connection did not take.
    unwritten: Vec<u8>,
    /// Whether the upstream asks for credentials that are for the connection.
    authenticates_connection: bool,
    /// What the upstream sent behind a response that switched to another protocol; `None`: it did
    /// not.
    switched: Option<Vec<u8>>,
}

impl Proxy {
    /// Carries out an exchange. `ahead` has what the client sent behind the request's head, and
    /// afterwards what it sent behind the request. `bound` is the upstream's connection that belongs
    /// to this client's. `closing` is asked when the response goes out:
    /// whether the connection ends with it.
    pub async fn carry_out<C: ClientStream>(
        &self,
        exchange: &Exchange,
        client: &mut C,
        ahead: &mut Vec<u8>,
        bound: &mut Option<Box<Raw>>,
        deadline: &mut Deadline,
        closing: &dyn Fn() -> bool,
    ) -> Went {
        let held = Rc::clone(&exchange.held);
        let route = held.0.routes.get(exchange.route);
        let mut carrying = Carrying {
            proxy: self,
            exchange,
            route: route.expect("an exchange's route is one of its snapshot's"),
            client,
            ahead,
            bound,
            deadline,
            closing,
            untaken: Vec::new(),
            status: client_left(),
            bytes: 0,
            upstream: None,
            failed: None,
            request_id: None,
        };
        match carrying.run().await {
            Ok(went) => went,
            Err(Failure::ClientLeft) => Went::Ends,
            Err(Failure::Unsent(error) | Failure::Stale(error) | Failure::Final(error)) => {
                Box::pin(carrying.answer_failure(&error)).await
            }
        }
    }

    /// Takes back what an exchange took along.
    pub fn take_back(&self, exchange: Exchange) {
        self.slips.give_back(exchange.slip);
    }
}

/// An exchange under way, with all that takes part in it but the upstream.
pub(super) struct Carrying<'c, C> {
    pub(super) proxy: &'c Proxy,
    pub(super) exchange: &'c Exchange,
    route: &'c Route,
    pub(super) client: &'c mut C,
    pub(super) ahead: &'c mut Vec<u8>,
    /// An upstream's connection that is authenticated for this client's.
    bound: &'c mut Option<Box<Raw>>,
    pub(super) deadline: &'c mut Deadline,
    closing: &'c dyn Fn() -> bool,
    /// What the client has not taken of interim responses.
    untaken: Vec<u8>,
    /// The response's.
    status: StatusCode,
    /// Of its body, moved to the client so far.
    pub(super) bytes: u64,
    /// Who answered, where the log wants to know it.
    upstream: Option<Arc<Upstream>>,
    /// Who did not, and why.
    failed: Option<(Box<str>, UpstreamFailure)>,
    request_id: Option<HeaderValue>,
}

impl<C> Drop for Carrying<'_, C> {
    /// The exchange has ended, however that came about.
    fn drop(&mut self) {
        let id = self.request_id.as_ref().and_then(|id| id.to_str().ok());
        let failed = self.failed.as_ref();
        let end = End {
            status: self.status,
            bytes: self.bytes,
            upstream: self.upstream.as_deref(),
            failed: failed.map(|(upstream, failure)| (&**upstream, *failure)),
            request_id: id.unwrap_or_default(),
        };
        self.proxy.tell(self.exchange, self.route, &end);
    }
}

impl<C: ClientStream> Carrying<'_, C> {
    async fn run(&mut self) -> Result<Went, Failure> {
        let (pool, upstreams) = (&self.proxy.pool, &self.route.upstreams);
        let mut tries = Tries::of(self.exchange.client);
        let ready = self.take_bound();
        let (mut lease, mut raw) = match ready.or_else(|| pool.idle_raw(upstreams, &tries)) {
            Some(ready) => ready,
            // Boxed, as all that is rare: it is no part of what each connection keeps.
            None => Box::pin(pool.checkout_raw(upstreams, &mut tries))
                .await
                .map_err(Failure::Final)?,
        };
        let reply = loop {
            match self.send_and_answer(&lease, &mut raw).await {
                Ok(reply) => {
                    lease.answered();
                    if self.exchange.told.is_some() {
                        self.upstream = Some(Arc::clone(lease.upstream()));
                    }
                    break reply;
                }
                // The upstream closed a kept-alive connection at the moment that it was used
                // again: once more, on a new one (RFC 9112 §9.3.1).
                Err(failure) if failure.allows_another_try(self.exchange) => {
                    tries.stale.push(lease.upstream().id);
                    // It has a place that the new one may need.
                    drop(raw);
                    let again = Box::pin(pool.checkout_raw(upstreams, &mut tries));
                    (lease, raw) = again.await.map_err(Failure::Final)?;
                }
                Err(failure) => {
                    if let Failure::Final(error) = &failure {
                        lease.failed(error);
                    }
                    return Err(failure);
                }
            }
        };
        let Reply {
            left,
            is_upstream_free,
            closes,
            unwritten,
            authenticates_connection,
            switched,
        } = reply;
        raw.is_bound |= authenticates_connection || self.exchange.authenticates_connection;
        if let Some(first) = switched {
            return Ok(Box::pin(self.tunnel(raw, unwritten, first)).await);
        }
        let limit = lease.upstream().settings.timeouts.body_idle;
        if !left.is_ended() || !unwritten.is_empty() {
            let moved = self.download(left, unwritten, &mut raw, limit);
            if let Err(broken) = Box::pin(moved).await {
                self.note_broken_body(&lease, &broken);
                // Cut: the client must not take what it has for the whole.
                return Ok(self.cut());
            }
        }
        if self.client.tcp().is_none() {
            // What is between us and the socket (TLS) may hold something back.
            self.deadline.set(due(limit));
            let flushed = write_all(self.client, b"", self.deadline, None).await;
            flushed.map_err(|_| Failure::ClientLeft)?;
        }
        if is_upstream_free && raw.is_bound && !raw.is_spent {
            *self.bound = Some(Box::new(raw));
        } else if is_upstream_free {
            raw.give_back();
        }
        Ok(match closes {
            false => Went::On,
            // Whether the client is still sending is not known.
            true => Went::Refused,
        })
    }

    /// The connection that belongs to this client's, if the request goes to its upstream.
    fn take_bound(&mut self) -> Option<(Lease, Raw)> {
        let bound = self.bound.as_deref_mut()?;
        let lease = bound.lease_for(&self.route.upstreams, self.exchange.client)?;
        let mut raw = *self.bound.take()?;
        raw.is_reused = true;
        Some((lease, raw))
    }

    /// Ends the connection of a client in the middle of a response's body. Where the end of the
    /// connection would be the body's, it is reset.
    fn cut(&self) -> Went {
        if self.exchange.coding() == Coding::Chunks {
            return Went::Ends;
        }
        if let Some(tcp) = self.client.tcp() {
            // What fails here fails because the client is gone.
            let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
        }
        Went::Cut
    }

    async fn send_and_answer(&mut self, lease: &Lease, raw: &mut Raw) -> Result<Reply, Failure> {
        let mut received = Received::nothing(self.exchange.interim());
        // What an earlier try left of an interim response goes first.
        received.passed_on = std::mem::take(&mut self.untaken);
        let answered = self.ask(lease, raw, &mut received).await;
        self.untaken = received.passed_on;
        answered
    }

    async fn ask(
        &mut self,
        lease: &Lease,
        raw: &mut Raw,
        received: &mut Received,
    ) -> Result<Reply, Failure> {
        let exchange = self.exchange;
        let timeouts = lease.upstream().settings.timeouts;
        let mut is_sent = true;
        self.deadline.set(due(timeouts.response_head));
        // What may be sent but once goes the careful way.
        if exchange.is_repeatable() {
            let head = exchange.head_for(lease.upstream());
            let sent = raw.send(&head, self.deadline).await;
            sent.map_err(|no_reply| failure(no_reply, lease, raw))?;
        } else {
            let upload = self.upload(lease, raw, received);
            is_sent = Box::pin(upload).await?;
            self.deadline.set(due(timeouts.response_head));
        }
        let answered = poll_fn(|cx| {
            match self.poll_answer(cx, !is_sent, lease, raw, received) {
                Poll::Pending => {}
                ready => return ready,
            }
            if self.pass_on(cx, received).is_err() {
                return Poll::Ready(Err(Failure::ClientLeft));
            }
            if is_sent && let Poll::Ready(Err(_)) = self.poll_ahead(cx) {
                return Poll::Ready(Err(Failure::ClientLeft));
            }
            let late = || Failure::Final(NoReply::Late.error(lease));
            self.deadline.poll(cx).map(|()| Err(late()))
        });
        let mut reply = answered.await?;
        reply.is_upstream_free &= is_sent;
        Ok(reply)
    }

    /// Reads a response's head, writes it for the client with what came of the body.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        must_close: bool,
        lease: &Lease,
        raw: &mut Raw,
        received: &mut Received,
    ) -> Poll<Result<Reply, Failure>> {
        let (proxy, exchange) = (self.proxy, self.exchange);
        let expected = Expected {
            limits: &lease.upstream().settings.limits,
            to_head: exchange.method == Method::HEAD,
            piece: usize::MAX,
            may_repeat: raw.is_reused && exchange.is_repeatable(),
            // Before the request's end, what comes next is not of the other protocol.
            may_switch: exchange.upgrades && !must_close,
        };
        let closes = must_close || exchange.closes || (self.closing)();
        let scratch = &mut *proxy.scratch.borrow_mut();
        let answered = raw.poll_head(cx, scratch, received, &expected, |cx, head, rest, out| {
            proxy.count_exchange(exchange, self.route, head.status);
            self.status = head.status;
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                write_switch(head, out);
                let unwritten = write_at_once(cx, self.client, out);
                return Ok(Reply {
                    left: Body::Length(0),
                    is_upstream_free: false,
                    closes: true,
                    unwritten: unwritten.map_err(|_| Failure::ClientLeft)?,
                    authenticates_connection: false,
                    switched: Some(rest.to_vec()),
                });
            }
            // The end of the connection is the body's.
            let closes = closes || is_unsized(head) && exchange.is_http10;
            let dressing = exchange.dressing(self.route, closes);
            write_for_client(head, &dressing, out);
            if head.is_dated {
                out.extend_from_slice(b"\r\n");
            } else {
                proxy.date.write(Instant::now(), out);
            }
            let (mut left, mut rest) = (Body::of(head.body, exchange.trailers()), rest);
            let unwritten = match &mut left {
                Body::Length(length) if *length > COPIED as u64 => {
                    let now = body::part(rest, *length);
                    *length -= now.len() as u64;
                    self.bytes += now.len() as u64;
                    rest = rest.get(now.len()..).unwrap_or_default();
                    body::write_both_at_once(cx, self.client, out, now)
                }
                left => {
                    self.bytes += left.pass(&mut rest, exchange.coding(), out);
                    write_at_once(cx, self.client, out)
                }
            };
            Ok(Reply {
                left,
                // What comes behind a response is no response to anything.
                is_upstream_free: !head.closes && rest.is_empty(),
                closes,
                unwritten: unwritten.map_err(|_| Failure::ClientLeft)?,
                authenticates_connection: head.authenticates_connection,
                switched: None,
            })
        });
        answered.map(|answered| answered.map_err(|no_reply| failure(no_reply, lease, raw))?)
    }

    /// Reads what the client sends before it was answered, up to a bound. Ready when it sends no
    /// more, though it may still read (RFC 9112 §9.6), or with an error when it has left.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.len() < READ_AHEAD {
            let scratch = &mut *self.proxy.scratch.borrow_mut();
            let free = scratch.input.get_mut(..READ_AHEAD).unwrap_or_default();
            let mut buffer = ReadBuf::new(free);
            ready!(Pin::new(&mut *self.client).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.ahead.extend_from_slice(buffer.filled());
        }
        Poll::Pending
    }

    /// Gives the client what it takes of interim responses.
    pub(super) fn pass_on(
        &mut self,
        cx: &mut Context<'_>,
        received: &mut Received,
    ) -> io::Result<()> {
        if !received.passed_on.is_empty() {
            received.passed_on = write_at_once(cx, self.client, &received.passed_on)?;
        }
        Ok(())
    }

    /// Counts and logs a response's body that broke off.
    fn note_broken_body(&self, lease: &Lease, broken: &Broken) {
        let cause = match broken {
            Broken::Client => {
                return tracing::debug!(
                    "a client left in the middle of a response, or took no more of it"
                );
            }
            Broken::Upstream(error) => error.to_string(),
            Broken::Chunk => "a chunk is none".to_owned(),
            Broken::Idle { .. } => BodyError::Idle.to_string(),
        };
        let (route, worker) = (self.route, self.proxy.worker);
        // A stream without a length may be silent for as long as it likes: that is our limit.
        if !matches!(broken, Broken::Idle { owes: false }) {
            route
                .metrics
                .upstream_failure(worker, UpstreamFailure::Body);
        }
        let upstream = lease.upstream();
        failures::log(UpstreamFailure::Body, || {
            tracing::warn!(route = &*route.name, %upstream, cause, "a response's body broke off");
        });
    }

    /// Answers for an upstream that did not.
    async fn answer_failure(&mut self, error: &Error) -> Went {
        let (proxy, exchange, route) = (self.proxy, self.exchange, self.route);
        let failed = error.failed_upstream().filter(|_| exchange.told.is_some());
        self.failed = failed.map(|(upstream, failure)| (upstream.into(), failure));
        let mut response = proxy.failure(route, error, exchange.marks.is_some());
        // A request whose body was not read to its end has bytes behind it that are no request.
        let is_unread = !exchange.is_bodiless();
        let closes = exchange.closes || is_unread || error.answer().close || (self.closing)();
        // Our own line says it.
        response.headers_mut().remove(CONNECTION);
        let dressing = exchange.dressing(route, closes);
        let mut lines = dressing.cors.unwrap_or_default().to_vec();
        lines.extend_from_slice(dressing.ends);
        if let Some(names) = dressing.vary {
            write_line(b"vary", names.as_bytes(), &mut lines);
        }
        proxy.count_exchange(exchange, route, response.status());
        self.status = response.status();
        self.request_id = response.headers().get(answer::REQUEST_ID).cloned();
        let (mut bytes, now) = (std::mem::take(&mut self.untaken), Instant::now());
        let to_head = exchange.method == Method::HEAD;
        let length = answer::write(response, &lines, to_head, &proxy.date, now, &mut bytes);
        self.bytes = length as u64;
        self.deadline.set(due(Timeouts::default().body_idle));
        match write_all(self.client, &bytes, self.deadline, None).await {
            Ok(()) if closes => Went::Refused,
            Ok(()) => Went::On,
            Err(_) => Went::Ends,
        }
    }
}

pub(in crate::proxy) fn due(limit: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + limit
}

fn failure(no_reply: NoReply, lease: &Lease, raw: &Raw) -> Failure {
    let is_stale = no_reply.is_stale(raw);
    let error = no_reply.error(lease);
    match is_stale {
        true => Failure::Stale(error),
        false => Failure::Final(error),
    }
}
