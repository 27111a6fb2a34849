//! The body on its way to the upstream: held while the client waits for `100 Continue`, and
//! watched, so that a client that stops sending is told from an upstream that does not answer.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::sync::Notify;

use super::wire::without_head_fields;

/// Why a request's body ends before it is whole.
#[derive(Debug, Error)]
pub(super) enum RequestBodyError {
    /// What the connection said.
    #[error(transparent)]
    Client(#[from] hyper::Error),
    /// RST_STREAM with NO_ERROR, which hyper passes on as the end of the body.
    #[error("the client reset the stream before the end of the body")]
    Reset,
}

/// A request's body.
pub(super) struct RequestBody {
    /// `None`: the request has none.
    inner: Option<Incoming>,
    is_http2: bool,
    /// The last piece of an HTTP/2 body with a declared length, until the stream ends: only then is
    /// it certain that the client sends no more than it declared. With the whole body, an HTTP/1.1
    /// upstream would have a complete request.
    withheld: Option<Bytes>,
    /// The trailers that came after it.
    trailers: Option<Frame<Bytes>>,
    /// What was taken of it for a try that came to nothing.
    first: Bytes,
    hold: Option<Hold>,
    progress: Option<Arc<Progress>>,
}

/// Keeps a body back until the upstream says 100, or would have said it.
///
/// hyper sends the client its 100 when the body is first asked for, so holding the body makes
/// the wait end to end ([RFC 9110 §10.1.1]). Where the upstream answers at once, nobody asks for
/// the body and the client sees that answer and no 100.
///
/// [RFC 9110 §10.1.1]: https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
struct Hold {
    continued: Arc<Notify>,
    /// Ends at 100, or some time after the body was first asked for: some upstreams never say it.
    released: Pin<Box<dyn Future<Output = ()>>>,
}

/// How far a request's body has got. Shared with whoever waits for the response.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    last_millis: AtomicU64,
    stage: AtomicU8,
    failed: AtomicBool,
}

/// Whom a body waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The upstream does not take what is there.
    WaitsForUpstream,
    /// The client does not send.
    WaitsForClient,
    /// Nobody: all was passed on.
    Done,
}

impl Progress {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            last_millis: AtomicU64::new(0),
            stage: AtomicU8::new(Stage::WaitsForUpstream as u8),
            failed: AtomicBool::new(false),
        }
    }

    /// How long ago something was passed on.
    pub(super) fn since_last(&self) -> Duration {
        let last = Duration::from_millis(self.last_millis.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            stage if stage == Stage::Done as u8 => Stage::Done,
            stage if stage == Stage::WaitsForClient as u8 => Stage::WaitsForClient,
            _ => Stage::WaitsForUpstream,
        }
    }

    /// Whether the body broke off on the client's side.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn moved_to(&self, stage: Stage) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_millis.store(millis, Ordering::Relaxed);
        self.stage.store(stage as u8, Ordering::Relaxed);
    }
}

impl RequestBody {
    /// The body of a request that has none.
    pub(super) const EMPTY: Self = Self {
        inner: None,
        is_http2: false,
        withheld: None,
        trailers: None,
        first: Bytes::new(),
        hold: None,
        progress: None,
    };

    /// The body of a request that came in this version of HTTP.
    pub(super) fn new(body: Incoming, version: Version) -> Self {
        if body.is_end_stream() {
            return Self::EMPTY;
        }
        Self {
            inner: Some(body),
            is_http2: version == Version::HTTP_2,
            progress: Some(Arc::new(Progress::new())),
            ..Self::EMPTY
        }
    }

    /// Finds out whether an HTTP/2 request has a body at all, where its head leaves that open.
    ///
    /// With `content-length: 0`, the head alone would be a complete request to an HTTP/1.1 upstream,
    /// so the stream has to end first; the caller limits how long that may take. Without a length,
    /// only what the client has already sent is looked at: the upstream may have to answer before the
    /// client sends more.
    pub(super) async fn settle(&mut self) -> Result<(), RequestBodyError> {
        if !self.is_http2 {
            return Ok(());
        }
        match self.size_hint().exact() {
            Some(0) => loop {
                match poll_fn(|cx| self.poll_inner(cx)).await.transpose()? {
                    None => return self.has_ended(),
                    Some(frame) if frame.is_data() => {}
                    Some(trailers) => {
                        self.trailers = Some(trailers);
                        return Ok(());
                    }
                }
            },
            Some(_) => Ok(()),
            None => {
                tokio::task::yield_now().await;
                let polled = poll_fn(|cx| Poll::Ready(self.poll_inner(cx))).await;
                match polled {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(None) => {}
                    Poll::Ready(Some(frame)) => match frame?.into_data() {
                        Ok(data) => self.first = data,
                        Err(trailers) => self.trailers = Some(trailers),
                    },
                }
                self.has_ended()
            }
        }
    }

