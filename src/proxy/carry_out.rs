//! Carries out one exchange: forwards a request to the upstream and its response to the client.

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
use crate::metrics::RetryReason;
use crate::net::client_stream::ClientStream;
use crate::net::deadline::{Deadline, due};
use crate::net::write::{write_all, write_at_once, write_both_at_once};
use crate::telemetry::access_log::BodyCut;
use crate::upstream::balance::InFlight;
use crate::upstream::http1_conn::Http1Conn;
use crate::upstream::http1_response::{ExpectedResponse, NoReply, PartialResponse};
use crate::upstream::pool::Tries;

use super::Proxy;
use super::exchange::Http1Exchange;
use super::log_guard::client_left;
use super::moved_bytes::MovedBytes;
use super::running_exchange::{ConnFate, ExchangeFailure, RunningExchange};

/// Bodies up to this size, in bytes, are copied after their head, so that both are written at once.
const COPIED: usize = 16 * 1024;

/// A response whose head, and the body bytes that came with it, were written to the client.
struct Reply {
    /// The rest of the body.
    left: BodyReader,
    /// Whether the upstream's connection can carry another exchange after the body.
    is_upstream_free: bool,
    /// Whether the client's connection closes after it.
    closes: bool,
    /// What the client's connection did not accept yet.
    unwritten: Vec<u8>,
    /// Whether the upstream asks for credentials that authenticate the connection.
    authenticates_connection: bool,
    /// What the upstream sent after a response that switched protocols; `None`: it did not switch.
    switched: Option<Vec<u8>>,
}

