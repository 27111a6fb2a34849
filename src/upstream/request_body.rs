//! A request's body on its way to an upstream: its source, whether it waits for `100 Continue`, and
//! its progress.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::http1::request_head::Framing;
use crate::http1::trailers::without_head_fields;
use crate::metrics::{RouteCounts, Transfer};

use super::body_error::RequestBodyError;
use super::client_body::{BodyFeed, ClientBody};
use super::http2_body::Http2Body;
use super::request_stream::RequestStream;
use super::unread_bodies::UnreadBodies;

/// A request's body.
pub struct RequestBody {
    source: BodySource,
    /// What an earlier try read of it; comes before the source.
    replayed: Bytes,
    hold: Option<Hold>,
    progress: Option<Rc<BodyProgress>>,
    interim: Option<InterimResponses>,
    /// What counts its bytes; `None`: they are not counted.
    counts: Option<RouteCounts>,
}

/// Interim responses (1xx) still to be sent to a client, in HTTP/1.1's form. `100 Continue` is not
/// among them: the client gets it when its body is read.
#[derive(Clone, Debug, Default)]
pub struct InterimResponses(Rc<RefCell<Vec<u8>>>);

impl InterimResponses {
    /// Adds interim responses.
    pub(crate) fn add(&self, bytes: &mut Vec<u8>) {
        self.0.borrow_mut().append(bytes);
    }

    /// Moves them to `out`.
    pub fn move_to(&self, out: &mut Vec<u8>) {
        out.append(&mut self.0.borrow_mut());
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Takes them all.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        self.0.take()
    }
}

/// Where a body comes from.
enum BodySource {
    /// The request has no body.
    Empty,
    /// A client's HTTP/1.1 connection.
    Http1(ClientBody),
    /// A client's HTTP/2 stream.
    Http2(Http2Body),
}

/// Keeps a body back until the upstream answers `100 Continue`, or for a limited time: some
/// upstreams never send it.
///
/// A client gets its own 100 when its body is first read, so that the wait is end to end ([RFC 9110
/// §10.1.1]). If the upstream answers at once, the body is never read, and the client gets that
/// answer without a 100.
///
/// [RFC 9110 §10.1.1]: https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
struct Hold {
    patience: Duration,
    /// Started when the body is first polled.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The progress of a request's body. Shared with the future that waits for the response.
#[derive(Debug)]
pub(crate) struct BodyProgress {
    last: Cell<Instant>,
    stage: Cell<BodyStage>,
    failed: Cell<bool>,
}

/// What a body waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyStage {
    /// The upstream does not accept the data that is ready.
    WaitsForUpstream,
    /// The client does not send.
    WaitsForClient,
    /// Nothing: everything was forwarded.
    Done,
}

impl BodyProgress {
    fn new() -> Self {
        Self {
            last: Cell::new(Instant::now()),
            stage: Cell::new(BodyStage::WaitsForUpstream),
            failed: Cell::new(false),
        }
    }

    /// How long ago data was last forwarded.
    pub(crate) fn since_last(&self) -> Duration {
        self.last.get().elapsed()
    }

    pub(crate) fn stage(&self) -> BodyStage {
        self.stage.get()
    }

    /// Whether the body failed on the client's side.
    pub(crate) fn failed(&self) -> bool {
        self.failed.get()
    }

    fn moved_to(&self, stage: BodyStage) {
        self.last.set(Instant::now());
        self.stage.set(stage);
    }
}

impl RequestBody {
    /// The body of a request without one.
    pub const EMPTY: Self = Self {
        source: BodySource::Empty,
        replayed: Bytes::new(),
        hold: None,
        progress: None,
        interim: None,
        counts: None,
    };

    /// The body of a client's HTTP/2 stream. If it is not read to its end, `unread` gets the rest.
    #[must_use]
    pub fn from_http2(body: RequestStream, unread: &Rc<UnreadBodies>) -> Self {
        match body.is_end_stream() {
            true => Self::EMPTY,
            false => {
                let body = Http2Body::new(body, Rc::clone(unread));
                Self::from_source(BodySource::Http2(body))
            }
        }
    }

    /// The body of an HTTP/1.1 client's request with this framing, and the end that supplies its
    /// bytes.
    #[must_use]
    pub fn from_http1(framing: Framing) -> (Self, BodyFeed) {
        let (feed, body) = BodyFeed::new(framing);
        let body = body.map(|body| Self::from_source(BodySource::Http1(body)));
        (body.unwrap_or(Self::EMPTY), feed)
    }

    fn from_source(source: BodySource) -> Self {
        Self {
            source,
            progress: Some(Rc::new(BodyProgress::new())),
            ..Self::EMPTY
        }
    }

    /// Sends interim responses to the client by way of `interim`.
    pub fn pass_interim_to(&mut self, interim: InterimResponses) {
        self.interim = Some(interim);
    }

