//! Request bodies that are no longer needed, because the response came before their end.
//!
//! Once a request and its response are dropped, h2 resets a stream whose client is still sending.
//! Some clients then report the reset and never show the response that arrived just before it. So
//! the rest of such a body is read and discarded for a limited time: most clients stop sending, or
//! have sent everything, soon after they see the response.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::net::deadline::Deadline;

use super::request_stream::RequestStream;

/// How much of the rest of a request is read after its response, so that the client sees the response
/// before the reset.
#[derive(Clone, Copy, Debug)]
pub struct Linger {
    /// The total time.
    pub total: Duration,
    /// How long the client may pause.
    pub idle: Duration,
    /// The maximum number of bytes.
    pub bytes: usize,
}

impl Default for Linger {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(10),
            idle: Duration::from_secs(2),
            bytes: 64 * 1024 * 1024,
        }
    }
}

/// The unread bodies of one HTTP/2 connection.
pub struct UnreadBodies<B = RequestStream> {
    limits: Linger,
    list: RefCell<UnreadList<B>>,
}

struct UnreadList<B> {
    bodies: Vec<UnreadBody<B>>,
    /// Wakes the connection's task.
    waker: Option<Waker>,
}

struct UnreadBody<B> {
    body: B,
    /// How many more bytes may be read.
    left: usize,
    /// Set by the first read.
    wait: Option<Wait>,
}

struct Wait {
    end: Instant,
    /// Moves with each read, up to `end`.
    next: Deadline,
}

impl<B> Default for UnreadBodies<B> {
    fn default() -> Self {
        Self::new(Linger::default())
    }
}

impl<B> UnreadBodies<B> {
    fn new(limits: Linger) -> Self {
        let list = UnreadList {
            bodies: Vec::new(),
            waker: None,
        };
        Self {
            limits,
            list: RefCell::new(list),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> UnreadBodies<B> {
    /// Adds the body of an answered request.
    pub(super) fn add(&self, body: B) {
        let mut list = self.list.borrow_mut();
        list.bodies.push(UnreadBody {
            body,
            left: self.limits.bytes,
            wait: None,
        });
        if let Some(waker) = list.waker.take() {
            waker.wake();
        }
    }

    /// Reads and discards what has arrived. Bodies that have ended or reached a limit are dropped.
    /// Call it in each poll of the connection.
    pub fn poll_discard(&self, cx: &mut Context<'_>) {
        let list = &mut *self.list.borrow_mut();
        if list
            .waker
            .as_ref()
            .is_none_or(|waker| !waker.will_wake(cx.waker()))
        {
            list.waker = Some(cx.waker().clone());
        }
        list.bodies
            .retain_mut(|unread| unread.poll(cx, self.limits).is_pending());
    }
}

impl<B: Body<Data = Bytes> + Unpin> UnreadBody<B> {
    /// Ready when nothing more is to be read.
    fn poll(&mut self, cx: &mut Context<'_>, limits: Linger) -> Poll<()> {
        let wait = self.wait.get_or_insert_with(|| Wait {
            end: Instant::now() + limits.total,
            next: Deadline::after(limits.idle),
        });
        let mut has_read = false;
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    has_read = true;
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    self.left = self.left.saturating_sub(length);
                    if self.left == 0 {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending if has_read => {
                    let due = Instant::now() + limits.idle;
                    wait.next.set(due.min(wait.end));
                    return wait.next.poll(cx);
                }
                Poll::Pending => return wait.next.poll(cx),
            }
        }
    }
}

/// A stream's body, which is handed to [`UnreadBodies`] if it is dropped before its end.
pub(super) struct LingeringBody {
    /// `None` only while it is dropped.
    stream: Option<RequestStream>,
    unread: Rc<UnreadBodies>,
}

impl LingeringBody {
    pub(super) fn new(stream: RequestStream, unread: Rc<UnreadBodies>) -> Self {
        Self {
            stream: Some(stream),
            unread,
        }
    }
}

impl Body for LingeringBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let stream = self.stream.as_mut();
        stream.map_or(Poll::Ready(None), |stream| Pin::new(stream).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let stream = self.stream.as_ref();
        stream.map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for LingeringBody {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take().filter(|stream| !stream.is_end_stream()) {
            self.unread.add(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::future::poll_fn;

    use tokio::time::Sleep;

    use super::*;

    /// A body of this many pieces of 1 MiB, each after `pause`, that never ends; counts what was
    /// read.
    struct Endless {
        pieces: usize,
        pause: Duration,
        next: Pin<Box<Sleep>>,
        read: Rc<Cell<usize>>,
    }

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.pieces == 0 || self.next.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pieces -= 1;
            let next = Instant::now() + self.pause;
            self.next.as_mut().reset(next);
            self.read.set(self.read.get() + PIECE);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; PIECE])))))
        }
    }

    const PIECE: usize = 1024 * 1024;

    const LIMITS: Linger = Linger {
        total: Duration::from_secs(2),
        idle: Duration::from_millis(400),
        bytes: 64 * PIECE,
    };

    /// How much of a body is read, and for how long it is kept.
    fn discard(pieces: usize, pause: Duration) -> (usize, Duration) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        runtime.block_on(async {
            let (read, start) = (Rc::new(Cell::new(0)), Instant::now());
            let unread = UnreadBodies::new(LIMITS);
            unread.add(Endless {
                pieces,
                pause,
                next: Box::pin(tokio::time::sleep(pause)),
                read: Rc::clone(&read),
            });
            poll_fn(|cx| {
                unread.poll_discard(cx);
                match unread.list.borrow().bodies.is_empty() {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
            (read.get(), start.elapsed())
        })
    }

    #[test]
    fn a_body_that_pauses_is_kept_for_a_limited_time() {
        for pieces in [0, 1, LIMITS.bytes / PIECE - 1] {
            let (read, kept) = discard(pieces, Duration::ZERO);
            assert_eq!(read, pieces * PIECE);
            assert!(kept >= LIMITS.idle, "{kept:?}");
        }
    }

    #[test]
    fn a_slow_body_is_kept_for_a_limited_time() {
        let (read, kept) = discard(usize::MAX, LIMITS.idle / 4);
        assert!(read > 0 && read < LIMITS.bytes, "{read}");
        assert!(kept >= LIMITS.idle, "{kept:?}");
    }

    #[test]
    fn an_endless_body_is_read_to_a_limited_length() {
        let (read, _) = discard(usize::MAX, Duration::ZERO);
        assert_eq!(read, LIMITS.bytes);
    }
}
