//! The body of an HTTP/1.1 response, read from the upstream's connection as it is asked for.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::io::AsyncReadExt;

use crate::http1::body::BodyReader;
use crate::metrics::UpstreamFailures;
use crate::net::deadline::{Deadline, due};
use crate::proxy::body_error::{BodyError, note_cut};
use crate::proxy::untaken::Held;
use crate::upstream::balance::InFlight;
use crate::upstream::http1_conn::Http1Conn;

use super::upload::Upload;

/// As much as is read at first, in bytes; twice as much after each piece that did not have to be
/// waited for.
pub(super) const FIRST_PIECE: usize = 16 * 1024;

/// As much as is read at once, in bytes.
pub(super) const LARGEST_PIECE: usize = 64 * 1024;

/// What is to come of a body whose head was read.
pub(super) struct Unread {
    pub(super) left: BodyReader,
    /// What came of it with the head.
    pub(super) bytes: Bytes,
    /// Whether the upstream's connection ends with it.
    pub(super) closes: bool,
}

/// A body that reads the connection it comes from, and gives it back at the end.
pub(crate) struct Http1Body {
    /// `None`: it was given back, or broke.
    conn: Option<Box<Http1Conn>>,
    /// What is to come, and what of it was read but not given yet.
    unread: Unread,
    piece: usize,
    pub(crate) in_flight: InFlight,
    /// What of the request is still to be sent: the upstream answered before it had all of it.
    upload: Option<Box<Upload>>,
    deadline: Deadline,
    /// Whether the deadline is of a wait that goes on.
    is_waiting: bool,
    has_given_trailers: bool,
    /// The error that it ends with, given one turn later so that the client gets all that came before.
    broken: Option<BodyError>,
    failures: UpstreamFailures,
    /// How much of `unread` waits to be taken.
    held: Held,
}

impl Http1Body {
    pub(super) fn new(
        unread: Unread,
        conn: Box<Http1Conn>,
        in_flight: InFlight,
        deadline: Deadline,
        upload: Option<Box<Upload>>,
        failures: UpstreamFailures,
        held: Held,
    ) -> Self {
        // An answer that came instead of `100 Continue` says that the body is not wanted.
        let is_refused = upload.as_ref().is_some_and(|upload| upload.is_held());
        let mut unread = unread;
        unread.closes |= is_refused;
        let mut body = Self {
            conn: Some(conn),
            unread,
            piece: FIRST_PIECE,
            in_flight,
            upload: upload.filter(|_| !is_refused),
            deadline,
            is_waiting: false,
            has_given_trailers: false,
            broken: None,
            failures,
            held,
        };
        body.give_back_early();
        body
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let piece = ready!(self.poll_piece(cx));
        self.held.set(self.unread.bytes.len());
        match piece {
            Ok(piece) if piece.is_empty() => {
                let trailers = self.take_trailers();
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Ok(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            Err(error) => {
                self.conn = None;
                if !matches!(error, BodyError::Request(_)) {
                    // A stream without a length may be silent for as long as it likes.
                    let owes = !matches!(error, BodyError::Idle)
                        || matches!(self.unread.left, BodyReader::Length(_));
                    note_cut(&self.in_flight, owes.then_some(&self.failures), &error);
                }
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn has_trailers_to_give(&self) -> bool {
        match &self.unread.left {
            BodyReader::Chunked(chunked) => {
                !self.has_given_trailers && !chunked.trailers().is_empty()
            }
            _ => false,
        }
    }

    /// The fields that came after the body, once.
    fn take_trailers(&mut self) -> Option<HeaderMap> {
        if !self.has_trailers_to_give() {
            return None;
        }
        self.has_given_trailers = true;
        match &self.unread.left {
            BodyReader::Chunked(chunked) => Some(chunked.trailer_fields()),
            _ => None,
        }
    }

    /// The next piece; an empty one: the body has ended.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, BodyError>> {
        loop {
            if !self.unread.bytes.is_empty() {
                let broken = |_| BodyError::Upstream(io::ErrorKind::InvalidData.into());
                let piece = self
                    .unread
                    .left
                    .take(&mut self.unread.bytes)
                    .map_err(broken)?;
                if !piece.is_empty() {
                    return Poll::Ready(Ok(piece));
                }
            }
            if self.unread.left.is_ended() {
                return Poll::Ready(Ok(Bytes::new()));
            }
            ready!(self.poll_read(cx))?;
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let ended = || BodyError::Upstream(io::ErrorKind::UnexpectedEof.into());
        let Some(conn) = &mut self.conn else {
            return Poll::Ready(Err(ended()));
        };
        // Taken before anything is known to be there, and given back at once where nothing is: what
        // is read into the worker's own buffer would all have to be copied.
        let mut bytes = BytesMut::with_capacity(self.piece);
        let Poll::Ready(read) = pin!(conn.stream.read_buf(&mut bytes)).poll(cx) else {
            self.piece = FIRST_PIECE;
            let has_moved = self.poll_upload(cx)?;
            let limit = self.limit();
            if !std::mem::replace(&mut self.is_waiting, true) || has_moved {
                self.deadline.set(due(limit));
            }
            return self.deadline.poll(cx).map(|()| Err(BodyError::Idle));
        };
        self.is_waiting = false;
        match read.map_err(BodyError::Upstream)? {
            0 if self.unread.left.close() => {}
            0 => return Poll::Ready(Err(ended())),
            _ => {
                self.piece = LARGEST_PIECE.min(self.piece * 2);
                // A few bytes are not to keep the memory of many.
                self.unread.bytes = match bytes.len() < bytes.capacity() / 2 {
                    true => Bytes::copy_from_slice(&bytes),
                    false => bytes.freeze(),
                };
                self.give_back_early();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends on what is left of the request; whether anything moved.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<bool, BodyError> {
        let (Some(upload), Some(conn)) = (&mut self.upload, &mut self.conn) else {
            return Ok(false);
        };
        match upload.poll(cx, &mut conn.stream) {
            Poll::Pending => Ok(upload.has_moved()),
            Poll::Ready(Ok(())) => {
                self.upload = None;
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(BodyError::Request(error)),
        }
    }

    /// Gives the connection back where all of the body is there, though nobody has it yet.
    fn give_back_early(&mut self) {
        if let BodyReader::Length(left) = self.unread.left
            && left == self.unread.bytes.len() as u64
        {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some(conn) = self.conn.take()
            && !self.unread.closes
            && self.upload.is_none()
        {
            conn.give_back(Instant::now());
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.unread.left.is_ended() && !self.has_trailers_to_give()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.unread.left {
            BodyReader::Length(left) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }

    /// Reads only a small piece next: much waits for its client already.
    pub(crate) fn read_small(&mut self) {
        self.piece = FIRST_PIECE;
    }

    /// How long it may stand still.
    pub(crate) fn limit(&self) -> Duration {
        self.in_flight.upstream().settings.timeouts.body_idle
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        // What comes behind a response is no response to anything: the connection is spent.
        if self.unread.left.is_ended() && self.unread.bytes.is_empty() {
            self.give_back();
        }
    }
}
