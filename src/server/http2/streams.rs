//! The streams of one connection: how many there are, how much of their responses waits for their
//! client, and an end for those of which it takes nothing.
//!
//! hyper spawns a task for each stream, and says nothing of it afterwards. So the task is wrapped
//! ([`Tasks`]), and so is the response's body ([`StreamBody`]): a body that has given a piece and is
//! not asked for the next one waits for its client, who has no room for it (flow control, [RFC
//! 9113 §5.2]). A piece ([`Piece`]) is counted for as long as anybody has it.
//!
//! [RFC 9113 §5.2]: https://www.rfc-editor.org/rfc/rfc9113#section-5.2

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Request;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::metrics::Metrics;
use crate::proxy::body_error::BodyError;
use crate::proxy::header_map::field_section_size;
use crate::proxy::response_body;
use crate::server::Limits;

/// As much of heads as this many of the largest may be under way at once.
const LARGEST_HEADS: usize = 16;

/// What is known of a connection's streams.
pub(super) struct Streams {
    metrics: Arc<Metrics>,
    /// How many requests are under way.
    open: Cell<usize>,
    /// How long their heads are in all, in bytes, and how long they may be.
    heads: Cell<usize>,
    longest_heads: usize,
    /// When the last one ended, or the connection began.
    quiet_since: Cell<Instant>,
    /// How many requests there were.
    begun: Cell<usize>,
    /// How many more requests were taken back than answered.
    abandoned: Cell<u32>,
    /// The last stream before a malformed request that ends the connection.
    malformed: Cell<Option<u32>>,
    /// Of the stream that is being polled: until when its client may leave what it was given.
    untaken_until: Cell<Option<Instant>>,
    /// How much of all responses waits for the client, in bytes, and how much may.
    waiting: Cell<usize>,
    most_waiting: usize,
    /// The streams that wait until less does.
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
            untaken_until: Cell::new(None),
            waiting: Cell::new(0),
            most_waiting: limits.http2_send_buffer_bytes,
            held: RefCell::default(),
        }
    }

    /// A request has come; `None`: there is no room for its head. Any number of streams may have
    /// small heads, but all of them at once may not have the largest.
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

    /// How many more requests were taken back than answered.
    pub(super) fn abandoned(&self) -> u32 {
        self.abandoned.get()
    }

    /// Notes that a malformed request ends the connection, of which `last` is the last stream.
    pub(super) fn set_malformed(&self, last: u32) {
        self.malformed.set(Some(last));
    }

    /// The last stream, if a malformed request ends the connection.
    pub(super) fn malformed(&self) -> Option<u32> {
        self.malformed.get()
    }

    /// Whether more waits for the client than may, beyond one piece of each response.
    fn has_much_waiting(&self) -> bool {
        self.waiting.get() > self.most_waiting
    }

    /// Whether a request is under way, or some of a response was not sent yet.
    pub(super) fn is_busy(&self) -> bool {
        self.open.get() > 0 || self.waiting.get() > 0
    }

    /// Ends when there were `most` requests; asked whenever the connection was.
    pub(super) async fn asked_for(&self, most: usize) {
        poll_fn(|_| match self.begun.get() >= most {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Ends when nobody has asked anything for as long as `limit` says; it is told whether anybody
    /// ever has.
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

/// One request, from its head to the end of its response.
pub(super) struct StreamExchange {
    streams: Rc<Streams>,
    /// How long its head is, in bytes.
    head: usize,
    /// Whether the response was given to its end, or broke off on our side.
    is_whole: bool,
}

impl StreamExchange {
    /// Has a request of a client that takes back what it asks for wait for a turn: the library
    /// begins what was reset already, and looks for that only when a request waits.
    pub(super) async fn still_stands(&self) {
        if self.streams.abandoned() > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// One more for the same stream, which goes on as a tunnel after its response.
    pub(super) fn share(&self) -> Self {
        self.streams.open.set(self.streams.open.get() + 1);
        Self {
            streams: Rc::clone(&self.streams),
            head: 0,
            is_whole: true,
        }
    }

    pub(super) fn answer_with(mut self, body: response_body::Body) -> StreamBody {
        self.is_whole = body.is_end_stream();
        self.forget_head();
        StreamBody {
            body,
            exchange: self,
            waiting: Rc::default(),
            untaken_until: None,
        }
    }

    /// Nobody has its head any more.
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

/// The body of a response, which tells whether its client takes it.
pub(super) struct StreamBody {
    body: response_body::Body,
    exchange: StreamExchange,
    /// How much of it waits for the client, in bytes.
    waiting: Rc<Cell<usize>>,
    /// Until when the client may leave what it was given last.
    untaken_until: Option<Instant>,
}

impl StreamBody {
    /// Whether it is not its turn: something of it waits already, and too much of all.
    fn is_held(&self) -> bool {
        let streams = &self.exchange.streams;
        self.waiting.get() > 0 && streams.has_much_waiting()
    }

    fn piece(&self, bytes: Bytes) -> Piece {
        let piece = Piece {
            length: bytes.len(),
            bytes,
            streams: Rc::clone(&self.exchange.streams),
            waiting: Rc::clone(&self.waiting),
        };
        piece.count(usize::saturating_add);
        piece
    }
}

impl Body for StreamBody {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        let this = &mut *self;
        let frame = if this.is_held() {
            let mut held = this.exchange.streams.held.borrow_mut();
            held.push(cx.waker().clone());
            Poll::Pending
        } else {
            if this.exchange.streams.has_much_waiting() {
                this.body.read_small();
            }
            let frame = Pin::new(&mut this.body).poll_frame(cx);
            this.untaken_until = match &frame {
                Poll::Ready(Some(Ok(_))) => {
                    this.exchange.is_whole = this.body.is_end_stream();
                    Some(Instant::now() + this.body.patience())
                }
                Poll::Ready(Some(Err(_)) | None) => {
                    this.exchange.is_whole = true;
                    None
                }
                Poll::Pending => None,
            };
            frame
        };
        let streams = &this.exchange.streams;
        streams.untaken_until.set(this.untaken_until);
        frame.map_ok(|frame| frame.map_data(|bytes| this.piece(bytes)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of a response, which is counted until it is sent or thrown away.
pub(super) struct Piece {
    bytes: Bytes,
    length: usize,
    streams: Rc<Streams>,
    /// Of its stream.
    waiting: Rc<Cell<usize>>,
}

impl Piece {
    fn count(&self, add: impl Fn(usize, usize) -> usize) {
        for waiting in [&self.streams.waiting, &*self.waiting] {
            waiting.set(add(waiting.get(), self.length));
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.count(usize::saturating_sub);
        let streams = &self.streams;
        if self.waiting.get() == 0 || streams.waiting.get() <= streams.most_waiting {
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
    }
}

/// Runs a connection's streams on the worker's own thread.
#[derive(Clone)]
pub(super) struct Tasks(pub(super) Rc<Streams>);

impl<F: Future + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, stream: F) {
        let streams = Rc::clone(&self.0);
        tokio::task::spawn_local(async move {
            let mut stream = pin!(stream);
            let mut untaken = Untaken::default();
            // Dropped when its time is over, it is reset (CANCEL).
            poll_fn(|cx| {
                streams.untaken_until.set(untaken.until);
                let ended = stream.as_mut().poll(cx).is_ready();
                untaken.until = streams.untaken_until.take();
                if ended {
                    return Poll::Ready(());
                }
                untaken.poll_over(cx)
            })
            .await;
        });
    }
}

/// How long a piece of a response may wait for its client.
#[derive(Default)]
struct Untaken {
    until: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Untaken {
    /// Armed only when a client leaves a piece, and moved only when it rings: a response that is
    /// taken as it comes costs no timer.
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
