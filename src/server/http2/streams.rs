//! The streams of a connection: their number, and how much of their responses waits for the
//! client.
//!
//! A piece of a response ([`Piece`]) counts until h2 has written or discarded it. While too much
//! waits, a response with a waiting piece is not read further.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::proxy::body_error::BodyError;
use crate::proxy::header_map::field_section_size;
use crate::proxy::response_body;
use crate::server::Limits;
use crate::upstream::request_body::InterimResponses;

/// The limit on the size of all current request heads, as a number of largest heads.
const LARGEST_HEADS: usize = 16;

/// The state of a connection's streams.
pub(super) struct Streams {
    metrics: Arc<Metrics>,
    /// The number of current requests.
    open: Cell<usize>,
    /// The total size of their heads and its limit, in bytes.
    heads: Cell<usize>,
    longest_heads: usize,
    /// When the last one ended, or when the connection began.
    quiet_since: Cell<Instant>,
    /// The total number of requests.
    begun: Cell<usize>,
    /// The number of requests that were reset, minus those that were answered.
    abandoned: Cell<u32>,
    /// The last stream before a malformed request that ends the connection.
    malformed: Cell<Option<u32>>,
    /// The interim responses of the request being polled.
    interim: InterimResponses,
    /// The received bytes of request bodies.
    received: Cell<u64>,
    /// How much of all responses waits for the client and its limit, in bytes.
    waiting: Cell<usize>,
    most_waiting: usize,
    /// The streams that wait for this to decrease.
    held: RefCell<Vec<Waker>>,
}

impl Streams {
    pub(super) fn new(metrics: Arc<Metrics>, limits: &Limits) -> Self {
        Self {
            metrics,
            open: Cell::new(0),
            heads: Cell::new(0),
            longest_heads: limits.request_head_bytes.saturating_mul(LARGEST_HEADS),
            quiet_since: Cell::new(Instant::now()),
            begun: Cell::new(0),
            abandoned: Cell::new(0),
            malformed: Cell::new(None),
            interim: InterimResponses::default(),
            received: Cell::new(0),
            waiting: Cell::new(0),
            most_waiting: limits.http2_send_buffer_bytes,
            held: RefCell::default(),
        }
    }

    /// Begins a request; `None` if there is no room for its head. Any number of streams may have
    /// small heads, but not all may have the largest at the same time.
    pub(super) fn begin<B>(self: &Rc<Self>, request: &Request<B>) -> Option<StreamExchange> {
        self.begun.set(self.begun.get().saturating_add(1));
        let target = request.uri();
        let target = target.path().len()
            + target.query().map_or(0, str::len)
            + target
                .authority()
                .map_or(0, |authority| authority.as_str().len());
        let head = target + field_section_size(request.headers());
        if head > self.longest_heads.saturating_sub(self.heads.get()) {
            return None;
        }
        self.heads.set(self.heads.get() + head);
        self.open.set(self.open.get() + 1);
        Some(StreamExchange {
            streams: Rc::clone(self),
            head,
            is_whole: false,
        })
    }

    /// The number of requests that were reset, minus those that were answered.
    pub(super) fn abandoned(&self) -> u32 {
        self.abandoned.get()
    }

    /// Records that a malformed request ends the connection; `last` is its last stream.
    pub(super) fn set_malformed(&self, last: u32) {
        self.malformed.set(Some(last));
    }

    /// The last stream, if a malformed request ends the connection.
    pub(super) fn malformed(&self) -> Option<u32> {
        self.malformed.get()
    }

    /// The queue of interim responses. All streams share it: each sends its own at the end of its
    /// turn.
    fn interim(&self) -> &InterimResponses {
        &self.interim
    }

    /// Counts bytes of a request's body.
    pub(super) fn count_received(&self, bytes: usize) {
        let received = self.received.get();
        self.received.set(received.saturating_add(bytes as u64));
    }

    /// The received bytes of request bodies.
    pub(super) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Whether more than the limit waits for the client, beyond one piece of each response.
    fn has_much_waiting(&self) -> bool {
        self.waiting.get() > self.most_waiting
    }

    /// Whether a request is under way, or part of a response was not sent yet.
    pub(super) fn is_busy(&self) -> bool {
        self.open.get() > 0 || self.waiting.get() > 0
    }

