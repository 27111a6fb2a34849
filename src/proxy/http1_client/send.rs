//! Sends one request over one connection, and reads up to the head of its response.

use std::convert::identity;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Method, Response, StatusCode};

use crate::http1::fields::{Fields as _, authenticates_connection};
use crate::http1::response_head::ResponseHead;
use crate::net::deadline::{Deadline, due};
use crate::net::write::write_at_once;
use crate::proxy::Proxy;
use crate::proxy::no_response::{Fate, NoResponse};
use crate::proxy::response_body::Body;
use crate::proxy::tunnel::Tunnel;
use crate::routing::snapshot::Route;
use crate::upstream::balance::InFlight;
use crate::upstream::body_error::RequestBodyError;
use crate::upstream::error::Error;
use crate::upstream::http1_conn::Http1Conn;
use crate::upstream::http1_response::{ExpectedResponse, Interim, NoReply, PartialResponse};
use crate::upstream::request_body::{InterimResponses, RequestBody};

use super::response::ReadResponse;
use super::response_body::{FIRST_PIECE, Http1Body, LARGEST_PIECE};
use super::upload::Upload;

/// A request for an HTTP/1.1 upstream.
#[derive(Clone, Copy)]
pub(crate) struct Http1Request<'r> {
    pub(crate) parts: &'r Parts,
    pub(crate) route: &'r Route,
    /// Whether it asks to switch protocols.
    pub(crate) wants_upgrade: bool,
}

impl Http1Request<'_> {
    /// Whether it may be sent twice ([RFC 9110 §9.2.2]); none of its body may have been read.
    ///
    /// [RFC 9110 §9.2.2]: https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2
    fn is_repeatable(&self, body: &RequestBody) -> bool {
        body.is_empty() && self.parts.method.is_idempotent() && !self.wants_upgrade
    }
}

impl Proxy {
    /// Sends a request over `conn`, and reads its response's head.
    ///
    /// # Errors
    ///
    /// Why there is no response, and whether the request may be repeated.
    pub(crate) async fn http1_exchange(
        &self,
        request: Http1Request<'_>,
        body: RequestBody,
        in_flight: InFlight,
        mut conn: Box<Http1Conn>,
    ) -> Result<Response<Body>, Box<NoResponse>> {
        let mut deadline = Deadline::after(in_flight.upstream().settings.timeouts.response_head);
        let counts = request.route.metrics.counts(self.worker);
        let mut sent_at = Instant::now();
        let answered = if request.is_repeatable(&body) {
            let interim = body.interim();
            let read = self
                .send_repeatable(request, interim, &in_flight, &mut conn, &mut deadline)
                .await;
            let body = Some(body);
            read.map(|read| (read, None))
                .map_err(|no_reply| Failed::Unanswered { no_reply, body })
        } else {
            // Boxed, like everything rare, because a request's future is moved.
            let sent_at = &mut sent_at;
            let sent =
                self.send_with_body(request, body, &in_flight, &mut conn, &mut deadline, sent_at);
            Box::pin(sent).await
        };
        let (read, upload) = match answered {
            Ok(answered) => answered,
            Err(failed) => return Err(failed.of(in_flight, &conn)),
        };
        let ReadResponse { head, rest } = read;
        if upload.is_none() {
            counts.first_byte(sent_at.elapsed());
        }
        let mut credentials = request.parts.headers.field_values(&AUTHORIZATION);
        conn.is_bound |= credentials.any(authenticates_connection);
        if head.status() == StatusCode::SWITCHING_PROTOCOLS && upload.is_some() {
            let what = "101 before it had the whole request";
            let no_reply = NoReply::Unacceptable(what.into());
            let failed = Failed::Unanswered {
                no_reply,
                body: None,
            };
            return Err(failed.of(in_flight, &conn));
        }
        in_flight.answered();
        if head.status() == StatusCode::SWITCHING_PROTOCOLS {
            let tunnel = Tunnel::new(conn, rest.bytes, in_flight);
            return Ok(head.map(|()| Body::tunnel(tunnel)));
        }
        let is_early = upload.is_some();
        let held = self.untaken.hold(rest.bytes.len());
        let counts = counts.clone();
        let body = Http1Body::new(rest, conn, in_flight, deadline, upload, counts, held);
        Ok(head.map(|()| Body::from_http1(body).early(is_early)))
    }

    /// Sends the head of a repeatable request, and reads the response's head.
    async fn send_repeatable(
        &self,
        request: Http1Request<'_>,
        interim: Option<InterimResponses>,
        in_flight: &InFlight,
        conn: &mut Http1Conn,
        deadline: &mut Deadline,
    ) -> Result<ReadResponse, NoReply> {
        let unwritten = poll_fn(|cx| {
            let head = &mut self.scratch.borrow_mut().output;
            head.clear();
            request.write_head(in_flight.upstream(), None, head);
            Poll::Ready(write_at_once(cx, &mut conn.stream, head))
        });
        let unwritten = unwritten.await.map_err(NoReply::Closed)?;
        conn.send(&unwritten, deadline).await?;
        let expected = self.expected(request, in_flight, conn.is_reused);
        let mut received = PartialResponse::nothing(passed(interim.as_ref()));
        poll_fn(|cx| {
            let scratch = &mut *self.scratch.borrow_mut();
            let read = conn.poll_head(
                cx,
                scratch,
                &mut received,
                &expected,
                |_, head, rest, out| {
                    pass_on(interim.as_ref(), out);
                    ReadResponse::new(head, rest)
                },
            );
            pass_on(interim.as_ref(), &mut received.passed_on);
            match read {
                Poll::Ready(read) => Poll::Ready(read?),
                Poll::Pending => deadline.poll(cx).map(|()| Err(NoReply::Late)),
            }
        })
        .await
    }

