//! Checks the frames of an HTTP/2 connection to an upstream for two faults that hyper and h2
//! ignore: too many interim responses (1xx), and pseudo-fields in trailers, which make a response
//! malformed ([RFC 9113 §8.1]).
//!
//! Interim responses are counted by their frame heads. A HEADERS frame without END_STREAM is an
//! interim response or the head of a response with a body, and a stream has only one of the latter.
//! If a response ends with its head, one more interim response than the limit may pass. A HEADERS
//! frame with END_STREAM after the response's head holds its trailers.
//!
//! [RFC 9113 §8.1]: https://www.rfc-editor.org/rfc/rfc9113#section-8.1

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::trailer_check::TrailerCheck;
use crate::upstream::error::MANY_INTERIM;

/// The head of a frame: length, type, flags, stream ([RFC 9113 §4.1]).
///
/// [RFC 9113 §4.1]: https://www.rfc-editor.org/rfc/rfc9113#section-4.1
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
/// A flag of DATA and HEADERS.
const END_STREAM: u8 = 1;

/// The most streams that are tracked. An upstream does not report the end of streams that were
/// reset here, so the oldest are dropped.
const MOST_STREAMS: u32 = 1024;

/// What is wrong with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameFault {
    ManyInterim,
    PseudoTrailers,
}

impl From<FrameFault> for io::Error {
    fn from(fault: FrameFault) -> Self {
        let text = match fault {
            FrameFault::ManyInterim => MANY_INTERIM,
            FrameFault::PseudoTrailers => "pseudo-fields in the trailers of a response",
        };
        Self::new(io::ErrorKind::InvalidData, text)
    }
}

/// A connection whose reads fail if a response has pseudo-fields in its trailers, or a stream has
/// more than `most` interim responses. Earlier frames are still passed on.
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
    /// The part of a frame's head that has arrived.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// How much of a frame's payload is still to come.
    payload: usize,
    /// The stream of the frame.
    stream: u32,
    /// Streams with HEADERS frames without END_STREAM.
    heads: HashMap<u32, StreamHeads>,
    trailers: TrailerCheck,
    fault: Option<FrameFault>,
}

/// A stream's HEADERS frames without END_STREAM.
#[derive(Debug, Default)]
struct StreamHeads {
    count: usize,
    /// Whether the last one belongs to an interim response.
    is_interim: bool,
}

impl Frames {
    /// Checks the frames in the bytes that were read; returns how many may be passed on. A frame
    /// with a fault is not passed on completely.
    fn check(&mut self, read: &[u8]) -> usize {
        let mut rest = read;
        while let [first, after_first @ ..] = rest
            && self.fault.is_none()
        {
            if self.payload > 0 {
                let (payload, after) = rest.split_at(self.payload.min(rest.len()));
                if self.trailers.read(payload) {
                    self.fault = Some(FrameFault::PseudoTrailers);
                    break;
                }
                self.payload -= payload.len();
                rest = after;
                if self.trailers.ended_interim()
                    && let Some(heads) = self.heads.get_mut(&self.stream)
                {
                    heads.is_interim = true;
                }
                continue;
            }
            if let Some(byte) = self.head.get_mut(self.head_bytes) {
                *byte = *first;
            }
            self.head_bytes += 1;
            rest = after_first;
            if self.head_bytes == HEAD_BYTES {
                self.head_bytes = 0;
                self.begin();
            }
        }
        read.len() - rest.len()
    }

