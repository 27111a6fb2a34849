//! Combines the writes of a connection's turn into one.
//!
//! The library writes and flushes each DATA frame separately. Over TLS this costs a record and a
//! system call per frame, although on a busy connection several streams send in most turns. So
//! writes are buffered until the turn ends ([`Sender`]), up to the plaintext of one record ([RFC
//! 8446 §5.1]); longer ones are written directly.
//!
//! [RFC 8446 §5.1]: https://www.rfc-editor.org/rfc/rfc8446#section-5.1

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The size of the buffer, in bytes.
const RECORD: usize = 16 * 1024;

/// A worker's write buffer: a connection uses it for one turn only, unless its client does not
/// read.
pub(super) type Spare = Rc<Cell<Vec<u8>>>;

/// A connection that buffers its writes until the end of its turn.
pub(super) struct WriteCoalescing<S>(Rc<RefCell<Kept<S>>>);

struct Kept<S> {
    inner: S,
    written: Vec<u8>,
    /// How much of it has been sent.
    sent: usize,
    spare: Spare,
    /// An earlier write error, for the next write or flush.
    failed: Option<io::Error>,
}

impl<S> WriteCoalescing<S> {
    pub(super) fn new(inner: S, spare: Spare) -> Self {
        Self(Rc::new(RefCell::new(Kept {
            inner,
            written: Vec::new(),
            sent: 0,
            spare,
            failed: None,
        })))
    }