    /// Resolves after `most` requests; must be polled whenever the connection is.
    pub(super) async fn asked_for(&self, most: usize) {
        poll_fn(|_| match self.begun.get() >= most {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Resolves when the connection has been idle for as long as `limit` says; `limit` gets
    /// whether there was ever a request.
    pub(super) async fn quiet_for(&self, limit: impl Fn(bool) -> Duration) {
        loop {
            let now = Instant::now();
            let since = match self.open.get() {
                0 => self.quiet_since.get(),
                _ => now,
            };
            let until = since + limit(self.begun.get() > 0);
            if until <= now {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// A request, from its head to the end of its response.
pub(super) struct StreamExchange {
    streams: Rc<Streams>,
    /// The size of its head, in bytes.
    head: usize,
    /// Whether the response ended, or broke off on our side.
    is_whole: bool,
}

impl StreamExchange {
    /// The queue of the request's interim responses.
    pub(super) fn interim(&self) -> &InterimResponses {
        self.streams.interim()
    }

    /// Delays a request of a client that resets its requests: the library starts streams that are
    /// already reset, and notices the reset only if the request waits.
    pub(super) async fn still_stands(&self) {
        if self.streams.abandoned() > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// The bytes of a tunnel, which replaces the body.
    pub(super) fn into_tunnel(mut self) -> TunnelBytes {
        self.is_whole = true;
        self.forget_head();
        TunnelBytes {
            exchange: self,
            waiting: Rc::default(),
        }
    }

    pub(super) fn answer_with(mut self, body: response_body::Body) -> StreamBody {
        self.is_whole = body.is_end_stream();
        self.forget_head();
        StreamBody {
            body,
            exchange: self,
            waiting: Rc::default(),
        }
    }

    /// Releases the memory of its head.
    fn forget_head(&mut self) {
        let heads = &self.streams.heads;
        heads.set(heads.get() - std::mem::take(&mut self.head));
    }
}

impl Drop for StreamExchange {
    fn drop(&mut self) {
        self.forget_head();
        let streams = &*self.streams;
        streams.open.set(streams.open.get() - 1);
        if streams.open.get() == 0 {
            streams.quiet_since.set(Instant::now());
        }
        let abandoned = streams.abandoned.get();
        streams.abandoned.set(match self.is_whole {
            true => abandoned.saturating_sub(1),
            false => abandoned + 1,
        });
        if std::thread::panicking() {
            streams.metrics.panicked();
        }
    }
}

/// The bytes that a tunnel sends to its client.
pub(super) struct TunnelBytes {
    exchange: StreamExchange,
    /// How much of it waits for the client, in bytes.
    waiting: Rc<WaitingBytes>,
}

impl TunnelBytes {
    pub(super) fn piece(&self, bytes: Bytes) -> Piece {
        Piece::new(bytes, &self.exchange.streams, &self.waiting)
    }
}

/// A response's body, split into counted pieces.
pub(super) struct StreamBody {
    body: response_body::Body,
    exchange: StreamExchange,
    /// How much of it waits for the client, in bytes.
    waiting: Rc<WaitingBytes>,
}

impl StreamBody {
    /// Whether it is held back: part of it already waits, and too much of all responses does.
    pub(super) fn is_held(&self) -> bool {
        let streams = &self.exchange.streams;
        self.waiting.are_some() && streams.has_much_waiting()
    }

    /// An empty last piece.
    pub(super) fn last_piece(&self) -> Piece {
        self.piece(Bytes::new())
    }

    /// How long its client may leave a piece waiting.
    pub(super) fn patience(&self) -> Duration {
        self.body.patience()
    }

    /// Its exchange and how much of it still waits for the client. The rest is not needed any more.
    pub(super) fn into_untaken(self) -> (StreamExchange, Rc<WaitingBytes>) {
        (self.exchange, self.waiting)
    }

    fn piece(&self, bytes: Bytes) -> Piece {
        Piece::new(bytes, &self.exchange.streams, &self.waiting)
    }

    /// The next piece; pending while it is held back.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        if self.is_held() {
            let mut held = self.exchange.streams.held.borrow_mut();
            held.push(cx.waker().clone());
            return Poll::Pending;
        }
        if self.exchange.streams.has_much_waiting() {
            self.body.read_small();
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(_))) => self.exchange.is_whole = self.body.is_end_stream(),
            Poll::Ready(Some(Err(_)) | None) => self.exchange.is_whole = true,
            Poll::Pending => {}
        }
        frame.map_ok(|frame| frame.map_data(|bytes| self.piece(bytes)))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How much of one response waits for the client.
#[derive(Default)]
pub(super) struct WaitingBytes {
    /// The bytes of the pieces that were not sent in full.
    bytes: Cell<usize>,
    /// How many bytes were sent in all.
    taken: Cell<usize>,
}

impl WaitingBytes {
    /// Whether some do.
    pub(super) fn are_some(&self) -> bool {
        self.bytes.get() > 0
    }

    /// How many bytes the client has taken so far.
    pub(super) fn taken(&self) -> usize {
        self.taken.get()
    }
}

/// A piece of a response; it counts until it is sent or discarded.
pub(super) struct Piece {
    bytes: Bytes,
    length: usize,
    streams: Rc<Streams>,
    /// The bytes of its stream.
    waiting: Rc<WaitingBytes>,
}

impl Piece {
    fn new(bytes: Bytes, streams: &Rc<Streams>, waiting: &Rc<WaitingBytes>) -> Self {
        let piece = Self {
            length: bytes.len(),
            bytes,
            streams: Rc::clone(streams),
            waiting: Rc::clone(waiting),
        };
        piece.count(usize::saturating_add);
        piece
    }

    fn count(&self, add: impl Fn(usize, usize) -> usize) {
        for waiting in [&self.streams.waiting, &self.waiting.bytes] {
            waiting.set(add(waiting.get(), self.length));
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.count(usize::saturating_sub);
        let streams = &self.streams;
        if !self.waiting.are_some() || streams.waiting.get() <= streams.most_waiting {
            for held in streams.held.take() {
                held.wake();
            }
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        let taken = &self.waiting.taken;
        taken.set(taken.get().wrapping_add(count));
    }
}
