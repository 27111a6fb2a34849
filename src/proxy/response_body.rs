//! A response's body, from the upstream or from the proxy itself.

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::http1::trailers::without_head_fields;
use crate::metrics::{RequestInFlight, RouteCounts, Transfer};
use crate::telemetry::access_log::BodyCut;
use crate::upstream::balance::InFlight;
use crate::upstream::endpoint::{Timeouts, Upstream};
use crate::upstream::error::body_cause;

use super::body_error::{BodyError, note_cut};
use super::http1_client::response_body::Http1Body;
use super::log_guard::RequestLogGuard;
use super::read_ahead::{LONGEST_WAIT, ReadAhead};
use super::tunnel::Tunnel;

/// A response's body.
pub struct Body {
    kind: BodyKind,
    /// With an access log: the request's record, written at the end of the body.
    logged: Option<Box<RequestLogGuard>>,
    /// If the response came before the end of the request: the part read before its head was sent.
    ahead: Option<Box<ReadAhead>>,
    /// Counts its bytes, and its request as in flight.
    request: Option<RequestInFlight>,
}

enum BodyKind {
    Fixed(Bytes),
    Http1(Box<Http1Body>),
    Http2(Box<UpstreamBody>),
    Tunnel(Box<Tunnel>),
}

impl Body {
    /// An empty body.
    #[must_use]
    pub fn empty() -> Self {
        Self::fixed(Bytes::new())
    }

    pub(crate) fn fixed(bytes: impl Into<Bytes>) -> Self {
        Self::new(BodyKind::Fixed(bytes.into()))
    }

    /// The body of an HTTP/1.1 upstream's response.
    pub(crate) fn from_http1(body: Http1Body) -> Self {
        Self::new(BodyKind::Http1(Box::new(body)))
    }

    /// The body of an HTTP/2 upstream's response.
    pub(crate) fn from_http2(body: UpstreamBody) -> Self {
        Self::new(BodyKind::Http2(Box::new(body)))
    }

    /// The tunnel that replaces the body after the upstream switched protocols.
    pub(crate) fn tunnel(tunnel: Tunnel) -> Self {
        Self::new(BodyKind::Tunnel(Box::new(tunnel)))
    }

    fn new(kind: BodyKind) -> Self {
        Self {
            kind,
            logged: None,
            ahead: None,
            request: None,
        }
    }

    /// Marks the body of a response that came before the request's end.
    pub(crate) fn early(mut self, is_early: bool) -> Self {
        self.ahead = is_early.then(Box::default);
        self
    }

    /// Reads the body of an [early response](super::read_ahead) before its head is sent, if it is
    /// short and arrives soon; `None`: it is sent as it arrives.
    pub fn read_ahead(&mut self, status: StatusCode) -> Option<impl Future<Output = ()>> {
        let size = self.size_hint();
        let Self { kind, ahead, .. } = self;
        let ahead = ahead.as_deref_mut()?;
        ReadAhead::is_worth_waiting(status, &size).then_some(async move {
            let read = poll_fn(|cx| {
                while !kind.is_end_stream() {
                    if ahead.add(ready!(kind.poll_frame(cx))).is_ready() {
                        break;
                    }
                }
                Poll::Ready(())
            });
            // What was read by then is sent with the head.
            let _ = tokio::time::timeout(LONGEST_WAIT, read).await;
        })
    }

    /// Whether a tunnel replaces the body.
    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self.kind, BodyKind::Tunnel(_))
    }

    /// The tunnel that replaces the body, if any.
    pub fn take_tunnel(&mut self) -> Option<Tunnel> {
        match std::mem::replace(&mut self.kind, BodyKind::Fixed(Bytes::new())) {
            BodyKind::Tunnel(mut tunnel) => {
                tunnel.request = self.request.take();
                Some(*tunnel)
            }
            kind => {
                self.kind = kind;
                None
            }
        }
    }

    /// The bytes of the proxy's own body.
    pub(crate) fn into_fixed(self) -> Bytes {
        match self.kind {
            BodyKind::Fixed(bytes) => bytes,
            BodyKind::Http1(_) | BodyKind::Http2(_) | BodyKind::Tunnel(_) => Bytes::new(),
        }
    }

    /// Counts its bytes, and its request as in flight until the body ends.
    pub(crate) fn counted(mut self, request: RequestInFlight) -> Self {
        self.request = Some(request);
        self
    }

    /// Logs the request when the body ends, for whatever reason.
    pub(crate) fn logged(mut self, mut logged: Box<RequestLogGuard>) -> Self {
        // Until it has ended.
        logged.set_cut((!self.is_end_stream()).then_some(BodyCut::Client));
        self.logged = Some(logged);
        self
    }

    /// Reads only a small piece next, because much data already waits for clients.
    pub fn read_small(&mut self) {
        if let BodyKind::Http1(body) = &mut self.kind {
            body.read_small();
        }
    }

    /// How long its receiver may leave a piece untaken.
    pub fn patience(&self) -> Duration {
        match &self.kind {
            BodyKind::Fixed(_) | BodyKind::Tunnel(_) => Timeouts::default().body_idle,
            BodyKind::Http1(body) => body.limit(),
            BodyKind::Http2(body) => body.limit(),
        }
    }

    /// The upstream it comes from; `None`: the proxy itself.
    #[must_use]
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        match &self.kind {
            BodyKind::Fixed(_) => None,
            BodyKind::Http1(body) => Some(body.in_flight.upstream()),
            BodyKind::Http2(body) => Some(body.in_flight.upstream()),
            BodyKind::Tunnel(tunnel) => Some(tunnel.upstream()),
        }
    }
}

