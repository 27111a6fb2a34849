//! The body of an HTTP/2 client's request; complete only when its stream ends with END_STREAM.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body_error::RequestBodyError;
use super::request_stream::RequestStream;
use super::unread_bodies::{LingeringBody, UnreadBodies};

/// Reads a client's stream.
pub(crate) struct Http2Body {
    stream: LingeringBody,
    /// The last piece of a body with a declared length, held back until the stream ends: only then
    /// is it certain that the client sends no more than it declared. With the whole body, an
    /// HTTP/1.1 upstream would already have a complete request.
    withheld: Option<Bytes>,
    /// The trailers that followed the body.
    trailers: Option<Frame<Bytes>>,
}

impl Http2Body {
    pub(crate) fn new(stream: RequestStream, unread: Rc<UnreadBodies>) -> Self {
        Self {
            stream: LingeringBody::new(stream, unread),
            withheld: None,
            trailers: None,
        }
    }

    /// Puts trailers back that were read too early.
    pub(crate) fn put_back(&mut self, trailers: Frame<Bytes>) {
        self.trailers = Some(trailers);
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(trailers)));
        }
        loop {
            let frame = ready!(Pin::new(&mut self.stream).poll_frame(cx));
            let frame = frame.transpose().map_err(RequestBodyError::Http2)?;
            let has_ended = self.stream.is_end_stream();
            match frame.map(Frame::into_data) {
                None => return Poll::Ready(self.withheld.take().map(|data| Ok(Frame::data(data)))),
                Some(Ok(data)) => {
                    let data = match self.withheld.take() {
                        // h2 lets nothing but empty frames through beyond the declared length.
                        Some(withheld) => withheld,
                        None => data,
                    };
                    if has_ended || self.stream.size_hint().exact() != Some(0) {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    self.withheld = Some(data);
                }
                Some(Err(trailers)) => {
                    let Some(data) = self.withheld.take() else {
                        return Poll::Ready(Some(Ok(trailers)));
                    };
                    self.trailers = Some(trailers);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.withheld.is_none() && self.trailers.is_none() && self.stream.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let left = self.stream.size_hint();
        let withheld = self.withheld.as_ref().map_or(0, Bytes::len) as u64;
        match left.exact() {
            Some(left) => SizeHint::with_exact(left + withheld),
            None => left,
        }
    }
}
