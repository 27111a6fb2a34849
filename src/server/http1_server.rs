//! Serves one HTTP/1.1 request as a header map and a body, as HTTP/2 requests are served. For routes
//! with `upstream_http2`; all other HTTP/1.1 requests are forwarded on bytes.
//!
//! `server::head_reader` has already parsed the head. The body is read from the connection on
//! demand; `server::head_reader` reads the next head.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response;
use hyper::body::Body as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::http1::body_writer::BodyWriter;
use crate::http1::buffers::READ_AHEAD;
use crate::http1::request_head::Framing;
use crate::http1::trailers::listed_trailers;
use crate::net::deadline::Deadline;
use crate::proxy::http1_heads::{ClientRequest, ResponseForm};
use crate::proxy::response_body::Body;
use crate::proxy::{HeaderMapRequest, Proxy, response_body};
use crate::routing::client::Client;
use crate::upstream::client_body::BodyFeed;
use crate::upstream::request_body::{InterimResponses, RequestBody};

use super::end_signal::EndSignal;
use super::lingering_close::linger;
use super::listener::Socket;
use super::prefixed::Prefixed;

/// The size of the first read, in bytes; it doubles while whole pieces are available at once.
const FIRST_PIECE: usize = 16 * 1024;

/// The largest read, in bytes.
const LARGEST_PIECE: usize = 64 * 1024;

/// A client's connection during one request.
struct Connection<S> {
    stream: S,
    /// Bytes that were read but not processed.
    ahead: Bytes,
    feed: BodyFeed,
    piece: usize,
    /// Whether the client still waits for `100 Continue`.
    awaits_continue: bool,
    /// Bytes to send before the response.
    interim: Vec<u8>,
    /// Whether the client has closed its write side. It may still read ([RFC 9112 §9.6]).
    ///
    /// [RFC 9112 §9.6]: https://www.rfc-editor.org/rfc/rfc9112#section-9.6
    is_read_closed: bool,
}

/// How a response ended.
enum End {
    /// The client has received all of it.
    Answered,
    /// The client left, or its response was cut.
    Cut,
}

/// Serves the request whose head is at the start of `ahead`. Returns the connection and the bytes
/// after the request; `None` if the connection has ended.
pub(super) async fn serve<S: Socket>(
    stream: S,
    ahead: Vec<u8>,
    single: HeaderMapRequest,
    client: Client,
    proxy: &Rc<Proxy>,
    end: &EndSignal<'_>,
) -> Option<(S, Vec<u8>)> {
    let (request, said) = proxy.read_head(&ahead)?;
    let (mut body, feed) = RequestBody::from_http1(single.framing);
    let hints = InterimResponses::default();
    if !said.is_http10 {
        body.pass_interim_to(hints.clone());
    }
    let mut ahead = Bytes::from(ahead);
    let _ = ahead.split_to(single.head.min(ahead.len()));
    let mut connection = Connection {
        stream,
        ahead,
        feed,
        piece: FIRST_PIECE,
        awaits_continue: said.expects_continue,
        interim: Vec::new(),
        is_read_closed: false,
    };
    // Passes on the part of the body that arrived with the head. A client that expects `100
    // Continue` gets it first.
    if !said.expects_continue {
        connection.feed.push_first(&mut connection.ahead);
    }
    let mut responding = Box::pin(proxy.respond(request.map(|()| body), client));
    let response = poll_fn(|cx| {
        loop {
            if let Poll::Ready(response) = responding.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            if !connection.poll_client(cx)? {
                hints.move_to(&mut connection.interim);
                connection.poll_interim(cx)?;
                return Poll::Pending;
            }
        }
    });
    let mut response: http::Response<Body> = match response.await {
        Ok(response) => response,
        Err(error) => {
            let error: io::Error = error;
            tracing::debug!(%error, "the client left before the response");
            return None;
        }
    };
    drop(responding);
    hints.move_to(&mut connection.interim);
    if let Some(tunnel) = response.body_mut().take_tunnel() {
        let (head, body) = response.into_parts();
        let form = said.form_of(&head, &body, false);
        // From here on, the access log reports it.
        drop(body);
        let mut out = std::mem::take(&mut connection.interim);
        said.write_head(&head, form, proxy, &mut out);
        let mut stream = connection.stream;
        let limit = tunnel.patience();
        let written = tokio::time::timeout(limit, stream.write_all(&out)).await;
        if matches!(written, Ok(Ok(()))) {
            tunnel.carry(Prefixed::new(connection.ahead, stream)).await;
        }
        return None;
    }
    if said.is_head {
        response = response_body::without_content(response);
    }
    let (head, body) = response.into_parts();
    // The proxy's own responses do not read the body.
    let is_unread = match body.upstream() {
        None => single.framing != Framing::Length(0),
        Some(_) => !connection.feed.is_read(),
    };
    // After an upgrade request, the client may have sent something other than HTTP.
    let closes = single.closes || single.has_upgrade || is_unread || end.is_ending();
    let form = said.form_of(&head, &body, closes);
    let sent = connection.send(&head, body, form, said, proxy).await;
    let Connection {
        stream,
        ahead,
        feed,
        ..
    } = connection;
    match sent {
        End::Cut => None,
        End::Answered if form.closes || !feed.is_read() => {
            linger(stream).await;
            None
        }
        End::Answered => Some((stream, ahead.into())),
    }
}

