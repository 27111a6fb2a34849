//! Lets one request through to hyper, and nothing behind it.
//!
//! The request's head was read already, by one strict meaning; its body is held to the framing that
//! the head says. What the client sends behind it stays here, so that the next request's head is
//! read by the same meaning, and so that the connection can be had back when hyper is done.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::proxy::Single;
use crate::proxy::wire::{Chunked, Framing};

/// As much as is read ahead behind the request, in bytes.
const READ_AHEAD: usize = 16 * 1024;

/// A client's connection while hyper serves one request of it.
pub(super) struct Gate<S> {
    inner: S,
    /// What was read and not passed on.
    ahead: Vec<u8>,
    /// How much of it was passed on.
    passed: usize,
    /// How much of the head is still to be passed on.
    head: usize,
    body: Body,
    shared: Arc<Shared>,
    /// Tells when it is dropped.
    dropped: Option<oneshot::Sender<Infallible>>,
}

/// What is known of a gate while hyper has it.
#[derive(Default)]
struct Shared {
    is_open: AtomicBool,
    is_through: AtomicBool,
    is_blocked: AtomicBool,
    has_taken: AtomicBool,
}

/// Looks after a gate that hyper has.
#[derive(Clone)]
pub(super) struct Keeper(Arc<Shared>);

/// The request's body, as far as it is still to come.
enum Body {
    Length(u64),
    Chunked(Box<Chunked>),
}

impl Body {
    fn is_ended(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_ended(),
        }
    }

    /// How many of `bytes` belong to the body.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Length(left) => {
                let taken = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunked) => {
                let mut rest = bytes;
                while !rest.is_empty() && !chunked.is_ended() {
                    chunked.take(&mut rest).map_err(|_| {
                        io::Error::new(io::ErrorKind::InvalidData, "the body is not chunked")
                    })?;
                }
                Ok(bytes.len() - rest.len())
            }
        }
    }
}

impl Keeper {
    /// Opens the gate for good: both ends have left HTTP.
    pub(super) fn open(&self) {
        self.0.is_open.store(true, Ordering::Relaxed);
    }

    /// Whether hyper got the whole request.
    pub(super) fn is_through(&self) -> bool {
        self.0.is_through.load(Ordering::Relaxed)
    }

    /// Whether the client does not take what hyper writes.
    pub(super) fn is_blocked(&self) -> bool {
        self.0.is_blocked.load(Ordering::Relaxed)
    }

    /// Whether the client took anything since this was asked last.
    pub(super) fn has_taken(&self) -> bool {
        self.0.has_taken.swap(false, Ordering::Relaxed)
    }
}

impl<S> Gate<S> {
    /// A gate for the request that `ahead` begins with.
    pub(super) fn new(inner: S, ahead: Vec<u8>, request: Single) -> Self {
        Self {
            inner,
            ahead,
            passed: 0,
            head: request.head,
            body: match request.framing {
                Framing::Length(length) => Body::Length(length),
                Framing::Chunked => Body::Chunked(Box::default()),
            },
            shared: Arc::default(),
            dropped: None,
        }
    }

    /// Ends when the gate is dropped, whoever has it by then.
    pub(super) fn dropped(&mut self) -> impl Future<Output = ()> + use<S> {
        let (sender, receiver) = oneshot::channel();
        self.dropped = Some(sender);
        async move {
            // Nothing can be sent.
            let _ = receiver.await;
        }
    }

    pub(super) fn keeper(&self) -> Keeper {
        Keeper(Arc::clone(&self.shared))
    }

    /// Whether hyper got the whole request.
    pub(super) fn is_through(&self) -> bool {
        self.head == 0 && self.body.is_ended()
    }

    fn is_open(&self) -> bool {
        self.shared.is_open.load(Ordering::Relaxed)
    }

    fn note_through(&self) {
        let is_through = self.is_through();
        self.shared.is_through.store(is_through, Ordering::Relaxed);
    }

