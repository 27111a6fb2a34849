//! Sends a request to an HTTP/1.1 upstream, with its body as the client sends it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::TRAILER;
use http::request::Parts;
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use crate::http1::body_writer::{BodyFraming, BodyWriter};
use crate::http1::trailers::listed_trailers;
use crate::metrics::Transfer;
use crate::upstream::body_error::RequestBodyError;
use crate::upstream::request_body::RequestBody;

/// A request that is being sent.
pub(super) struct Upload {
    body: RequestBody,
    writer: BodyWriter,
    /// The lines that announce trailers.
    declared: HeaderMap,
    /// Body data that was read while nothing has been written: another try may need it.
    unsent: Vec<Bytes>,
    /// How much data was taken, and how much of it is counted as sent.
    taken: usize,
    counted: usize,
    has_begun: bool,
    has_moved: bool,
    is_done: bool,
    waits_for_client: bool,
    /// Why the upstream accepts no more. It may have answered before it closed, so this alone is
    /// not a failure.
    refused: Option<io::Error>,
}

impl Upload {
    pub(super) fn new(
        request: &Parts,
        head: Vec<u8>,
        body: RequestBody,
        framing: BodyFraming,
    ) -> Self {
        let declared = request.headers.get_all(TRAILER).iter();
        Self {
            body,
            declared: declared.map(|line| (TRAILER, line.clone())).collect(),
            writer: BodyWriter::new(head, framing),
            unsent: Vec::new(),
            taken: 0,
            counted: 0,
            has_begun: false,
            has_moved: false,
            is_done: false,
            waits_for_client: false,
            refused: None,
        }
    }

    /// Whether it waits for the client to send more, not for the upstream to accept more.
    pub(super) fn waits_for_client(&self) -> bool {
        self.waits_for_client
    }

    /// Whether any data moved since the last call.
    pub(super) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// Whether the body still waits for `100 Continue`.
    pub(super) fn is_held(&self) -> bool {
        self.body.is_held()
    }

    /// Releases a held body.
    pub(super) fn release(&mut self) {
        self.body.release();
    }

    /// Why the upstream's connection accepted no more, if it failed.
    pub(super) fn take_refusal(&mut self) -> Option<io::Error> {
        self.refused.take()
    }

    /// The unchanged body, if nothing was written yet.
    pub(super) fn into_body(self) -> Option<RequestBody> {
        (!self.has_begun).then(|| self.body.again(self.unsent.concat().into()))
    }

    /// Sends as much as possible; ready when everything was sent. After a failed write it stays
    /// pending, because then only the upstream's response counts.
    ///
    /// # Errors
    ///
    /// The client's body failed.
    pub(super) fn poll<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut W,
    ) -> Poll<Result<(), RequestBodyError>> {
        loop {
            if self.is_done {
                return Poll::Ready(Ok(()));
            }
            if self.refused.is_some() {
                return Poll::Pending;
            }
            self.gather(cx)?;
            let has_all = self.writer.is_empty();
            let moved = match has_all {
                false => self.writer.poll_write(cx, stream),
                // TLS may hold data back, even while waiting for the client.
                true => Pin::new(&mut *stream).poll_flush(cx),
            };
            match moved {
                Poll::Ready(Ok(())) if !has_all => self.begun(),
                Poll::Ready(Ok(())) if self.writer.is_ended() => self.is_done = true,
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => {
                    self.refused = Some(error);
                    self.waits_for_client = false;
                    // The response may already be there.
                    cx.waker().wake_by_ref();
                }
            }
        }
    }

    /// Notes that something was written.
    fn begun(&mut self) {
        self.has_moved = true;
        self.waits_for_client = false;
        // What still waits may have the head and framing in it.
        let sent = self.taken.saturating_sub(self.writer.waiting());
        let new = sent.saturating_sub(self.counted);
        self.counted += new;
        self.body.count(Transfer::UpstreamSent, new);
        if !std::mem::replace(&mut self.has_begun, true) {
            self.unsent = Vec::new();
        }
    }

    /// Takes data from the body, up to a limit.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), RequestBodyError> {
        // If the body waits for `100 Continue`, the head is sent at once.
        if !self.writer.is_empty() && self.body.is_held() {
            return Ok(());
        }
        while !self.writer.is_ended() && !self.writer.is_full() {
            let ended = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    self.waits_for_client = self.writer.is_empty() && !self.body.is_held();
                    return Ok(());
                }
                Poll::Ready(None) => self.writer.end(None),
                Poll::Ready(Some(frame)) => {
                    self.has_moved = true;
                    match frame?.into_data().map_err(Frame::into_trailers) {
                        Ok(data) => {
                            self.taken += data.len();
                            if !self.has_begun {
                                self.unsent.push(data.clone());
                            }
                            self.writer.data(data)
                        }
                        Err(trailers) => {
                            let listed = |trailers| listed_trailers(&self.declared, trailers);
                            self.writer.end(trailers.ok().map(listed).as_ref())
                        }
                    }
                }
            };
            ended.map_err(|_| RequestBodyError::WrongLength)?;
        }
        Ok(())
    }
}
