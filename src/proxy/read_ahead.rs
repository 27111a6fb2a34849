//! Reads part of an early response before its head is sent to an HTTP/2 client.
//!
//! A client that sees the head of a response may end its upload at once, short of the declared
//! length, as curl 7.88 does. That makes its request malformed, and h2 answers with RST_STREAM
//! (PROTOCOL_ERROR), which discards unsent data. If the whole response is sent with its head, the
//! client already has it. So the head of an early response waits briefly for a short body.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};

use super::body_error::BodyError;

/// How long a head waits for its body.
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The largest body that is waited for, in bytes.
const LARGEST_BODY: usize = 16 * 1024;

/// The part of an early response's body that was read ahead.
#[derive(Default)]
pub(super) struct ReadAhead {
    frames: VecDeque<Frame<Bytes>>,
    /// How many bytes of data `frames` hold.
    bytes: usize,
    /// The error that follows `frames`.
    error: Option<BodyError>,
    /// Whether the error is returned next. It comes one poll after the last frame, because h2
    /// discards unwritten data when a body fails.
    is_error_due: bool,
}

impl ReadAhead {
    /// Whether to wait for a body: a short one, or one without a length on an error or a redirect.
    /// A stream of messages may send its head long before the first message.
    pub(super) fn is_worth_waiting(status: StatusCode, size: &SizeHint) -> bool {
        match size.exact() {
            Some(length) => length <= LARGEST_BODY as u64,
            None => status.as_u16() >= StatusCode::MULTIPLE_CHOICES.as_u16(),
        }
    }

    /// Adds what was read; ready when no more should be read.
    pub(super) fn add(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> Poll<()> {
        match frame {
            None => return Poll::Ready(()),
            Some(Err(error)) => {
                self.error = Some(error);
                return Poll::Ready(());
            }
            Some(Ok(frame)) => {
                self.bytes += frame.data_ref().map_or(0, Bytes::len);
                self.frames.push_back(frame);
            }
        }
        match self.bytes < LARGEST_BODY {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    /// The next frame, or the error at the end; `None`: everything read ahead was taken.
    pub(super) fn poll_take(
        &mut self,
        cx: &Context<'_>,
    ) -> Option<Poll<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.data_ref().map_or(0, Bytes::len);
            return Some(Poll::Ready(Ok(frame)));
        }
        let error = self.error.take()?;
        if self.is_error_due {
            return Some(Poll::Ready(Err(error)));
        }
        self.is_error_due = true;
        self.error = Some(error);
        cx.waker().wake_by_ref();
        Some(Poll::Pending)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.error.is_none()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::task::Waker;

    use super::*;

    fn data(length: usize) -> Option<Result<Frame<Bytes>, BodyError>> {
        Some(Ok(Frame::data(vec![b'x'; length].into())))
    }

    #[test]
    fn short_bodies_and_errors_without_a_length_are_waited_for() {
        let exact = SizeHint::with_exact;
        for (status, size, expected) in [
            (200, exact(0), true),
            (200, exact(16 * 1024), true),
            (403, exact(16 * 1024 + 1), false),
            (403, SizeHint::default(), true),
            (307, SizeHint::default(), true),
            (200, SizeHint::default(), false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let is_worth = ReadAhead::is_worth_waiting(status, &size);
            assert_eq!(is_worth, expected, "{status} {size:?}");
        }
    }

    #[test]
    fn reading_ends_with_the_body_or_at_a_limit() {
        let mut ahead = ReadAhead::default();
        assert!(ahead.add(data(10)).is_pending());
        assert!(ahead.add(None).is_ready());
        let mut ahead = ReadAhead::default();
        assert!(ahead.add(data(LARGEST_BODY - 1)).is_pending());
        assert!(ahead.add(data(1)).is_ready());
    }

    #[test]
    fn an_error_comes_one_poll_after_the_last_frame() {
        let mut ahead = ReadAhead::default();
        let _ = ahead.add(data(10));
        let broken = BodyError::Upstream(io::ErrorKind::UnexpectedEof.into());
        assert!(ahead.add(Some(Err(broken))).is_ready());
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(ahead.bytes(), 10);
        assert!(matches!(ahead.poll_take(&cx), Some(Poll::Ready(Ok(_)))));
        assert!(!ahead.is_empty() && ahead.bytes() == 0);
        assert!(matches!(ahead.poll_take(&cx), Some(Poll::Pending)));
        assert!(matches!(ahead.poll_take(&cx), Some(Poll::Ready(Err(_)))));
        assert!(ahead.poll_take(&cx).is_none() && ahead.is_empty());
    }
}