impl Proxy {
    /// Carries out an exchange. `ahead` holds what the client sent after the request's head, and
    /// afterwards what it sent after the request. `bound` is the upstream connection that belongs
    /// to this client's connection. `closing` is called when the response is written, and returns
    /// whether the connection closes after it.
    ///
    /// Not an `async fn`, which would store its arguments twice: the future is allocated for each
    /// request.
    pub fn carry_out<'c, C: ClientStream>(
        &'c self,
        exchange: &'c Http1Exchange,
        client: &'c mut C,
        ahead: &'c mut Vec<u8>,
        bound: &'c mut Option<Box<Http1Conn>>,
        deadline: &'c mut Deadline,
        closing: &'c dyn Fn() -> bool,
    ) -> impl Future<Output = ConnFate> {
        let route = exchange.held.0.routes.get(exchange.route);
        let route = route.expect("an exchange's route is one of its snapshot's");
        let counts = route.metrics.counts(self.worker);
        counts.begin();
        let mut running_exchange = RunningExchange {
            proxy: self,
            exchange,
            route,
            counts,
            client,
            ahead,
            bound,
            deadline,
            closing,
            now: exchange.start,
            asked: exchange.start,
            untaken: Vec::new(),
            status: client_left(),
            moved: MovedBytes::new(counts),
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

    /// Takes back the resources that an exchange borrowed.
    pub fn take_back(&self, exchange: Http1Exchange) {
        self.buffers.give_back(exchange.head_buf);
    }
}

impl<C: ClientStream> RunningExchange<'_, C> {
    async fn run(&mut self) -> Result<ConnFate, ExchangeFailure> {
        let (pool, upstreams) = (&self.proxy.pool, &self.route.upstreams);
        let (client, counts) = (self.exchange.client, self.counts);
        // Boxed, like everything rare: the future is allocated for each request.
        let mut tries = None;
        let new_tries = || Box::new(Tries::of(client, counts));
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
                // The upstream closed a kept-alive connection just as it was used again: one more
                // try, on a new connection (RFC 9112 §9.3.1).
                Err(failure) if failure.allows_another_try(self.exchange) => {
                    let tries = tries.get_or_insert_with(new_tries);
                    tries.stale.push(in_flight.upstream().id);
                    // Its place may be needed for the new one.
                    drop(conn);
                    let again = Box::pin(pool.checkout_http1(upstreams, tries));
                    (in_flight, conn) = again.await.map_err(ExchangeFailure::Final)?;
                    counts.retry(RetryReason::Closed);
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
        // Until the client has everything.
        self.cut = Some(BodyCut::Client);
        if !left.is_ended() || !unwritten.is_empty() {
            let moved = self.download(left, unwritten, &mut conn, limit);
            if let Err(broken) = Box::pin(moved).await {
                self.cut = Some(broken.cut());
                self.note_broken_body(&in_flight, &broken);
                // Cut, so that the client does not treat the part as the whole.
                return Ok(self.cut());
            }
            self.now = Instant::now();
        }
        if self.client.tcp().is_none() {
            // TLS may hold data back above the socket.
            self.deadline.set(due(limit));
            let flushed = Box::pin(write_all(self.client, b"", self.deadline, None)).await;
            flushed.map_err(|_| ExchangeFailure::ClientLeft)?;
            // The client may have been slow.
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
            // The client may still be sending.
            true => ConnFate::Refused,
        })
    }

    /// The upstream connection that belongs to this client's connection, if it leads to one of the
    /// route's upstreams.
    fn take_bound(&mut self) -> Option<(InFlight, Box<Http1Conn>)> {
        let bound = self.bound.as_deref_mut()?;
        let in_flight = bound.in_flight_for(&self.route.upstreams, self.exchange.client)?;
        let mut conn = self.bound.take()?;
        conn.is_reused = true;
        Some((in_flight, conn))
    }

    /// Closes a client's connection in the middle of a response's body. If the end of the
    /// connection would also end the body, the connection is reset instead.
    fn cut(&self) -> ConnFate {
        if self.exchange.coding() == Coding::Chunks {
            return ConnFate::Ends;
        }
        if let Some(tcp) = self.client.tcp() {
            // A failure here means that the client is gone.
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
        // The rest of an earlier try's interim response goes first.
        received.passed_on = std::mem::take(&mut self.untaken);
        let answered = self.send_and_receive(in_flight, conn, &mut received).await;
        self.untaken = received.passed_on;
        answered
    }

    async fn send_and_receive(
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
        self.asked = self.now;
        // A request that must not be repeated takes the careful path.
        if exchange.is_repeatable() {
            let head = exchange.head_for(in_flight.upstream());
            let sent = conn.send(&head, self.deadline).await;
            sent.map_err(|no_reply| failure(no_reply, in_flight, conn))?;
        } else {
            let upload = self.upload(in_flight, conn, received);
            is_sent = Box::pin(upload).await?;
            let now = tokio::time::Instant::now();
            self.deadline.set(now + response_head);
            if is_sent {
                self.asked = now.into_std();
            }
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

    /// Reads a response's head and writes it for the client, with the body bytes that came with it.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        must_close: bool,
        in_flight: &InFlight,
        conn: &mut Http1Conn,
        received: &mut PartialResponse,
    ) -> Poll<Result<Reply, ExchangeFailure>> {
        let (proxy, exchange) = (self.proxy, self.exchange);
        let expected = ExpectedResponse {
            limits: &in_flight.upstream().settings.limits,
            to_head: exchange.method == Method::HEAD,
            piece: usize::MAX,
            may_repeat: conn.is_reused && exchange.is_repeatable(),
            // Before the end of the request, the next bytes do not belong to the other protocol.
            may_switch: exchange.upgrades && !must_close,
        };
        let closes = must_close || exchange.closes || (self.closing)();
        let scratch = &mut *proxy.scratch.borrow_mut();
        let answered = conn.poll_head(cx, scratch, received, &expected, |cx, head, rest, out| {
            self.now = Instant::now();
            self.count_response(head.status);
            if !must_close {
                self.count_first_byte();
            }
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
            // The end of the connection ends the body.
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
                    self.moved.client_sent += now.len() as u64;
                    rest = rest.get(now.len()..).unwrap_or_default();
                    write_both_at_once(cx, self.client, out, now)
                }
                left => {
                    self.moved.client_sent += left.pass(&mut rest, exchange.coding(), out);
                    write_at_once(cx, self.client, out)
                }
            };
            self.moved.upstream_received = self.moved.client_sent;
            Ok(Reply {
                left,
                // Bytes after a response belong to no request.
                is_upstream_free: !head.closes && rest.is_empty(),
                closes,
                unwritten: unwritten.map_err(|_| ExchangeFailure::ClientLeft)?,
                authenticates_connection: head.authenticates_connection,
                switched: None,
            })
        });
        answered.map(|answered| answered.map_err(|no_reply| failure(no_reply, in_flight, conn))?)
    }

    /// Reads what the client sends before its request is answered, up to a limit. Ready when the
    /// client sends no more, although it may still read (RFC 9112 §9.6), or with an error when it
    /// has left.
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

    /// Writes as much of the interim responses to the client as it accepts.
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