    /// Counts its bytes, unless it is empty.
    pub(crate) fn count_with(&mut self, counts: &RouteCounts) {
        self.counts = (!self.is_empty()).then(|| counts.clone());
    }

    /// Counts bytes received from the client or sent to the upstream.
    pub(crate) fn count(&self, transfer: Transfer, bytes: usize) {
        if let Some(counts) = &self.counts {
            counts.bytes(transfer, bytes as u64);
        }
    }

    /// Where interim responses go, if anywhere.
    pub(crate) fn interim(&self) -> Option<InterimResponses> {
        self.interim.clone()
    }

    /// Finds out whether an HTTP/2 request has a body at all, if its head leaves that open.
    ///
    /// With `content-length: 0`, the head alone would be a complete request to an HTTP/1.1
    /// upstream, so the stream has to end first; the caller limits how long that may take. Without
    /// a length, this checks only what the client has already sent: the client may send more only
    /// after the upstream has answered.
    pub(crate) async fn settle(&mut self) -> Result<(), RequestBodyError> {
        let BodySource::Http2(body) = &mut self.source else {
            return Ok(());
        };
        match body.size_hint().exact() {
            Some(0) => loop {
                match poll_fn(|cx| body.poll_frame(cx)).await.transpose()? {
                    None => break,
                    Some(frame) if frame.is_data() => {}
                    Some(trailers) => {
                        body.put_back(trailers);
                        return Ok(());
                    }
                }
            },
            Some(_) => return Ok(()),
            None => {
                tokio::task::yield_now().await;
                match poll_fn(|cx| Poll::Ready(body.poll_frame(cx))).await {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(None) => {}
                    Poll::Ready(Some(frame)) => match frame?.into_data() {
                        Ok(data) => {
                            self.replayed = data;
                            self.count(Transfer::ClientReceived, self.replayed.len());
                        }
                        Err(trailers) => body.put_back(trailers),
                    },
                }
            }
        }
        // Nothing is left of the body, so the request has none.
        if self.is_end_stream() {
            *self = Self {
                interim: self.interim.take(),
                ..Self::EMPTY
            };
        }
        Ok(())
    }

    /// Holds the body until [`release`](Self::release) is called or `patience` has passed.
    pub(crate) fn hold(&mut self, patience: Duration) {
        self.hold = Some(Hold {
            patience,
            timer: None,
        });
    }

    /// Whether the body is held.
    pub(crate) fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// Releases a held body, because the upstream sent `100 Continue`.
    pub(crate) fn release(&mut self) {
        self.hold = None;
    }

    /// Begins to measure progress; `None`: there is no body to wait for.
    pub(crate) fn begin(&self) -> Option<Rc<BodyProgress>> {
        let progress = self.progress.clone()?;
        progress.moved_to(BodyStage::WaitsForUpstream);
        Some(progress)
    }

    /// The same body for another try, beginning with `taken`.
    pub(crate) fn again(mut self, taken: Bytes) -> Self {
        // An earlier try's rest is returned first and in one piece, so if anything was taken now,
        // that was all of it.
        if !taken.is_empty() {
            self.replayed = taken;
        }
        // The failed try may still hold the old one and change it.
        let progress = self.progress.take();
        self.progress = progress.map(|_| Rc::new(BodyProgress::new()));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.source, BodySource::Empty)
    }
}

impl BodySource {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Http1(body) => body.poll_frame(cx).map_err(RequestBodyError::Http1),
            Self::Http2(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
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
        if let Some(Hold { patience, timer }) = &mut this.hold {
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(*patience)));
            ready!(timer.as_mut().poll(cx));
            this.hold = None;
        }
        let frame = match this.replayed.is_empty() {
            true => {
                let frame = this.source.poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &frame {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    this.count(Transfer::ClientReceived, bytes);
                }
                frame
            }
            false => Poll::Ready(Some(Ok(Frame::data(mem::take(&mut this.replayed))))),
        };
        if let Some(progress) = &this.progress {
            match &frame {
                Poll::Pending => progress.stage.set(BodyStage::WaitsForClient),
                Poll::Ready(None) => progress.moved_to(BodyStage::Done),
                Poll::Ready(Some(Ok(_))) => {
                    let is_last = this.replayed.is_empty() && this.source.is_end_stream();
                    progress.moved_to(match is_last {
                        true => BodyStage::Done,
                        false => BodyStage::WaitsForUpstream,
                    });
                }
                Poll::Ready(Some(Err(_))) => progress.failed.set(true),
            }
        }
        frame.map_ok(without_head_fields)
    }

    fn is_end_stream(&self) -> bool {
        self.replayed.is_empty() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.source.size_hint();
        match left.exact() {
            Some(left) => SizeHint::with_exact(left + self.replayed.len() as u64),
            None => left,
        }
    }
}
