//! A request's body that can be taken back from an HTTP/2 connection: if the upstream refuses the
//! request without processing it, the request may be repeated, provided that its body can.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::metrics::Transfer;

use super::body_error::RequestBodyError;
use super::request_body::RequestBody;

/// How much of a body is kept for a repetition, in bytes: the library reads the body before it
/// knows whether the upstream accepts it.
const KEPT: usize = 16 * 1024;

/// A body that can be taken back; its borrower then sees it end.
pub(crate) struct ReplayBody(Rc<RefCell<Option<Lent>>>);

/// The handle that takes a body back.
pub(crate) struct Loan(Rc<RefCell<Option<Lent>>>);

struct Lent {
    body: RequestBody,
    /// Everything read so far; `None`: more than the limit. A copy, because even tiny pieces would
    /// keep the whole buffer that they were read into.
    taken: Option<BytesMut>,
}

impl ReplayBody {
    pub(crate) fn lend(body: RequestBody) -> (Self, Loan) {
        let taken = Some(BytesMut::new());
        let lent = Rc::new(RefCell::new(Some(Lent { body, taken })));
        (Self(Rc::clone(&lent)), Loan(lent))
    }
}

impl Loan {
    /// The body from the beginning; `None`: part of it is gone.
    pub(crate) fn take_back(self) -> Option<RequestBody> {
        let Lent { body, taken } = self.0.take()?;
        Some(body.again(taken?.freeze()))
    }
}

impl Lent {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let (Some(taken), Some(piece)) = (&mut self.taken, frame.data_ref()) else {
            return;
        };
        if taken.len() + piece.len() <= KEPT {
            taken.extend_from_slice(piece);
        } else {
            self.taken = None;
        }
    }
}

impl Body for ReplayBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let mut lent = self.0.borrow_mut();
        let Some(lent) = &mut *lent else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(&mut lent.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            lent.body.count(Transfer::UpstreamSent, bytes);
            lent.keep(frame);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let lent = self.0.borrow();
        lent.as_ref().is_none_or(|lent| lent.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let lent = self.0.borrow();
        lent.as_ref()
            .map_or(SizeHint::with_exact(0), |lent| lent.body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_do_not_keep_large_buffers() {
        let mut lent = Lent {
            body: RequestBody::EMPTY,
            taken: Some(BytesMut::new()),
        };
        for _ in 0..KEPT {
            lent.keep(&Frame::data(Bytes::from_static(b"x")));
        }
        let taken = lent.taken.as_ref().unwrap();
        assert_eq!(taken[..], [b'x'; KEPT]);
        assert!(taken.capacity() <= 2 * KEPT, "{}", taken.capacity());
        lent.keep(&Frame::data(Bytes::new()));
        assert!(lent.taken.is_some());
        lent.keep(&Frame::data(Bytes::from_static(b"x")));
        // Nothing after it is kept either: the body would have a gap.
        lent.keep(&Frame::data(Bytes::from_static(b"x")));
        assert!(lent.taken.is_none());
    }
}
