//! A stream: passes its request to the proxy and the response to the client.
//!
//! A body that has produced a piece and is not polled for the next one waits for its client,
//! which has no room for it (flow control, [RFC 9113 §5.2]). If this takes too long, the stream
//! is reset.
//!
//! [RFC 9113 §5.2]: https://www.rfc-editor.org/rfc/rfc9113#section-5.2

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use tokio::time::{Instant, Sleep};

use crate::http1::response_head::read_response;
use crate::proxy::Proxy;
use crate::proxy::body_error::BodyError;
use crate::proxy::response_body::without_content;
use crate::routing::client::Client;
use crate::upstream::request_body::{InterimResponses, RequestBody};
use crate::upstream::request_stream::RequestStream;
use crate::upstream::unread_bodies::UnreadBodies;

use super::streams::{Piece, StreamBody, StreamExchange};
use super::tunnel_stream::TunnelStream;
use super::untaken_responses::{UntakenResponse, UntakenResponses};

/// Why a stream ends before its response does.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error("the client reset the stream: {0:?}")]
    Reset(Reason),
    #[error(transparent)]
    Http2(#[from] h2::Error),
    #[error("the client did not read the response for too long")]
    Untaken,
    #[error(transparent)]
    Body(BodyError),
}

/// A client's request, and the way to respond to it.
pub(super) struct ClientStream {
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Piece>,
    pub(super) exchange: StreamExchange,
    pub(super) client: Client,
}

impl ClientStream {
    /// Lets the proxy answer the request, and sends the response.
    pub(super) async fn serve(
        self,
        proxy: Rc<Proxy>,
        unread: Rc<UnreadBodies>,
        untaken: Rc<UntakenResponses>,
    ) -> Result<(), StreamError> {
        let Self {
            request,
            mut respond,
            exchange,
            client,
        } = self;
        exchange.still_stands().await;
        let is_head = request.method() == Method::HEAD;
        let (parts, stream) = request.into_parts();
        // The stream of an extended CONNECT (RFC 8441) carries a tunnel, not a body.
        let (mut body, tunnel_stream) = match parts.method == Method::CONNECT {
            true => (RequestBody::EMPTY, Some(stream)),
            false => {
                let stream = RequestStream::new(stream, &parts.headers);
                (RequestBody::from_http2(stream, &unread), None)
            }
        };
        body.pass_interim_to(exchange.interim().clone());
        let request = Request::from_parts(parts, body);
        // Boxed: its memory is needed only until the response begins.
        let mut responding = Box::pin(proxy.respond(request, client));
        let mut response = poll_fn(|cx| {
            let polled = responding.as_mut().poll(cx);
            send_interim(exchange.interim(), &mut respond);
            match polled {
                Poll::Ready(response) => Poll::Ready(Ok(response)),
                Poll::Pending => poll_reset(respond.poll_reset(cx)),
            }
        })
        .await?;
        drop(responding);
        if is_head {
            response = without_content(response);
        }
        let status = response.status();
        // Boxed, like everything rare.
        if let Some(reading) = response.body_mut().read_ahead(status) {
            Box::pin(reading).await;
        }
        let tunnel = response.body_mut().take_tunnel();
        let (parts, body) = response.into_parts();
        let mut head = Response::from_parts(parts, ());
        remove_connection_fields(head.headers_mut());
        let date = head.headers_mut().entry(DATE);
        date.or_insert_with(|| proxy.date(std::time::Instant::now()));
        if let (Some(tunnel), Some(stream)) = (tunnel, tunnel_stream) {
            let sender = respond.send_response(head, false)?;
            let bytes = exchange.into_tunnel();
            let client = TunnelStream::new(sender, stream, bytes);
            Box::pin(tunnel.carry(client)).await;
            return Ok(());
        }
        let body = exchange.answer_with(body);
        if body.is_end_stream() {
            respond.send_response(head, true)?;
            return Ok(());
        }
        if let Some(length) = body.size_hint().exact() {
            let declared = head.headers_mut().entry(CONTENT_LENGTH);
            declared.or_insert_with(|| HeaderValue::from(length));
        }
        let stream = respond.send_response(head, false)?;
        let mut sending = Sending::new(stream, body);
        (&mut sending).await?;
        untaken.add(sending.into_untaken());
        Ok(())
    }
}

/// Removes the fields that [RFC 9113 §8.2.2] forbids in HTTP/2.
///
/// [RFC 9113 §8.2.2]: https://www.rfc-editor.org/rfc/rfc9113#section-8.2.2
fn remove_connection_fields(fields: &mut HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    let names = [
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        TE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ];
    for name in names {
        fields.remove(name);
    }
}

