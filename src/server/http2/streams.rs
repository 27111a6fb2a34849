//! The streams of one connection: how many there are, whether their clients still want them, and
//! an end for those whose clients take nothing of what they asked for.
//!
//! hyper spawns a task for each stream, and says nothing of it afterwards. So the task is wrapped
//! ([`Tasks`]), and so is the response's body ([`Answer`]): a body that has given a piece and is
//! not asked for the next one waits for its client, who has no room for it (flow control, [RFC
//! 9113 §5.2]).
//!
//! [RFC 9113 §5.2]: https://www.rfc-editor.org/rfc/rfc9113#section-5.2

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

use crate::metrics::Metrics;
use crate::proxy::body;

/// What is known of a connection's streams.
pub(super) struct Streams {
    metrics: Arc<Metrics>,
    /// How many requests are under way.
    open: Cell<usize>,
    /// When the last one ended, or the connection began.
    quiet_since: Cell<Instant>,
    /// Whether there was a request at all.
    has_begun: Cell<bool>,
    /// How many more requests were taken back than answered.
    abandoned: Cell<u32>,
    /// Of the stream that is being polled: until when its client may leave what it was given.
    untaken_until: Cell<Option<Instant>>,
}

impl Streams {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            open: Cell::new(0),
            quiet_since: Cell::new(Instant::now()),
            has_begun: Cell::new(false),
            abandoned: Cell::new(0),
            untaken_until: Cell::new(None),
        }
    }

    /// A request has come.
    pub(super) fn begin(self: &Rc<Self>) -> Exchange {
        self.has_begun.set(true);
        self.open.set(self.open.get() + 1);
        Exchange {
            streams: Rc::clone(self),
            is_whole: false,
        }
    }

    /// How many more requests were taken back than answered.
    pub(super) fn abandoned(&self) -> u32 {
        self.abandoned.get()
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
            let until = since + limit(self.has_begun.get());
            if until <= now {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// One request, from its head to the end of its response.
pub(super) struct Exchange {
    streams: Rc<Streams>,
    /// Whether the response was given to its end, or broke off on our side.
    is_whole: bool,
}

impl Exchange {
    pub(super) fn answer_with(mut self, body: body::Body) -> Answer {
        self.is_whole = body.is_end_stream();
        Answer {
            body,
            exchange: self,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
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
pub(super) struct Answer {
    body: body::Body,
    exchange: Exchange,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = body::BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, body::BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let untaken_until = match &frame {
            Poll::Ready(Some(Ok(_))) => {
                self.exchange.is_whole = self.body.is_end_stream();
                Some(Instant::now() + self.body.patience())
            }
            Poll::Ready(Some(Err(_)) | None) => {
                self.exchange.is_whole = true;
                None
            }
            Poll::Pending => None,
        };
        self.exchange.streams.untaken_until.set(untaken_until);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
