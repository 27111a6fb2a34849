//! The response's body: one that comes from the upstream, or one made here.

use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Instant, Sleep};

use crate::metrics::UpstreamFailure;
use crate::metrics::UpstreamFailures;

use super::balance::Lease;
use super::failures;
use super::lane::FetchedBody;
use super::logged::Logged;
use super::pool::Http1;
use super::upstream::{Timeouts, Upstream};
use super::wire::without_head_fields;

/// A response's body.
pub struct Body {
    kind: Kind,
    /// Where there is an access log: what it will say of the request at the body's end.
    logged: Option<Box<Logged>>,
}

enum Kind {
    Fixed(Bytes),
    Upstream(Box<UpstreamBody>),
    Fetched(Box<FetchedBody>),
}

/// Why a response's body is cut short. The client sees it cut: its connection (HTTP/1.1) or its
/// stream (HTTP/2) ends without the body's end.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The upstream's connection failed in the middle of it.
    #[error("the upstream's response broke off")]
    Upstream(#[source] io::Error),
    /// The upstream stopped sending.
    #[error("the upstream's response stopped coming")]
    Idle,
}

impl Body {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self::fixed(Bytes::new())
    }

    pub(super) fn fixed(bytes: impl Into<Bytes>) -> Self {
        Self {
            kind: Kind::Fixed(bytes.into()),
            logged: None,
        }
    }

    /// One that comes from an upstream; should it break off, `failures` counts it.
    pub(super) fn upstream(mut body: UpstreamBody, failures: UpstreamFailures) -> Self {
        body.failures = Some(failures);
        Self {
            kind: Kind::Upstream(Box::new(body)),
            logged: None,
        }
    }

    /// One that comes over one of the lane's connections.
    pub(super) fn fetched(body: FetchedBody) -> Self {
        Self {
            kind: Kind::Fetched(Box::new(body)),
            logged: None,
        }
    }

    /// The bytes of a body that was made here.
    pub(super) fn into_fixed(self) -> Bytes {
        match self.kind {
            Kind::Fixed(bytes) => bytes,
            Kind::Upstream(_) | Kind::Fetched(_) => Bytes::new(),
        }
    }

    /// Has the request logged when the body ends, whichever way.
    pub(super) fn logged(mut self, logged: Box<Logged>) -> Self {
        self.logged = Some(logged);
        self
    }

    /// How long its receiver may leave a piece of it.
    pub fn patience(&self) -> Duration {
        match &self.kind {
            Kind::Fixed(_) => Timeouts::default().body_idle,
            Kind::Upstream(body) => body.limit(),
            Kind::Fetched(body) => body.limit(),
        }
    }

    /// The upstream that it comes from; `None`: it was made here.
    #[must_use]
    pub fn comes_from(&self) -> Option<&Arc<Upstream>> {
        match &self.kind {
            Kind::Fixed(_) => None,
            Kind::Upstream(body) => Some(body.lease.upstream()),
            Kind::Fetched(body) => Some(body.lease.upstream()),
        }
    }
}

/// Leaves out of a response to HEAD what was made here, and says how long it is ([RFC 9110 §9.3.2]);
/// what an upstream answers to HEAD has no content. Over HTTP/1.1, hyper does it.
///
/// [RFC 9110 §9.3.2]: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2
#[must_use]
pub fn without_content(mut response: Response<Body>) -> Response<Body> {
    if let Kind::Fixed(bytes) = &mut response.body_mut().kind
        && !bytes.is_empty()
    {
        let length = std::mem::take(bytes).len();
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
        let frame = match &mut self.kind {
            Kind::Fixed(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Fixed(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Upstream(body) => body.poll_frame(cx),
            Kind::Fetched(body) => body.poll_frame(cx),
        };
        if let Some(logged) = &mut self.logged
            && let Poll::Ready(Some(Ok(frame))) = &frame
        {
            logged.count(frame.data_ref().map_or(0, Bytes::len));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Fixed(bytes) => bytes.is_empty(),
            Kind::Upstream(body) => body.inner.is_end_stream(),
            Kind::Fetched(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Fixed(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Upstream(body) => body.inner.size_hint(),
            Kind::Fetched(body) => body.size_hint(),
        }
    }
}

/// A body that drives the connection it comes from, and gives it back at the end.
pub(super) struct UpstreamBody {
    inner: Incoming,
    is_http2: bool,
    /// `None`: another task drives it (HTTP/2), or the connection has ended.
    connection: Option<Http1>,
    lease: Lease,
    ended: bool,
    /// What it broke off with, while what came before is still being written.
    broken: Option<BodyError>,
    patience: Option<Pin<Box<Sleep>>>,
    failures: Option<UpstreamFailures>,
}

impl UpstreamBody {
    pub(super) fn new(inner: Incoming, connection: Option<Http1>, lease: Lease) -> Self {
        Self {
            inner,
            is_http2: false,
            connection,
            lease,
            ended: false,
            broken: None,
            patience: None,
            failures: None,
        }
    }

    /// One whose connection another task drives.
    pub(super) fn http2(inner: Incoming, lease: Lease) -> Self {
        let mut body = Self::new(inner, None, lease);
        body.is_http2 = true;
        body
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut frame = Pin::new(&mut self.inner).poll_frame(cx);
        if frame.is_pending()
            && let Some(connection) = &mut self.connection
        {
            if connection.poll_ended(cx) {
                self.connection = None;
            }
            frame = Pin::new(&mut self.inner).poll_frame(cx);
        }
        match frame {
            Poll::Pending => self.poll_patience(cx),
            // RST_STREAM with NO_ERROR, which hyper passes on as the end of the body.
            Poll::Ready(None) if self.is_http2 && !self.inner.is_end_stream() => {
                let error = "the upstream reset the stream before the end of the response";
                self.broken_by(io::Error::other(error), cx)
            }
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.restart_patience();
                Poll::Ready(Some(Ok(without_head_fields(frame))))
            }
            Poll::Ready(Some(Err(error))) => self.broken_by(io::Error::other(error), cx),
        }
    }

    /// The body fails one turn later: hyper drops what it has not written yet when a body fails, and
    /// the client is to get the head and all that came before the cut.
    fn broken_by<T>(&mut self, error: io::Error, cx: &mut Context<'_>) -> Poll<T> {
        self.failed(&error);
        self.broken = Some(BodyError::Upstream(error));
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Armed only when a piece is waited for, so that a body that is there already costs none.
    fn poll_patience<T>(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, BodyError>>> {
        let limit = self.limit();
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match patience.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.connection = None;
                self.failed(&BodyError::Idle);
                Poll::Ready(Some(Err(BodyError::Idle)))
            }
        }
    }

    fn failed(&self, error: &dyn Display) {
        note_cut(&self.lease, self.failures.as_ref(), error);
    }

    fn restart_patience(&mut self) {
        let limit = self.limit();
        if let Some(patience) = &mut self.patience {
            patience.as_mut().reset(Instant::now() + limit);
        }
    }

    fn limit(&self) -> Duration {
        self.lease.upstream().settings.timeouts.body_idle
    }
}

/// Logs and counts a response of `lease`'s upstream that was cut.
pub(super) fn note_cut(lease: &Lease, failures: Option<&UpstreamFailures>, error: &dyn Display) {
    let upstream = lease.upstream();
    failures::log(UpstreamFailure::Body, || {
        tracing::warn!(%upstream, %error, "an upstream's response was cut");
    });
    if let Some(failures) = failures {
        failures.count(UpstreamFailure::Body);
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && (self.ended || self.inner.is_end_stream())
        {
            connection.give_back();
        }
    }
}
