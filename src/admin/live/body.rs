//! The body of a viewer's response.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

/// Sends frames as they come, until the collector disconnects the viewer. Empty by default.
#[derive(Debug, Default)]
pub(crate) struct LiveBody(Option<(mpsc::Receiver<Bytes>, Place)>);

impl LiveBody {
    pub(super) fn new(frames: mpsc::Receiver<Bytes>, place: Place) -> Self {
        Self(Some((frames, place)))
    }
}

impl Body for LiveBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((frames, _)) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = ready!(frames.poll_recv(cx));
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// One of the viewers' places; released when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    pub(super) fn take(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let place = Self(Arc::clone(count));
        // Dropping it releases the place.
        let before = count.fetch_add(1, Ordering::Relaxed);
        (before < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
