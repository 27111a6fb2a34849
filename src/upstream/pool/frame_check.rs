//! Limits the interim responses (1xx) on an HTTP/2 connection to an upstream.
//!
//! hyper skips them and does not report them, so they are counted by the heads of their frames. A
//! HEADERS frame without END_STREAM is an interim response or the head of a response with a body; a
//! stream has one of the latter. Where a response ends with its head, one more interim response than
//! the limit may pass.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::error::MANY_INTERIM;

/// The head of a frame: length, type, flags, stream ([RFC 9113 §4.1]).
///
/// [RFC 9113 §4.1]: https://www.rfc-editor.org/rfc/rfc9113#section-4.1
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
/// On DATA and HEADERS.
const END_STREAM: u8 = 1;

/// The most streams that are counted for. An upstream says nothing more of streams that were reset
/// here, so the oldest are dropped.
const MOST_STREAMS: u32 = 1024;

/// A connection whose reads fail when a stream has more than `most` interim responses.
pub(crate) struct FrameCheck<S> {
    inner: S,
    frames: Frames,
}

impl<S> FrameCheck<S> {
    pub(crate) fn new(inner: S, most: usize) -> Self {
        let frames = Frames {
            most,
            ..Frames::default()
        };
        Self { inner, frames }
    }
}

#[derive(Debug, Default)]
struct Frames {
    most: usize,
    /// What has come of a frame's head.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// How much of a frame's payload is still to come.
    payload: usize,
    /// HEADERS frames without END_STREAM, by stream.
    heads: HashMap<u32, usize>,
}

impl Frames {
    /// Counts the frames in what was read; false: a stream has too many interim responses.
    fn count(&mut self, mut read: &[u8]) -> bool {
        loop {
            let skipped = self.payload.min(read.len());
            self.payload -= skipped;
            read = read.get(skipped..).unwrap_or_default();
            let Some((first, rest)) = read.split_first() else {
                return true;
            };
            if let Some(byte) = self.head.get_mut(self.head_bytes) {
                *byte = *first;
            }
            self.head_bytes += 1;
            read = rest;
            if self.head_bytes == HEAD_BYTES {
                self.head_bytes = 0;
                if !self.begin() {
                    return false;
                }
            }
        }
    }

    /// A frame's head is complete.
    fn begin(&mut self) -> bool {
        let [x, y, z, kind, flags, a, b, c, d] = self.head;
        let length = u32::from_be_bytes([0, x, y, z]);
        self.payload = usize::try_from(length).unwrap_or(usize::MAX);
        let stream = u32::from_be_bytes([a, b, c, d]) & !(1 << 31);
        let ends = flags & END_STREAM != 0;
        match kind {
            HEADERS if !ends => {
                if self.heads.len() >= MOST_STREAMS as usize {
                    let newest = stream.saturating_sub(MOST_STREAMS);
                    self.heads.retain(|known, _| *known > newest);
                }
                let heads = self.heads.entry(stream).or_default();
                *heads += 1;
                *heads <= self.most.saturating_add(1)
            }
            HEADERS | DATA if ends => {
                self.heads.remove(&stream);
                true
            }
            RST_STREAM => {
                self.heads.remove(&stream);
                true
            }
            _ => true,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameCheck<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        Poll::Ready(match this.frames.count(read) {
            true => Ok(()),
            false => Err(io::Error::other(MANY_INTERIM)),
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameCheck<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags][..], &stream.to_be_bytes()];
        [&head.concat(), payload].concat()
    }

    fn limited() -> Frames {
        Frames {
            most: 2,
            ..Frames::default()
        }
    }

    #[test]
    fn a_stream_has_no_more_interim_responses_than_the_limit() {
        let head = |stream| frame(HEADERS, 4, stream, b"abc");
        let end = |stream| frame(DATA, END_STREAM, stream, b"x");
        let mut frames = limited();
        for stream in (1..9).step_by(2) {
            // Two interim responses and a head, and others in between.
            let sent = [
                head(stream),
                head(stream),
                frame(6, 0, 0, &[1; 8]),
                head(stream),
            ];
            assert!(frames.count(&sent.concat()));
            assert!(frames.count(&end(stream)));
        }
        assert!(frames.heads.is_empty());
        let sent = [head(9), head(11), head(9), head(11), head(9)].concat();
        assert!(frames.count(&sent));
        assert!(!frames.count(&head(9)));
    }

    #[test]
    fn streams_that_never_end_are_forgotten() {
        let mut frames = limited();
        for number in 0..10_000 {
            assert!(frames.count(&frame(HEADERS, 4, 2 * number + 1, b"")));
        }
        assert!(
            frames.heads.len() <= MOST_STREAMS as usize,
            "{}",
            frames.heads.len()
        );
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_frames_are_cut(
            kinds in proptest::collection::vec((0..4_u8, 0..2_u8, 0..3_u32, 0..20_usize), 0..30),
            piece in 1..40_usize,
        ) {
            let sent: Vec<_> = kinds.iter().flat_map(|(kind, flags, stream, length)| {
                frame(*kind, *flags, *stream, &vec![1; *length])
            }).collect();
            let mut pieces = limited();
            let cut = sent.chunks(piece).all(|piece| pieces.count(piece));
            prop_assert_eq!(cut, limited().count(&sent));
        }
    }
}