impl<S: Socket> Connection<S> {
    /// Reads the body if it is wanted, or ahead after it; returns whether the exchange got
    /// something.
    ///
    /// # Errors
    ///
    /// The client has left.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut has_given = false;
        loop {
            if self.feed.is_read() {
                return self.poll_after(cx).map(|()| has_given);
            }
            if self.feed.poll_wanted(cx).is_pending() {
                return Ok(has_given);
            }
            if std::mem::take(&mut self.awaits_continue) {
                self.interim
                    .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                self.poll_interim(cx)?;
            }
            if self.ahead.is_empty() {
                let mut bytes = BytesMut::with_capacity(self.piece);
                let Poll::Ready(read) = pin!(self.stream.read_buf(&mut bytes)).poll(cx) else {
                    self.piece = FIRST_PIECE;
                    return Ok(has_given);
                };
                if read? == 0 {
                    self.is_read_closed = true;
                    self.feed.fail(io::ErrorKind::UnexpectedEof.into(), cx);
                    return Ok(true);
                }
                self.piece = LARGEST_PIECE.min(self.piece * 2);
                // A small remainder must not keep a large buffer allocated.
                self.ahead = match bytes.len() < bytes.capacity() / 2 {
                    true => Bytes::copy_from_slice(&bytes),
                    false => bytes.freeze(),
                };
            }
            self.feed.push(&mut self.ahead, cx);
            has_given = true;
        }
    }

    /// Reads ahead after the request, up to a limit, to notice when the client leaves.
    fn poll_after(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.is_read_closed && self.ahead.len() < READ_AHEAD {
            let mut bytes = BytesMut::from(&self.ahead[..]);
            bytes.reserve(1024);
            let Poll::Ready(read) = pin!(self.stream.read_buf(&mut bytes)).poll(cx) else {
                return Ok(());
            };
            self.is_read_closed = read? == 0;
            self.ahead = bytes.freeze();
        }
        Ok(())
    }

    /// Sends the bytes before the response, as far as the client accepts them.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.interim.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.interim) {
                Poll::Ready(written) => self.interim.drain(..written?),
                Poll::Pending => return Ok(()),
            };
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    /// Sends a response, and reads more of the request as needed.
    async fn send(
        &mut self,
        head: &response::Parts,
        mut body: Body,
        form: ResponseForm,
        said: ClientRequest,
        proxy: &Proxy,
    ) -> End {
        let mut out = std::mem::take(&mut self.interim);
        said.write_head(head, form, proxy, &mut out);
        let mut writer = BodyWriter::new(out, form.framing);
        let mut untaken = Untaken {
            patience: body.patience(),
            deadline: None,
        };
        let mut is_broken = false;
        poll_fn(|cx| {
            loop {
                is_broken = is_broken || gather(cx, &mut body, &mut writer, head).is_err();
                match self.poll_client(cx) {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::debug!(%error, "the client left during the response");
                        return Poll::Ready(End::Cut);
                    }
                }
                let stream = &mut self.stream;
                let has_all = writer.is_empty();
                let moved = match has_all {
                    false => writer.poll_write(cx, stream),
                    true => Pin::new(stream).poll_flush(cx),
                };
                match moved {
                    Poll::Ready(Err(error)) => {
                        tracing::debug!(%error, "the client left during the response");
                        return Poll::Ready(End::Cut);
                    }
                    Poll::Ready(Ok(())) if !has_all => untaken.taken(),
                    // The part before the cut was sent.
                    Poll::Ready(Ok(())) if is_broken => return Poll::Ready(End::Cut),
                    Poll::Ready(Ok(())) if writer.is_ended() => return Poll::Ready(End::Answered),
                    Poll::Ready(Ok(())) => {
                        untaken.deadline = None;
                        return Poll::Pending;
                    }
                    Poll::Pending => return untaken.poll(cx).map(|()| End::Cut),
                }
            }
        })
        .await
    }
}

/// Takes the available part of a response's body; an error if it breaks off.
fn gather(
    cx: &mut Context<'_>,
    body: &mut Body,
    writer: &mut BodyWriter,
    head: &response::Parts,
) -> Result<(), ()> {
    while !writer.is_full() && !writer.is_ended() {
        let frame = match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(None) => return writer.end(None).map_err(|_| ()),
            Poll::Ready(Some(frame)) => frame.map_err(|error| {
                tracing::debug!(%error, "a response was cut");
            })?,
        };
        match frame.into_data() {
            Ok(data) => writer.data(data),
            Err(frame) => {
                let trailers = frame.into_trailers().ok();
                let listed = trailers.map(|trailers| listed_trailers(&head.headers, trailers));
                writer.end(listed.as_ref())
            }
        }
        .map_err(|_| ())?;
    }
    Ok(())
}

/// The time limit for a client that does not read its response.
struct Untaken {
    patience: Duration,
    /// Set while waiting for the client.
    deadline: Option<Deadline>,
}

impl Untaken {
    /// The client has accepted bytes.
    fn taken(&mut self) {
        if let Some(deadline) = &mut self.deadline {
            deadline.set(Instant::now() + self.patience);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Deadline::after(patience));
        deadline
            .poll(cx)
            .map(|()| tracing::debug!("the client does not read its response"))
    }
}
