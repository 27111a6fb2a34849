//! One exchange: a request to the upstream, its response back.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use socket2::SockRef;
use tokio::io::ReadBuf;

use crate::http1::body::{BodyReader, Coding, part};
use crate::http1::buffers::READ_AHEAD;
use crate::http1::client_head::{is_unsized, write_for_client, write_switch};
use crate::net::client_stream::ClientStream;
use crate::net::deadline::{Deadline, due};
use crate::net::write::{write_all, write_at_once, write_both_at_once};
use crate::telemetry::access_log::BodyCut;
use crate::upstream::balance::InFlight;
use crate::upstream::http1_conn::Http1Conn;
use crate::upstream::http1_response::{Expected, NoReply, PartialResponse};
use crate::upstream::pool::Tries;

use super::Proxy;
use super::exchange::Exchange;
use super::log_guard::client_left;
use super::running_exchange::{ConnFate, ExchangeFailure, RunningExchange};

/// Bodies up to this size, in bytes, are copied behind their head, so that one piece is written.
const COPIED: usize = 16 * 1024;

/// A response whose head, and what came with it, was written to the client.
struct Reply {
    /// What is still to come.
    left: BodyReader,
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
    ///
    /// No `async fn`, which would hold its arguments twice: the future is allocated for each request.
    pub fn carry_out<'c, C: ClientStream>(
        &'c self,
        exchange: &'c Exchange,
        client: &'c mut C,
        ahead: &'c mut Vec<u8>,
        bound: &'c mut Option<Box<Http1Conn>>,
        deadline: &'c mut Deadline,
        closing: &'c dyn Fn() -> bool,
    ) -> impl Future<Output = ConnFate> {
        let route = exchange.held.0.routes.get(exchange.route);
        let mut running_exchange = RunningExchange {
            proxy: self,
            exchange,
            route: route.expect("an exchange's route is one of its snapshot's"),
            client,
            ahead,
            bound,
            deadline,
            closing,
            now: exchange.start,
            untaken: Vec::new(),
            status: client_left(),
            bytes: 0,
            cut: None,
            upstream: None,
            failed: None,
            request_id: None,
            verdict: None,
        };
        async move {
            match running_exchange.run().await {
                Ok(went) => went,
                Err(ExchangeFailure::ClientLeft) => ConnFate::Ends,
                Err(
                    ExchangeFailure::Unsent(error)
                    | ExchangeFailure::Stale(error)
                    | ExchangeFailure::Final(error),
                ) => Box::pin(running_exchange.answer_failure(&error)).await,
            }
        }
    }

    /// Takes back what an exchange took along.
    pub fn take_back(&self, exchange: Exchange) {
        self.buffers.give_back(exchange.head_buf);
    }
}

