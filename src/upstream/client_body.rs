//! The body of an HTTP/1.1 client's request, between the connection it is read from and the
//! exchange that forwards it.
//!
//! The server reads from the connection only when the exchange asks for the body: a client that
//! waits for `100 Continue` gets it then. `BodyFeed` is the server's end, `ClientBody` the
//! exchange's. Both live on one thread, often in one task.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::http1::body::BodyReader;
use crate::http1::chunked::Chunked;
use crate::http1::request_head::Framing;

/// The most pieces that are queued.
const PIECES: usize = 64;

/// The end that supplies the body's bytes.
pub struct BodyFeed {
    /// The framing of the unread rest.
    unread: BodyReader,
    slot: Rc<RefCell<BodyQueue>>,
}

/// The end that receives the body's pieces.
pub(crate) struct ClientBody(Rc<RefCell<BodyQueue>>);

#[derive(Default)]
struct BodyQueue {
    pieces: VecDeque<io::Result<Frame<Bytes>>>,
    /// How many bytes are still to come, if known.
    left: Option<u64>,
    /// Whether the body ends after `pieces`.
    is_ended: bool,
    /// Whether the receiver waits for a piece.
    is_wanted: bool,
    /// Whether the receiver is gone.
    is_abandoned: bool,
    /// Wakes the task that waits for a piece.
    taker: Option<Waker>,
    /// Wakes the task that waits for the receiver to want a piece.
    feeder: Option<Waker>,
}

/// Wakes another task. If the waker is the caller's own, it does nothing, because the caller polls
/// again anyway.
fn wake(waker: &mut Option<Waker>, cx: &Context<'_>) {
    if let Some(waker) = waker.take().filter(|waker| !waker.will_wake(cx.waker())) {
        waker.wake();
    }
}

impl BodyFeed {
    /// A body with this framing, and its other end; `None`: there is no body.
    pub(crate) fn new(framing: Framing) -> (Self, Option<ClientBody>) {
        let (unread, left) = match framing {
            Framing::Length(length) => (BodyReader::Length(length), Some(length)),
            Framing::Chunked => (BodyReader::Chunked(Chunked::default()), None),
        };
        let slot = Rc::new(RefCell::new(BodyQueue {
            left,
            is_ended: framing == Framing::Length(0),
            ..BodyQueue::default()
        }));
        let body = ClientBody(Rc::clone(&slot));
        let body = (framing != Framing::Length(0)).then_some(body);
        (Self { unread, slot }, body)
    }

    /// Whether the whole body was read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.unread.is_ended()
    }

    /// Ready when a piece is wanted.
    pub fn poll_wanted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut slot = self.slot.borrow_mut();
        if slot.is_wanted && slot.pieces.is_empty() && !slot.is_ended {
            return Poll::Ready(());
        }
        if !slot.is_abandoned {
            slot.feeder = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes pieces from the front of `bytes`, up to a limit; bytes after the body stay.
    pub fn push(&mut self, bytes: &mut Bytes, cx: &Context<'_>) {
        self.push_first(bytes);
        let mut slot = self.slot.borrow_mut();
        if !slot.pieces.is_empty() || slot.is_ended {
            slot.is_wanted = false;
            wake(&mut slot.taker, cx);
        }
    }

    /// Like [`push`](Self::push), before the receiver waits for a piece.
    pub fn push_first(&mut self, bytes: &mut Bytes) {
        let mut slot = self.slot.borrow_mut();
        while slot.pieces.len() < PIECES && !slot.is_ended {
            match self.unread.take(bytes) {
                Ok(piece) if piece.is_empty() && !self.unread.is_ended() => break,
                Ok(piece) => {
                    slot.left = slot.left.map(|left| left - piece.len() as u64);
                    if !piece.is_empty() {
                        slot.pieces.push_back(Ok(Frame::data(piece)));
                    }
                }
                Err(_) => {
                    let cause = "the body is not validly chunked";
                    let error = io::Error::new(io::ErrorKind::InvalidData, cause);
                    slot.pieces.push_back(Err(error));
                    break;
                }
            }
            slot.is_ended = self.unread.is_ended();
        }
        if let BodyReader::Chunked(chunked) = &self.unread
            && !chunked.trailers().is_empty()
        {
            slot.pieces
                .push_back(Ok(Frame::trailers(chunked.trailer_fields())));
        }
    }

    /// Reports that the connection failed, or ended within the body.
    pub fn fail(&mut self, error: io::Error, cx: &Context<'_>) {
        let mut slot = self.slot.borrow_mut();
        slot.pieces.push_back(Err(error));
        slot.is_wanted = false;
        wake(&mut slot.taker, cx);
    }
}

impl ClientBody {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut slot = self.0.borrow_mut();
        if let Some(piece) = slot.pieces.pop_front() {
            return Poll::Ready(Some(piece));
        }
        if slot.is_ended {
            return Poll::Ready(None);
        }
        slot.is_wanted = true;
        slot.taker = Some(cx.waker().clone());
        wake(&mut slot.feeder, cx);
        Poll::Pending
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let slot = self.0.borrow();
        slot.is_ended && slot.pieces.is_empty()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let slot = self.0.borrow();
        let pieces = slot.pieces.iter().flatten();
        let waiting = pieces.map(|frame| frame.data_ref().map_or(0, Bytes::len) as u64);
        let left = slot.left.map(|left| left + waiting.sum::<u64>());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let mut slot = self.0.borrow_mut();
        slot.is_abandoned = true;
        slot.is_wanted = false;
    }
}