    /// Makes this a request without a body where nothing is left of it.
    fn has_ended(&mut self) -> Result<(), RequestBodyError> {
        if self.is_end_stream() {
            *self = Self::EMPTY;
        }
        Ok(())
    }

    /// Holds the body until the upstream says 100, `patience` at most.
    pub(super) fn hold(&mut self, patience: Duration) {
        let continued = Arc::new(Notify::new());
        let notified = Arc::clone(&continued).notified_owned();
        self.hold = Some(Hold {
            continued,
            released: Box::pin(async move {
                // That it took too long is as good.
                let _ = tokio::time::timeout(patience, notified).await;
            }),
        });
    }

    /// What lets a held body go; `None`: it is not held.
    pub(super) fn continued(&self) -> Option<Arc<Notify>> {
        self.hold.as_ref().map(|hold| Arc::clone(&hold.continued))
    }

    /// Begins to measure how far it gets; `None` where there is no body to wait for.
    pub(super) fn begin(&self) -> Option<Arc<Progress>> {
        let progress = self.progress.clone()?;
        progress.moved_to(Stage::WaitsForUpstream);
        Some(progress)
    }

    /// The same for another try, which gets again what was `taken`.
    pub(super) fn again(mut self, taken: Bytes) -> Self {
        // That is given first and whole: where anything was taken, there is nothing left of it.
        if !taken.is_empty() {
            self.first = taken;
        }
        // Whoever had it may still move the old one on.
        let progress = self.progress.take();
        self.progress = progress.map(|_| Arc::new(Progress::new()));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inner.is_none()
    }

    /// The next frame that the client sent.
    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        if !self.is_http2 {
            let frame = Pin::new(inner).poll_frame(cx);
            return frame.map(|frame| frame.map(|frame| Ok(frame?)));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(trailers)));
        }
        loop {
            let frame = ready!(Pin::new(&mut *inner).poll_frame(cx)).transpose()?;
            let has_ended = inner.is_end_stream();
            match frame.map(Frame::into_data) {
                None if !has_ended => return Poll::Ready(Some(Err(RequestBodyError::Reset))),
                None => return Poll::Ready(self.withheld.take().map(|data| Ok(Frame::data(data)))),
                Some(Ok(data)) => {
                    let data = match self.withheld.take() {
                        // Beyond the declared length, nothing but empty frames gets past h2.
                        Some(withheld) => withheld,
                        None => data,
                    };
                    if has_ended || inner.size_hint().exact() != Some(0) {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    self.withheld = Some(data);
                }
                Some(Err(trailers)) => {
                    let Some(data) = self.withheld.take() else {
                        return Poll::Ready(Some(Ok(trailers)));
                    };
                    self.trailers = Some(trailers);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = &mut *self;
        if let Some(hold) = &mut this.hold {
            ready!(hold.released.as_mut().poll(cx));
            this.hold = None;
        }
        let frame = match this.first.is_empty() {
            true => this.poll_inner(cx),
            false => Poll::Ready(Some(Ok(Frame::data(mem::take(&mut this.first))))),
        };
        let is_last = this.is_end_stream();
        if let Some(progress) = &this.progress {
            match &frame {
                Poll::Pending => progress
                    .stage
                    .store(Stage::WaitsForClient as u8, Ordering::Relaxed),
                Poll::Ready(None) => progress.moved_to(Stage::Done),
                Poll::Ready(Some(Ok(_))) if is_last => progress.moved_to(Stage::Done),
                Poll::Ready(Some(Ok(_))) => progress.moved_to(Stage::WaitsForUpstream),
                Poll::Ready(Some(Err(_))) => progress.failed.store(true, Ordering::Relaxed),
            }
        }
        frame.map_ok(without_head_fields)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty()
            && self.withheld.is_none()
            && self.trailers.is_none()
            && self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let left = self
            .inner
            .as_ref()
            .map_or(SizeHint::with_exact(0), Incoming::size_hint);
        match left.exact() {
            Some(left) => {
                let withheld = self.withheld.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(left + (self.first.len() + withheld) as u64)
            }
            None => left,
        }
    }
}