impl<C: ClientStream> RunningExchange<'_, C> {
    async fn run(&mut self) -> Result<ConnFate, ExchangeFailure> {
        let (pool, upstreams) = (&self.proxy.pool, &self.route.upstreams);
        let client = self.exchange.client;
        // Boxed, as all that is rare: a request's future is allocated for each request.
        let mut tries = None;
        let new_tries = || Box::new(Tries::of(client));
        let ready = self.take_bound();
        let (mut in_flight, mut conn) = match ready.or_else(|| pool.idle_http1(upstreams, client)) {
            Some(ready) => ready,
            None => {
                let tries = tries.get_or_insert_with(new_tries);
                let new = Box::pin(pool.checkout_http1(upstreams, tries)).await;
                self.now = Instant::now();
                new.map_err(ExchangeFailure::Final)?
            }
        };
        let reply = loop {
            match self.send_and_answer(&in_flight, &mut conn).await {
                Ok(reply) => {
                    in_flight.answered();
                    if self.exchange.note.is_some() {
                        self.upstream = Some(Arc::clone(in_flight.upstream()));
                    }
                    break reply;
                }
                // The upstream closed a kept-alive connection at the moment that it was used
                // again: once more, on a new one (RFC 9112 §9.3.1).
                Err(failure) if failure.allows_another_try(self.exchange) => {
                    let tries = tries.get_or_insert_with(new_tries);
                    tries.stale.push(in_flight.upstream().id);
                    // It has a place that the new one may need.
                    drop(conn);
                    let again = Box::pin(pool.checkout_http1(upstreams, tries));
                    (in_flight, conn) = again.await.map_err(ExchangeFailure::Final)?;
                    self.now = Instant::now();
                }
                Err(failure) => {
                    if let ExchangeFailure::Final(error) = &failure {
                        in_flight.failed(error);
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
        conn.is_bound |= authenticates_connection || self.exchange.authenticates_connection;
        if let Some(first) = switched {
            return Ok(Box::pin(self.tunnel(conn, unwritten, first)).await);
        }
        let limit = in_flight.upstream().settings.timeouts.body_idle;
        // Until the client has all of it.
        self.cut = Some(BodyCut::Client);
        if !left.is_ended() || !unwritten.is_empty() {
            let moved = self.download(left, unwritten, &mut conn, limit);
            if let Err(broken) = Box::pin(moved).await {
                self.cut = Some(broken.cut());
                self.note_broken_body(&in_flight, &broken);
                // Cut: the client must not take what it has for the whole.
                return Ok(self.cut());
            }
            self.now = Instant::now();
        }
        if self.client.tcp().is_none() {
            // What is between us and the socket (TLS) may hold something back.
            self.deadline.set(due(limit));
            let flushed = Box::pin(write_all(self.client, b"", self.deadline, None)).await;
            flushed.map_err(|_| ExchangeFailure::ClientLeft)?;
            // The client may have taken its time.
            self.now = Instant::now();
        }
        self.cut = None;
        if is_upstream_free && conn.is_bound && !conn.is_spent {
            *self.bound = Some(conn);
        } else if is_upstream_free {
            conn.give_back(self.now);
        }
        Ok(match closes {
            false => ConnFate::On(self.now),
            // Whether the client is still sending is not known.
            true => ConnFate::Refused,
        })
    }

    /// The connection that belongs to this client's, if the request goes to its upstream.
    fn take_bound(&mut self) -> Option<(InFlight, Box<Http1Conn>)> {
        let bound = self.bound.as_deref_mut()?;
        let in_flight = bound.in_flight_for(&self.route.upstreams, self.exchange.client)?;
        let mut conn = self.bound.take()?;
        conn.is_reused = true;
        Some((in_flight, conn))
    }

    /// Ends the connection of a client in the middle of a response's body. Where the end of the
    /// connection would be the body's, it is reset.
    fn cut(&self) -> ConnFate {
        if self.exchange.coding() == Coding::Chunks {
            return ConnFate::Ends;
        }
        if let Some(tcp) = self.client.tcp() {
            // What fails here fails because the client is gone.
            let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
        }
        ConnFate::Cut
    }

    async fn send_and_answer(
        &mut self,
        in_flight: &InFlight,
        conn: &mut Http1Conn,
    ) -> Result<Reply, ExchangeFailure> {
        let mut received = PartialResponse::nothing(self.exchange.interim());
        // What an earlier try left of an interim response goes first.
        received.passed_on = std::mem::take(&mut self.untaken);
        let answered = self.ask(in_flight, conn, &mut received).await;
        self.untaken = received.passed_on;
        answered
    }

    async fn ask(
        &mut self,
        in_flight: &InFlight,
        conn: &mut Http1Conn,
        received: &mut PartialResponse,
    ) -> Result<Reply, ExchangeFailure> {
        let exchange = self.exchange;
        let response_head = in_flight.upstream().settings.timeouts.response_head;
        let mut is_sent = true;
        let limit = self.now + response_head;
        self.deadline.set(limit.into());
        // What may be sent but once goes the careful way.
        if exchange.is_repeatable() {
            let head = exchange.head_for(in_flight.upstream());
            let sent = conn.send(&head, self.deadline).await;
            sent.map_err(|no_reply| failure(no_reply, in_flight, conn))?;
        } else {
            let upload = self.upload(in_flight, conn, received);
            is_sent = Box::pin(upload).await?;
            self.deadline.set(due(response_head));
        }
        let answered = poll_fn(|cx| {
            match self.poll_answer(cx, !is_sent, in_flight, conn, received) {
                Poll::Pending => {}
                ready => return ready,
            }
            if self.pass_on(cx, received).is_err() {
                return Poll::Ready(Err(ExchangeFailure::ClientLeft));
            }
            if is_sent && let Poll::Ready(Err(_)) = self.poll_ahead(cx) {
                return Poll::Ready(Err(ExchangeFailure::ClientLeft));
            }
            let late = || ExchangeFailure::Final(NoReply::Late.error(in_flight));
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
        in_flight: &InFlight,
        conn: &mut Http1Conn,
        received: &mut PartialResponse,
    ) -> Poll<Result<Reply, ExchangeFailure>> {
        let (proxy, exchange) = (self.proxy, self.exchange);
        let expected = Expected {
            limits: &in_flight.upstream().settings.limits,
            to_head: exchange.method == Method::HEAD,
            piece: usize::MAX,
            may_repeat: conn.is_reused && exchange.is_repeatable(),
            // Before the request's end, what comes next is not of the other protocol.
            may_switch: exchange.upgrades && !must_close,
        };
        let closes = must_close || exchange.closes || (self.closing)();
        let scratch = &mut *proxy.scratch.borrow_mut();
        let answered = conn.poll_head(cx, scratch, received, &expected, |cx, head, rest, out| {
            self.now = Instant::now();
            proxy.count_exchange(exchange, self.route, head.status, self.now);
            self.verdict = proxy.judge_exchange(exchange, self.route, head);
            self.status = head.status;
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                write_switch(head, out);
                let unwritten = write_at_once(cx, self.client, out);
                return Ok(Reply {
                    left: BodyReader::Length(0),
                    is_upstream_free: false,
                    closes: true,
                    unwritten: unwritten.map_err(|_| ExchangeFailure::ClientLeft)?,
                    authenticates_connection: false,
                    switched: Some(rest.to_vec()),
                });
            }
            // The end of the connection is the body's.
            let closes = closes || is_unsized(head) && exchange.is_http10;
            let client_head = exchange.client_head(self.route, closes);
            write_for_client(head, &client_head, out);
            if head.is_dated {
                out.extend_from_slice(b"\r\n");
            } else {
                proxy.date.write(self.now, out);
            }
            let (mut left, mut rest) = (BodyReader::of(head.body, exchange.trailers()), rest);
            let unwritten = match &mut left {
                BodyReader::Length(length) if *length > COPIED as u64 => {
                    let now = part(rest, *length);
                    *length -= now.len() as u64;
                    self.bytes += now.len() as u64;
                    rest = rest.get(now.len()..).unwrap_or_default();
                    write_both_at_once(cx, self.client, out, now)
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
                unwritten: unwritten.map_err(|_| ExchangeFailure::ClientLeft)?,
                authenticates_connection: head.authenticates_connection,
                switched: None,
            })
        });
        answered.map(|answered| answered.map_err(|no_reply| failure(no_reply, in_flight, conn))?)
    }

    /// Reads what the client sends before it was answered, up to a bound. Ready when it sends no
    /// more, though it may still read (RFC 9112 §9.6), or with an error when it has left.
    pub(crate) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
    pub(crate) fn pass_on(
        &mut self,
        cx: &mut Context<'_>,
        received: &mut PartialResponse,
    ) -> io::Result<()> {
        if !received.passed_on.is_empty() {
            received.passed_on = write_at_once(cx, self.client, &received.passed_on)?;
        }
        Ok(())
    }
}

fn failure(no_reply: NoReply, in_flight: &InFlight, conn: &Http1Conn) -> ExchangeFailure {
    let is_stale = no_reply.is_stale(conn);
    let error = no_reply.error(in_flight);
    match is_stale {
        true => ExchangeFailure::Stale(error),
        false => ExchangeFailure::Final(error),
    }
}