    /// Sends the buffer after each turn of its writer.
    pub(super) fn sender(&self) -> Sender<S> {
        Sender(Rc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> Kept<S> {
    /// Sends the buffer.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.written.get(self.sent..) {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        if self.sent > 0 {
            let mut written = std::mem::take(&mut self.written);
            written.clear();
            self.spare.set(written);
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Buffers `slices` if there is room for all of them.
    fn keep(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if length > RECORD.saturating_sub(self.written.len()) {
            return None;
        }
        if self.written.capacity() == 0 {
            self.written = self.spare.take();
        }
        for slice in slices {
            self.written.extend_from_slice(slice);
        }
        Some(length)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteCoalescing<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteCoalescing<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let kept = &mut *self.0.borrow_mut();
        if let Some(error) = kept.failed.take() {
            return Poll::Ready(Err(error));
        }
        if let Some(length) = kept.keep(slices) {
            return Poll::Ready(Ok(length));
        }
        ready!(kept.poll_send(cx))?;
        match kept.keep(slices) {
            Some(length) => Poll::Ready(Ok(length)),
            None => Pin::new(&mut kept.inner).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The buffer is sent when the turn ends, and counts as sent until then.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let kept = &mut *self.0.borrow_mut();
        if let Some(error) = kept.failed.take() {
            return Poll::Ready(Err(error));
        }
        match kept.written.is_empty() {
            true => Pin::new(&mut kept.inner).poll_flush(cx),
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let kept = &mut *self.0.borrow_mut();
        ready!(kept.poll_send(cx))?;
        Pin::new(&mut kept.inner).poll_shutdown(cx)
    }
}

/// Sends what a connection wrote in its turn.
pub(super) struct Sender<S>(Rc<RefCell<Kept<S>>>);

impl<S: AsyncWrite + Unpin> Sender<S> {
    /// Sends a last frame after everything else, and closes.
    pub(super) async fn end_with(&self, frame: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().written.extend_from_slice(frame);
        poll_fn(|cx| {
            let kept = &mut *self.0.borrow_mut();
            ready!(kept.poll_send(cx))?;
            Pin::new(&mut kept.inner).poll_shutdown(cx)
        })
        .await
    }

    /// Polls `connection` once, and sends what it wrote.
    pub(super) fn poll_turn<C: Future>(
        &self,
        connection: Pin<&mut C>,
        cx: &mut Context<'_>,
    ) -> Poll<C::Output> {
        let ended = connection.poll(cx);
        let kept = &mut *self.0.borrow_mut();
        if ended.is_pending() && !kept.written.is_empty() {
            let sent = match kept.poll_send(cx) {
                Poll::Ready(Ok(())) => Pin::new(&mut kept.inner).poll_flush(cx),
                other => other,
            };
            if let Poll::Ready(Err(error)) = sent {
                kept.failed = Some(error);
                cx.waker().wake_by_ref();
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Records each write; accepts nothing while it is blocked.
    #[derive(Default)]
    struct Wire {
        calls: Rc<RefCell<Vec<Vec<u8>>>>,
        /// How much is accepted before it blocks, in bytes.
        room: Rc<Cell<usize>>,
        is_broken: Rc<Cell<bool>>,
    }

    impl AsyncWrite for Wire {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.is_broken.get() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let taken = bytes.len().min(self.room.get());
            if taken == 0 {
                return Poll::Pending;
            }
            self.room.set(self.room.get() - taken);
            self.calls.borrow_mut().push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.calls.borrow_mut().push(b"(closed)".to_vec());
            Poll::Ready(Ok(()))
        }
    }

    /// Runs a turn in which `pieces` are written and flushed; the connection ends if `ends`.
    /// Returns each write.
    fn turn(wire: &mut Turned, pieces: &[&[u8]], ends: bool) -> Vec<Vec<u8>> {
        let mut cx = Context::from_waker(Waker::noop());
        let gathered = &mut wire.gathered;
        let sender = gathered.sender();
        let connection = std::future::poll_fn(|cx| {
            for piece in pieces {
                let written = Pin::new(&mut *gathered).poll_write(cx, piece);
                assert!(matches!(written, Poll::Ready(Ok(length)) if length == piece.len()));
                assert!(Pin::new(&mut *gathered).poll_flush(cx).is_ready());
            }
            match ends {
                true => Pin::new(&mut *gathered)
                    .poll_shutdown(cx)
                    .map(Result::unwrap),
                false => Poll::Pending,
            }
        });
        let mut connection = std::pin::pin!(connection);
        assert_eq!(
            sender.poll_turn(connection.as_mut(), &mut cx).is_ready(),
            ends
        );
        wire.calls.take()
    }

    struct Turned {
        gathered: WriteCoalescing<Wire>,
        calls: Rc<RefCell<Vec<Vec<u8>>>>,
        room: Rc<Cell<usize>>,
        is_broken: Rc<Cell<bool>>,
        spare: Spare,
    }

    fn wire() -> Turned {
        let (wire, spare) = (Wire::default(), Spare::default());
        wire.room.set(usize::MAX);
        Turned {
            calls: Rc::clone(&wire.calls),
            room: Rc::clone(&wire.room),
            is_broken: Rc::clone(&wire.is_broken),
            gathered: WriteCoalescing::new(wire, Rc::clone(&spare)),
            spare,
        }
    }

    #[test]
    fn the_writes_of_a_turn_become_one_at_its_end() {
        let mut wire = wire();
        assert_eq!(turn(&mut wire, &[b"one", b"two"], false), [b"onetwo"]);
        assert_eq!(turn(&mut wire, &[b"three"], false), [b"three"]);
        assert_eq!(turn(&mut wire, &[], false), [b""; 0]);
        let last = turn(&mut wire, &[b"four"], true);
        assert_eq!(last, [&b"four"[..], b"(closed)"]);
    }

    #[test]
    fn more_than_a_record_is_written_in_order() {
        let long = vec![b'l'; RECORD];
        let mut wire = wire();
        let calls = turn(&mut wire, &[b"short", &long, b"behind"], false);
        assert_eq!(calls, [&b"short"[..], &long, b"behind"]);
        let longer = vec![b'L'; RECORD + 1];
        let calls = turn(&mut wire, &[b"short", &longer, b"behind"], false);
        assert_eq!(calls, [&b"short"[..], &longer, b"behind"]);
    }

    #[test]
    fn a_slow_client_gets_the_rest_later_and_buffers_at_most_a_record() {
        let mut wire = wire();
        wire.room.set(2);
        assert_eq!(turn(&mut wire, &[b"onetwo"], false), [b"on"]);
        wire.room.set(usize::MAX);
        assert_eq!(turn(&mut wire, &[b"three"], false), [b"etwothree"]);

        wire.room.set(0);
        let long = vec![b'l'; RECORD];
        assert_eq!(turn(&mut wire, &[&long], false), [b""; 0]);
        let mut cx = Context::from_waker(Waker::noop());
        let written = Pin::new(&mut wire.gathered).poll_write(&mut cx, b"x");
        assert!(written.is_pending());
    }

    #[test]
    fn the_buffer_is_returned_after_a_turn() {
        let mut wire = wire();
        turn(&mut wire, &[b"one"], false);
        let spare = wire.spare.take();
        assert!(spare.is_empty() && spare.capacity() > 0);
        wire.spare.set(spare);
        assert_eq!(turn(&mut wire, &[b"two"], false), [b"two"]);
    }

    #[test]
    fn a_write_error_is_returned_by_the_next_flush() {
        let mut wire = wire();
        wire.is_broken.set(true);
        turn(&mut wire, &[b"one"], false);
        let mut cx = Context::from_waker(Waker::noop());
        let flushed = Pin::new(&mut wire.gathered).poll_flush(&mut cx);
        assert!(
            matches!(flushed, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe)
        );
    }
}
