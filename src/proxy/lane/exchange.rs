//! One plain exchange: a request to the upstream, its response back.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::metrics::UpstreamFailure;
use crate::proxy::answer;
use crate::proxy::balance::Lease;
use crate::proxy::deadline::Deadline;
use crate::proxy::error::Error;
use crate::proxy::failures;
use crate::proxy::logged::client_left;
use crate::proxy::pool::Tries;
use crate::proxy::snapshot::Route;
use crate::proxy::upstream::{Timeouts, Upstream};
use crate::proxy::{Held, Proxy};

use super::body::{self, Body, Broken, write_all, write_at_once};
use super::connection::Raw;
use super::reply::{Expected, NoReply, Received};
use super::response::{Dressing, write_for_client, write_line};
use super::told::{End, Told};

/// As much as is read ahead of a client that asks before it was answered, in bytes.
const READ_AHEAD: usize = 16 * 1024;

/// Bodies up to this size, in bytes, are copied behind their head, so that one piece is written.
const COPIED: usize = 16 * 1024;

/// A client's connection, as the lane uses it.
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
    /// The head that the upstream gets, then the CORS fields that the response gets, then what the
    /// access log wants to know.
    pub(super) slip: Vec<u8>,
    /// Where the head ends.
    pub(super) head: usize,
    /// Where the CORS fields end.
    pub(super) cors: usize,
    /// `None`: there is no log.
    pub(super) told: Option<Box<Told>>,
    /// `None`: CORS is the upstream's business.
    pub(super) marks: Option<Marks>,
    pub(super) held: Rc<Held>,
    /// Which of the snapshot's routes.
    pub(super) route: usize,
    pub(super) method: Method,
    /// How long the request's body is.
    pub(super) body: u64,
    /// Whether the client's connection ends with the response.
    pub(super) closes: bool,
    pub(super) start: Instant,
}

/// What the policy has on the response, besides the fields that allow it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// What `Vary` has to name.
    pub(super) vary: Option<&'static HeaderValue>,
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
    pub(super) fn upstream_head(&self) -> &[u8] {
        self.slip.get(..self.head).unwrap_or_default()
    }

    fn cors_lines(&self) -> &[u8] {
        self.slip.get(self.head..self.cors).unwrap_or_default()
    }

    fn dressing(&self, route: &Route, closes: bool) -> Dressing<'_> {
        Dressing {
            cors: self.marks.map(|_| self.cors_lines()),
            vary: self.marks.and_then(|marks| marks.vary),
            via: route.forwarding.via,
            closes,
        }
    }

    /// Whether it may be sent twice (RFC 9110 §9.2.2): nothing of a body is gone.
    fn is_repeatable(&self) -> bool {
        self.body == 0 && self.method.is_idempotent()
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
}

impl Proxy {
    /// Carries out an exchange. `ahead` has what the client sent behind the request's head, and
    /// afterwards what it sent behind the request. `closing` is asked when the response goes out:
    /// whether the connection ends with it.
    pub async fn carry_out<C: ClientStream>(
        &self,
        exchange: &Exchange,
        client: &mut C,
        ahead: &mut Vec<u8>,
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
            deadline,
            closing,
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
    pub(super) deadline: &'c mut Deadline,
    closing: &'c dyn Fn() -> bool,
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
        let mut tries = Tries::default();
        let (mut lease, mut raw) = match pool.idle_raw(upstreams) {
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
        } = reply;
        let limit = lease.upstream().settings.timeouts.body_idle;
        if !left.is_ended() || !unwritten.is_empty() {
            let moved = self.download(left, unwritten, &mut raw, limit);
            if let Err(broken) = Box::pin(moved).await {
                self.note_broken_body(&lease, &broken);
                // Cut: the client must not take what it has for the whole.
                return Ok(Went::Ends);
            }
        }
        if self.client.tcp().is_none() {
            // What is between us and the socket (TLS) may hold something back.
            self.deadline.set(due(limit));
            let flushed = write_all(self.client, b"", self.deadline, None).await;
            flushed.map_err(|_| Failure::ClientLeft)?;
        }
        if is_upstream_free {
            raw.give_back();
        }
        Ok(match closes {
            false => Went::On,
            // Whether the client is still sending is not known.
            true => Went::Refused,
        })
    }