/// Whether the client has reset its stream.
fn poll_reset<T>(reset: Poll<Result<Reason, h2::Error>>) -> Poll<Result<T, StreamError>> {
    let reason = ready!(reset)?;
    Poll::Ready(Err(StreamError::Reset(reason)))
}

/// Sends the pending interim responses ([RFC 9110 §15.2]).
///
/// [RFC 9110 §15.2]: https://www.rfc-editor.org/rfc/rfc9110#section-15.2
fn send_interim(interim: &InterimResponses, respond: &mut SendResponse<Piece>) {
    if interim.is_empty() {
        return;
    }
    let bytes = interim.take();
    let mut rest = bytes.as_slice();
    while let Ok(Some((length, response))) = read_response(rest, usize::MAX, false, |head| {
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        for field in head.fields {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
                response.headers_mut().append(name, value);
            }
        }
        (head.bytes.len(), response)
    }) {
        if let Err(error) = respond.send_informational(response) {
            return tracing::debug!(%error, "cannot send an interim response");
        }
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// A response's body that is being sent to the client.
struct Sending {
    stream: SendStream<Piece>,
    body: StreamBody,
    /// A piece that the client has no room for yet, and whether it is the last.
    piece: Option<(Piece, bool)>,
    has_begun: bool,
    untaken: Untaken,
}

impl Sending {
    fn new(stream: SendStream<Piece>, body: StreamBody) -> Self {
        Self {
            stream,
            body,
            piece: None,
            has_begun: false,
            untaken: Untaken::default(),
        }
    }

    /// What is left of it once its last piece was passed on.
    fn into_untaken(self) -> UntakenResponse {
        let patience = self.body.patience();
        let (exchange, waiting) = self.body.into_untaken();
        UntakenResponse::new(self.stream, exchange, waiting, patience)
    }

    /// Sends until it must wait.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        loop {
            if let Some((piece, is_last)) = self.piece.take() {
                if self.poll_room(cx)?.is_pending() {
                    self.piece = Some((piece, is_last));
                    return Poll::Pending;
                }
                self.stream.send_data(piece, is_last)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            let frame = match self.body.poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    // It waits for the client only while it is held back.
                    if !self.body.is_held() {
                        self.untaken.until = None;
                    }
                    return Poll::Pending;
                }
            };
            let frame = match frame.transpose() {
                Ok(frame) => frame,
                Err(error) => {
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(StreamError::Body(error)));
                }
            };
            let Some(frame) = frame else {
                self.stream.send_data(self.body.last_piece(), true)?;
                return Poll::Ready(Ok(()));
            };
            match frame.into_data() {
                Ok(piece) => {
                    let is_last = self.body.is_end_stream();
                    // The connection watches the last piece (`UntakenResponses`).
                    if !is_last || self.has_begun {
                        self.untaken.until = Some(Instant::now() + self.body.patience());
                    }
                    // h2 keeps the first piece until there is room. Reserving capacity before
                    // there is data would take it from other streams.
                    if std::mem::replace(&mut self.has_begun, true) && piece.has_remaining() {
                        self.stream.reserve_capacity(1);
                        self.piece = Some((piece, is_last));
                        continue;
                    }
                    self.stream.send_data(piece, is_last)?;
                    if is_last {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.reserve_capacity(0);
                        self.stream.send_trailers(trailers)?;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    /// Ready when the client has room.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, StreamError> {
        while self.stream.capacity() == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Some(capacity)) => drop(capacity?),
                Poll::Ready(None) => return Err(StreamError::Reset(Reason::STREAM_CLOSED)),
            }
        }
        Ok(Poll::Ready(()))
    }
}

impl Future for Sending {
    type Output = Result<(), StreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Poll::Ready(sent) = this.poll_send(cx) {
            return Poll::Ready(sent);
        }
        if let Poll::Ready(ended) = poll_reset(this.stream.poll_reset(cx)) {
            return Poll::Ready(ended);
        }
        ready!(this.untaken.poll_over(cx));
        this.stream.send_reset(Reason::CANCEL);
        Poll::Ready(Err(StreamError::Untaken))
    }
}

/// The time limit for a piece of a response that waits for its client.
#[derive(Default)]
struct Untaken {
    until: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Untaken {
    /// Armed only when a client leaves a piece waiting, and moved only when it fires: a response
    /// that is read promptly costs no timer.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        while timer.as_mut().poll(cx).is_ready() {
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}
