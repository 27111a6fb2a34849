//! The body of an HTTP/1.1 response, read from the upstream's connection on demand.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::io::AsyncReadExt;

use crate::http1::body::BodyReader;
use crate::metrics::{RouteCounts, Transfer};
use crate::net::deadline::{Deadline, due};
use crate::proxy::body_error::{BodyError, note_cut};
use crate::proxy::untaken::HeldBytes;
use crate::upstream::balance::InFlight;
use crate::upstream::http1_conn::Http1Conn;

use super::upload::Upload;

/// How much is read at first, in bytes. Doubled after each piece that was ready without waiting.
pub(super) const FIRST_PIECE: usize = 16 * 1024;

/// How much is read at once at most, in bytes.
pub(super) const LARGEST_PIECE: usize = 64 * 1024;

/// The rest of a body whose head was read.
pub(super) struct RemainingBody {
    pub(super) left: BodyReader,
    /// The part that came with the head.
    pub(super) bytes: Bytes,
    /// Whether the upstream's connection closes after it.
    pub(super) closes: bool,
}

/// A body that reads from its connection and returns it to the pool at the end.
pub(crate) struct Http1Body {
    /// `None`: it was returned, or failed.
    conn: Option<Box<Http1Conn>>,
    /// The rest of the body, and the part of it that was read but not yet returned.
    unread: RemainingBody,
    piece: usize,
    pub(crate) in_flight: InFlight,
    /// The unsent rest of the request: the upstream answered before it had everything.
    upload: Option<Box<Upload>>,
    deadline: Deadline,
    /// Whether the deadline belongs to the current wait.
    is_waiting: bool,
    has_given_trailers: bool,
    /// The final error, reported one poll later so that the client first gets all data that
    /// arrived.
    broken: Option<BodyError>,
    counts: RouteCounts,
    /// Counts how much of `unread` waits to be taken.
    held: HeldBytes,
}

impl Http1Body {
    pub(super) fn new(
        unread: RemainingBody,
        conn: Box<Http1Conn>,
        in_flight: InFlight,
        deadline: Deadline,
        upload: Option<Box<Upload>>,
        counts: RouteCounts,
        held: HeldBytes,
    ) -> Self {
        // A final response instead of `100 Continue` means that the body is not wanted.
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
            counts,
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
            Ok(piece) => {
                let bytes = piece.len() as u64;
                self.counts.bytes(Transfer::UpstreamReceived, bytes);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Err(error) => {
                self.conn = None;
                if !matches!(error, BodyError::Request(_)) {
                    // A stream without a length may be silent as long as it likes.
                    let owes = !matches!(error, BodyError::Idle)
                        || matches!(self.unread.left, BodyReader::Length(_));
                    note_cut(&self.in_flight, owes.then_some(&self.counts), &error);
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

    /// The trailers, once.
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

    /// The next piece; empty at the end of the body.
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
        // Allocated before it is known that data is there, and freed at once if not: data read into
        // the worker's own buffer would have to be copied.
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
                // A few bytes should not keep a large buffer alive.
                self.unread.bytes = match bytes.len() < bytes.capacity() / 2 {
                    true => Bytes::copy_from_slice(&bytes),
                    false => bytes.freeze(),
                };
                self.give_back_early();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends more of the request; returns whether any data moved.
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

    /// Returns the connection to the pool once the whole body was read, even if the client does not
    /// have it yet.
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

    /// Reads only a small piece next, because much data already waits for clients.
    pub(crate) fn read_small(&mut self) {
        self.piece = FIRST_PIECE;
    }

    /// How long it may make no progress.
    pub(crate) fn limit(&self) -> Duration {
        self.in_flight.upstream().settings.timeouts.body_idle
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        // Bytes after a response belong to no request: the connection cannot be used again.
        if self.unread.left.is_ended() && self.unread.bytes.is_empty() {
            self.give_back();
        }
    }
}