    /// Sends a request that must not be repeated, and reads the response's head. The response may
    /// arrive before the upstream has the whole body; the rest is then sent while the response is
    /// read. `sent_at` is set when the whole request is sent.
    async fn send_with_body(
        &self,
        request: Http1Request<'_>,
        body: RequestBody,
        in_flight: &InFlight,
        conn: &mut Http1Conn,
        deadline: &mut Deadline,
        sent_at: &mut Instant,
    ) -> Result<(ReadResponse, Option<Box<Upload>>), Failed> {
        // A request that must not be lost is not sent on an old connection that is closed, or that
        // received bytes that would be misread as its response.
        if conn.is_reused && conn.is_readable() {
            let no_reply = NoReply::Closed(io::ErrorKind::UnexpectedEof.into());
            return Err(Failed::Unsent { no_reply, body });
        }
        let timeouts = in_flight.upstream().settings.timeouts;
        let framing = request.framing(&body);
        let mut head = Vec::new();
        request.write_head(in_flight.upstream(), Some(framing), &mut head);
        let interim = body.interim();
        let mut upload = Box::new(Upload::new(request.parts, head, body, framing));
        let expected = self.expected(request, in_flight, false);
        let mut received = PartialResponse::nothing(passed(interim.as_ref()));
        deadline.set(due(timeouts.body_idle));
        let mut is_sent = false;
        let read = poll_fn(|cx| {
            // A response at this point answers what the upstream has seen so far.
            {
                let scratch = &mut *self.scratch.borrow_mut();
                let then = |_: &mut Context<'_>,
                            head: &ResponseHead<'_, '_>,
                            rest: &[u8],
                            out: &mut Vec<u8>| {
                    pass_on(interim.as_ref(), out);
                    ReadResponse::new(head, rest)
                };
                match conn.poll_head(cx, scratch, &mut received, &expected, then) {
                    Poll::Ready(read) => {
                        return Poll::Ready(read.and_then(identity).map_err(Halt::NoReply));
                    }
                    Poll::Pending => {}
                }
            }
            pass_on(interim.as_ref(), &mut received.passed_on);
            if std::mem::take(&mut received.is_continued) {
                upload.release();
            }
            if !is_sent {
                match upload.poll(cx, &mut conn.stream) {
                    Poll::Ready(Ok(())) => {
                        is_sent = true;
                        deadline.set(due(timeouts.response_head));
                        *sent_at = Instant::now();
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Halt::Body(error))),
                    Poll::Pending if upload.has_moved() => deadline.set(due(timeouts.body_idle)),
                    Poll::Pending => {}
                }
            }
            deadline
                .poll(cx)
                .map(|()| Err(Halt::NoReply(NoReply::Late)))
        });
        let no_reply = match read.await {
            Ok(read) => return Ok((read, (!is_sent).then_some(upload))),
            Err(Halt::Body(error)) => return Err(Failed::Final(Error::RequestBody(error.into()))),
            Err(Halt::NoReply(no_reply)) => no_reply,
        };
        Err(match no_reply {
            NoReply::Late if upload.waits_for_client() => Failed::Final(Error::RequestBodyTimeout),
            NoReply::Closed(error) => {
                let no_reply = NoReply::Closed(upload.take_refusal().unwrap_or(error));
                match upload.into_body() {
                    Some(body) => Failed::Unsent { no_reply, body },
                    None => Failed::Unanswered {
                        no_reply,
                        body: None,
                    },
                }
            }
            no_reply => Failed::Unanswered {
                no_reply,
                body: None,
            },
        })
    }
}

/// Which interim responses are kept for a client.
fn passed(interim: Option<&InterimResponses>) -> Interim {
    match interim {
        Some(_) => Interim::Unasked,
        None => Interim::None,
    }
}

/// Passes interim responses on.
fn pass_on(interim: Option<&InterimResponses>, bytes: &mut Vec<u8>) {
    if let Some(interim) = interim {
        interim.add(bytes);
    }
}

/// Why waiting for a response ended.
enum Halt {
    NoReply(NoReply),
    /// The client's body failed.
    Body(RequestBodyError),
}

/// Why there is no response.
enum Failed {
    /// Another try would not help.
    Final(Error),
    /// Nothing of the request was sent.
    Unsent {
        no_reply: NoReply,
        body: RequestBody,
    },
    Unanswered {
        no_reply: NoReply,
        /// `None`: part of it was sent.
        body: Option<RequestBody>,
    },
}

impl Failed {
    /// Converts it for the request, which was sent over `conn`.
    fn of(self, in_flight: InFlight, conn: &Http1Conn) -> Box<NoResponse> {
        let (fate, error, body) = match self {
            Self::Final(error) => (Fate::Unknown, error, None),
            Self::Unsent { no_reply, body } => {
                (Fate::Unsent, no_reply.error(&in_flight), Some(body))
            }
            Self::Unanswered { no_reply, body } => {
                let is_cut = matches!(no_reply, NoReply::Closed(_));
                let fate = if is_cut { Fate::Cut } else { Fate::Unknown };
                (fate, no_reply.error(&in_flight), body)
            }
        };
        Box::new(NoResponse {
            fate,
            error,
            body,
            was_reused: conn.is_reused,
            in_flight,
        })
    }
}

impl Proxy {
    fn expected<'l>(
        &self,
        request: Http1Request<'_>,
        in_flight: &'l InFlight,
        may_repeat: bool,
    ) -> ExpectedResponse<'l> {
        ExpectedResponse {
            limits: &in_flight.upstream().settings.limits,
            to_head: request.parts.method == Method::HEAD,
            piece: self.untaken.head_piece(LARGEST_PIECE, FIRST_PIECE),
            may_repeat,
            may_switch: request.wants_upgrade,
        }
    }
}
