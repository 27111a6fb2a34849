//! The body of a client's HTTP/2 stream: DATA, then trailers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};

use crate::http1::request_head::parse_length;

/// The receiving half of a client's stream.
pub struct RequestStream {
    stream: RecvStream,
    /// How many bytes of the declared length are left; `None`: no length was declared.
    left: Option<u64>,
    has_data_ended: bool,
}

impl RequestStream {
    /// The stream of a request with these fields.
    #[must_use]
    pub fn new(stream: RecvStream, fields: &HeaderMap) -> Self {
        let length = fields.get(CONTENT_LENGTH);
        Self {
            stream,
            left: length.and_then(|length| parse_length(length.as_bytes())),
            has_data_ended: false,
        }
    }
}

impl Body for RequestStream {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if !this.has_data_ended {
            if let Some(data) = ready!(this.stream.poll_data(cx)) {
                let data = data?;
                // Fails only for a stream that is gone, whose end comes next.
                let _ = this.stream.flow_control().release_capacity(data.len());
                if let Some(left) = &mut this.left {
                    *left = left.saturating_sub(data.len() as u64);
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            this.has_data_ended = true;
        }
        let trailers = ready!(this.stream.poll_trailers(cx));
        Poll::Ready(
            trailers
                .map(|trailers| trailers.map(Frame::trailers))
                .transpose(),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