    async fn send_and_answer(&mut self, lease: &Lease, raw: &mut Raw) -> Result<Reply, Failure> {
        let exchange = self.exchange;
        let timeouts = lease.upstream().settings.timeouts;
        let mut received = Received::default();
        let mut is_sent = true;
        self.deadline.set(due(timeouts.response_head));
        // What may be sent but once goes the careful way.
        if exchange.is_repeatable() {
            let head = exchange.upstream_head();
            let sent = raw.send(head, self.deadline).await;
            sent.map_err(|no_reply| failure(no_reply, lease, raw))?;
        } else {
            let upload = self.upload(lease, raw, &mut received);
            is_sent = Box::pin(upload).await?;
            self.deadline.set(due(timeouts.response_head));
        }
        let answered = poll_fn(|cx| {
            match self.poll_answer(cx, !is_sent, lease, raw, &mut received) {
                Poll::Pending => {}
                ready => return ready,
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
        };
        let closes = must_close || exchange.closes || (self.closing)();
        let dressing = exchange.dressing(self.route, closes);
        let scratch = &mut *proxy.scratch.borrow_mut();
        let answered = raw.poll_head(cx, scratch, received, &expected, |cx, head, rest, out| {
            write_for_client(head, &dressing, out);
            if head.is_dated {
                out.extend_from_slice(b"\r\n");
            } else {
                proxy.date.write(Instant::now(), out);
            }
            proxy.count_exchange(exchange, self.route, head.status);
            self.status = head.status;
            let (mut left, mut rest) = (Body::of(head.body), rest);
            let unwritten = match &mut left {
                Body::Length(length) if *length > COPIED as u64 => {
                    let now = body::part(rest, *length);
                    *length -= now.len() as u64;
                    self.bytes += now.len() as u64;
                    rest = rest.get(now.len()..).unwrap_or_default();
                    body::write_both_at_once(cx, self.client, out, now)
                }
                left => {
                    self.bytes += left.pass(&mut rest, out);
                    write_at_once(cx, self.client, out)
                }
            };
            Ok(Reply {
                left,
                // What comes behind a response is no response to anything.
                is_upstream_free: !head.closes && rest.is_empty(),
                closes,
                unwritten: unwritten.map_err(|_| Failure::ClientLeft)?,
            })
        });
        answered.map(|answered| answered.map_err(|no_reply| failure(no_reply, lease, raw))?)
    }

    /// Reads what the client sends before it was answered, up to a bound; an error: it has left. One
    /// that sends no more may still read (RFC 9112 §9.6).
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        Poll::Ready(Ok(()))
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
            Broken::Idle => "nothing came for too long".to_owned(),
        };
        let (route, worker) = (self.route, self.proxy.worker);
        route
            .metrics
            .upstream_failure(worker, UpstreamFailure::Body);
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
        let is_unread = exchange.body > 0;
        let closes = exchange.closes || is_unread || error.answer().close || (self.closing)();
        if closes {
            answer::close(&mut response);
        }
        let dressing = exchange.dressing(route, closes);
        let mut lines = dressing.cors.unwrap_or_default().to_vec();
        if let Some(names) = dressing.vary {
            write_line(b"vary", names.as_bytes(), &mut lines);
        }
        proxy.count_exchange(exchange, route, response.status());
        self.status = response.status();
        self.request_id = response.headers().get(answer::REQUEST_ID).cloned();
        if exchange.method != Method::HEAD {
            self.bytes = response.size_hint().exact().unwrap_or_default();
        }
        let (mut bytes, now) = (Vec::new(), Instant::now());
        let to_head = exchange.method == Method::HEAD;
        answer::write(response, &lines, to_head, &proxy.date, now, &mut bytes);
        self.deadline.set(due(Timeouts::default().body_idle));
        match write_all(self.client, &bytes, self.deadline, None).await {
            Ok(()) if closes => Went::Refused,
            Ok(()) => Went::On,
            Err(_) => Went::Ends,
        }
    }
}

pub(super) fn due(limit: Duration) -> tokio::time::Instant {
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