    /// The connection, and what was read behind the request.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        let Self {
            inner,
            mut ahead,
            passed,
            ..
        } = self;
        ahead.drain(..passed.min(ahead.len()));
        (inner, ahead)
    }

    fn note_blocked(&self, is_blocked: bool) {
        self.shared.is_blocked.store(is_blocked, Ordering::Relaxed);
    }

    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        self.note_blocked(written.is_pending());
        if let Poll::Ready(Ok(1..)) = written {
            self.shared.has_taken.store(true, Ordering::Relaxed);
        }
    }

    /// Passes on what was read ahead; false: there is nothing that may be passed on.
    fn pass_ahead(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        let rest = self.ahead.get(self.passed..).unwrap_or_default();
        let rest = rest.get(..buffer.remaining()).unwrap_or(rest);
        let taken = if self.is_open() {
            rest.len()
        } else if self.head > 0 {
            let taken = rest.len().min(self.head);
            self.head -= taken;
            taken
        } else {
            self.body.take(rest)?
        };
        buffer.put_slice(rest.get(..taken).unwrap_or_default());
        self.note_through();
        self.passed += taken;
        if self.passed == self.ahead.len() {
            self.ahead = Vec::new();
            self.passed = 0;
        }
        Ok(taken > 0)
    }
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Reads the body on.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if self.is_open() {
            return Poll::Ready(Ok(()));
        }
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        let taken = match self.body.take(bytes) {
            Ok(taken) => taken,
            Err(error) => {
                buffer.set_filled(before);
                return Poll::Ready(Err(error));
            }
        };
        self.note_through();
        if let Some(behind) = bytes.get(taken..).filter(|behind| !behind.is_empty()) {
            self.ahead = behind.to_vec();
            self.passed = 0;
            buffer.set_filled(before + taken);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads behind the request, up to a bound, so that it is seen when the client leaves. One that
    /// only sends no more is waited on (RFC 9112 §9.6): it may still read.
    fn poll_behind(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.len() < READ_AHEAD {
            let mut bytes = [0; 1024];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Pending;
            }
            self.ahead.extend_from_slice(buffer.filled());
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.pass_ahead(buffer)? {
            return Poll::Ready(Ok(()));
        }
        if this.is_through() && !this.is_open() {
            return this.poll_behind(cx);
        }
        this.poll_body(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.note_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.note_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.note_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// What is passed on until there is nothing more that may be, and what stays.
    fn through(bytes: &[u8], head: usize, framing: Framing) -> (io::Result<Vec<u8>>, Vec<u8>) {
        // Some is ahead, and the rest comes; then the client sends no more.
        let (ahead, rest) = bytes.split_at(head + 2);
        let request = Single {
            head,
            framing,
            has_upgrade: false,
            closes: false,
        };
        let mut gate = Gate::new(rest, ahead.to_vec(), request);
        let mut bytes = [0; 64];
        let mut passed = ReadBuf::new(&mut bytes);
        let mut cx = Context::from_waker(Waker::noop());
        let read = loop {
            match Pin::new(&mut gate).poll_read(&mut cx, &mut passed) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Pending => break Ok(passed.filled().to_vec()),
            }
        };
        (read, gate.into_parts().1)
    }

    #[test]
    fn what_comes_behind_a_request_stays() {
        let (passed, behind) = through(b"HEAD....1234NEXT", 8, Framing::Length(4));
        assert_eq!(
            (&*passed.unwrap(), &*behind),
            (&b"HEAD....1234"[..], &b"NEXT"[..])
        );
        let chunked = b"HEAD....2\r\nab\r\n0\r\n\r\nNEXT";
        let (passed, behind) = through(chunked, 8, Framing::Chunked);
        assert_eq!(passed.unwrap(), chunked[..chunked.len() - 4]);
        assert_eq!(behind, b"NEXT");
        let (passed, _) = through(b"HEAD....2\r\nabc\r\n0\r\n\r\n", 8, Framing::Chunked);
        assert_eq!(passed.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