    /// Handles a complete frame head.
    fn begin(&mut self) {
        let [x, y, z, kind, flags, a, b, c, d] = self.head;
        let length = u32::from_be_bytes([0, x, y, z]);
        self.payload = usize::try_from(length).unwrap_or(usize::MAX);
        self.stream = u32::from_be_bytes([a, b, c, d]) & !(1 << 31);
        let stream = self.stream;
        let ends = flags & END_STREAM != 0;
        let mut is_trailers = false;
        match kind {
            HEADERS if !ends => {
                if self.heads.len() >= MOST_STREAMS as usize {
                    let newest = stream.saturating_sub(MOST_STREAMS);
                    self.heads.retain(|known, _| *known > newest);
                }
                let heads = self.heads.entry(stream).or_default();
                heads.count += 1;
                heads.is_interim = false;
                if heads.count > self.most.saturating_add(1) {
                    self.fault = Some(FrameFault::ManyInterim);
                }
            }
            HEADERS => {
                let heads = self.heads.remove(&stream);
                is_trailers = heads.is_some_and(|heads| !heads.is_interim);
            }
            DATA if ends => _ = self.heads.remove(&stream),
            RST_STREAM => _ = self.heads.remove(&stream),
            _ => {}
        }
        self.trailers.of_stream(stream);
        self.trailers.begin(kind, flags, self.payload, is_trailers);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameCheck<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(fault) = this.frames.fault {
            return Poll::Ready(Err(fault.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let passed_on = this.frames.check(read);
        buffer.set_filled(before + passed_on);
        Poll::Ready(match this.frames.fault {
            Some(fault) if passed_on == 0 => Err(fault.into()),
            _ => Ok(()),
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
    use std::task::Waker;

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

    /// Whether all frames are passed on completely.
    fn passes(frames: &mut Frames, sent: &[u8]) -> bool {
        frames.check(sent) == sent.len() && frames.fault.is_none()
    }

    /// HEADERS that end their block.
    fn headers(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
        frame(HEADERS, flags | 4, stream, block)
    }

    /// `:status: 200` and `:status: 103`.
    const OK: &[u8] = b"\x88";
    const HINTS: &[u8] = b"\x08\x03103";

    #[test]
    fn only_pseudo_fields_in_trailers_are_a_fault() {
        let data = |stream| frame(DATA, 0, stream, b":a\x81");
        let trailers = |stream, block: &[u8]| headers(END_STREAM, stream, block);
        for (name, frames, expected) in [
            (
                "after data",
                vec![headers(0, 1, OK), data(1), trailers(1, OK)],
                false,
            ),
            (
                "after the head",
                vec![headers(0, 1, OK), trailers(1, OK)],
                false,
            ),
            (
                "after an interim response and the head",
                vec![headers(0, 1, HINTS), headers(0, 1, OK), trailers(1, OK)],
                false,
            ),
            (
                "of the older of two streams",
                vec![headers(0, 1, OK), headers(0, 3, OK), trailers(1, OK)],
                false,
            ),
            (
                "a request's pseudo-field",
                vec![headers(0, 1, OK), trailers(1, b"\x82")],
                false,
            ),
            (
                "an unknown pseudo-field",
                vec![headers(0, 1, OK), trailers(1, b"\x00\x02:a\x011")],
                false,
            ),
            (
                "the status of an interim response",
                vec![headers(0, 1, OK), trailers(1, HINTS)],
                false,
            ),
            ("a head that ends the response", vec![trailers(1, OK)], true),
            (
                "such a head after interim responses",
                vec![headers(0, 1, HINTS), headers(0, 1, HINTS), trailers(1, OK)],
                true,
            ),
            (
                "other trailers",
                vec![headers(0, 1, OK), data(1), trailers(1, b"\x00\x01x\x02:a")],
                true,
            ),
            (
                "heads of two streams",
                vec![headers(0, 3, OK), headers(0, 1, OK), data(3), data(1)],
                true,
            ),
        ] {
            let whole = frames.concat();
            for piece in 1..=whole.len() {
                let mut check = limited();
                let passed: usize = whole.chunks(piece).map(|read| check.check(read)).sum();
                let fault = (!expected).then_some(FrameFault::PseudoTrailers);
                assert_eq!(check.fault, fault, "{name}");
                let last = frames.last().unwrap().len();
                match expected {
                    true => assert_eq!(passed, whole.len(), "{name}"),
                    false => {
                        let before = whole.len() - last;
                        assert!((before..whole.len()).contains(&passed), "{name}: {passed}");
                    }
                }
            }
        }
    }

    #[test]
    fn frames_before_a_fault_are_still_read() {
        let before = [headers(0, 1, OK), frame(DATA, 0, 1, b"part")].concat();
        let sent = [&before[..], &headers(END_STREAM, 1, OK)].concat();
        let mut stream = FrameCheck::new(&sent[..], 2);
        let mut read = || {
            let mut bytes = [0; 100];
            let mut buffer = ReadBuf::new(&mut bytes);
            let cx = &mut Context::from_waker(Waker::noop());
            let polled = Pin::new(&mut stream).poll_read(cx, &mut buffer);
            polled.map(|read| read.map(|()| buffer.filled().to_vec()))
        };
        let Poll::Ready(Ok(first)) = read() else {
            panic!("nothing was read");
        };
        assert!(first.starts_with(&before) && first.len() < sent.len());
        for _ in 0..2 {
            let Poll::Ready(Err(error)) = read() else {
                panic!("more than that was read");
            };
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
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
            assert!(passes(&mut frames, &sent.concat()));
            assert!(passes(&mut frames, &end(stream)));
        }
        assert!(frames.heads.is_empty());
        let sent = [head(9), head(11), head(9), head(11), head(9)].concat();
        assert!(passes(&mut frames, &sent));
        assert!(!passes(&mut frames, &head(9)));
        assert_eq!(frames.fault, Some(FrameFault::ManyInterim));
    }

    #[test]
    fn the_number_of_tracked_streams_is_bounded() {
        let mut frames = limited();
        for number in 0..10_000 {
            assert!(passes(&mut frames, &frame(HEADERS, 4, 2 * number + 1, b"")));
        }
        assert!(
            frames.heads.len() <= MOST_STREAMS as usize,
            "{}",
            frames.heads.len()
        );
    }

    proptest! {
        #[test]
        fn a_fault_is_found_however_frames_are_split(
            kinds in proptest::collection::vec((0..10_u8, 0..8_u8, 0..3_u32, 0..20_usize), 0..30),
            piece in 1..40_usize,
        ) {
            let sent: Vec<_> = kinds.iter().flat_map(|(kind, flags, stream, length)| {
                frame(*kind, *flags, *stream, &vec![1; *length])
            }).collect();
            let mut pieces = limited();
            let mut whole = limited();
            let passed: usize = sent.chunks(piece).map(|piece| pieces.check(piece)).sum();
            let of_whole = whole.check(&sent);
            prop_assert_eq!(pieces.fault, whole.fault);
            // Smaller pieces let more of the faulty frame through.
            prop_assert!(passed >= of_whole);
            prop_assert!(whole.fault.is_some() || of_whole == sent.len());
        }
    }
}