/// Removes the proxy's own content from a response to HEAD, and sets its length ([RFC 9110
/// §9.3.2]). An upstream's response to HEAD has no content anyway.
///
/// [RFC 9110 §9.3.2]: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2
#[must_use]
pub fn without_content(mut response: Response<Body>) -> Response<Body> {
    let body = response.body_mut();
    if let BodyKind::Fixed(bytes) = &mut body.kind
        && !bytes.is_empty()
    {
        let length = std::mem::take(bytes).len();
        if let Some(logged) = &mut body.logged {
            logged.set_cut(None);
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let ahead = self.ahead.as_mut();
        let frame = match ahead.and_then(|ahead| ahead.poll_take(cx)) {
            Some(frame) => frame.map(Some),
            None => self.kind.poll_frame(cx),
        };
        if let (Some(request), Poll::Ready(Some(Ok(frame)))) = (&self.request, &frame) {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            request.counts().bytes(Transfer::ClientSent, bytes as u64);
        }
        if self.logged.is_some() {
            let has_ended = self.is_end_stream();
            if let Some(logged) = &mut self.logged {
                match &frame {
                    Poll::Ready(Some(Ok(frame))) => {
                        logged.count(frame.data_ref().map_or(0, Bytes::len));
                        if has_ended || frame.is_trailers() {
                            logged.set_cut(None);
                        }
                    }
                    Poll::Ready(Some(Err(error))) => logged.set_cut(Some(error.cut())),
                    Poll::Ready(None) => logged.set_cut(None),
                    Poll::Pending => {}
                }
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.as_ref().is_none_or(|ahead| ahead.is_empty()) && self.kind.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.kind.size_hint();
        let ahead = self.ahead.as_ref().map_or(0, |ahead| ahead.bytes());
        match left.exact() {
            Some(left) => SizeHint::with_exact(left + ahead),
            None => left,
        }
    }
}

impl BodyKind {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Fixed(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Fixed(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Http1(body) => body.poll_frame(cx),
            Self::Http2(body) => body.poll_frame(cx),
            Self::Tunnel(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Fixed(bytes) => bytes.is_empty(),
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.inner.is_end_stream(),
            Self::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Fixed(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.inner.size_hint(),
            Self::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

/// The body of an HTTP/2 response. Another task drives its connection.
pub(crate) struct UpstreamBody {
    inner: Incoming,
    in_flight: InFlight,
    /// The final error, held back while earlier data is still being written.
    broken: Option<BodyError>,
    patience: Option<Pin<Box<Sleep>>>,
    counts: RouteCounts,
}

impl UpstreamBody {
    pub(crate) fn new(inner: Incoming, in_flight: InFlight, counts: RouteCounts) -> Self {
        Self {
            inner,
            in_flight,
            broken: None,
            patience: None,
            counts,
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let error = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => return self.poll_patience(cx),
            Poll::Ready(Some(Ok(frame))) => {
                self.restart_patience();
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.counts.bytes(Transfer::UpstreamReceived, bytes as u64);
                return Poll::Ready(Some(Ok(without_head_fields(frame))));
            }
            Poll::Ready(None) if self.inner.is_end_stream() => return Poll::Ready(None),
            // hyper reports a body that was reset with NO_ERROR or CANCEL as complete.
            Poll::Ready(None) => io::ErrorKind::ConnectionReset.into(),
            Poll::Ready(Some(Err(error))) => io::Error::other(body_cause(&error)),
        };
        self.failed(&error);
        // The library discards unwritten data when a body fails. With the error one poll later, the
        // client gets the head and all data, and then the error.
        self.broken = Some(BodyError::Upstream(error));
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Armed only while waiting for data, so that data that is already there needs no timer.
    fn poll_patience<T>(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, BodyError>>> {
        let limit = self.limit();
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match patience.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                // A stream without a length may be silent as long as it likes.
                let owes = self.inner.size_hint().exact().is_some();
                let counts = owes.then_some(&self.counts);
                note_cut(&self.in_flight, counts, &BodyError::Idle);
                Poll::Ready(Some(Err(BodyError::Idle)))
            }
        }
    }

    fn failed(&self, error: &dyn Display) {
        note_cut(&self.in_flight, Some(&self.counts), error);
    }

    fn restart_patience(&mut self) {
        let limit = self.limit();
        if let Some(patience) = &mut self.patience {
            patience.as_mut().reset(Instant::now() + limit);
        }
    }

    fn limit(&self) -> Duration {
        self.in_flight.upstream().settings.timeouts.body_idle
    }
}
