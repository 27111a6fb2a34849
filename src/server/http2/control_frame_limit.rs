//! Ends HTTP/2 connections whose clients send too many control frames.
//!
//! Some frames carry no part of a request: PING and SETTINGS need an answer, PRIORITY and unknown
//! frames are ignored, and all of them cost time. The library accepts any number of them (it only
//! bounds memory). So they are counted here, by their headers only, and a client that sends more
//! of them than its traffic explains gets GOAWAY with ENHANCE_YOUR_CALM ([RFC 9113 §10.5]), like
//! one that resets too many requests.
//!
//! [RFC 9113 §10.5]: https://www.rfc-editor.org/rfc/rfc9113#section-10.5

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::net::trailer_check::TrailerCheck;
use crate::server::Limits;
use crate::server::head_budget::UnfinishedHead;

use super::streams::Streams;

/// The burst of control frames, in seconds' worth of the rate.
const BURST_SECONDS: u32 = 10;

/// How many control frames a request explains: window updates for its response, priorities, a
/// reset.
const PER_REQUEST: u32 = 10;

/// How many sent bytes explain a control frame: clients send one or two window updates for each
/// of our frames, which has 16 KiB or, with a slow upstream, a few bytes.
const BYTES_PER_FRAME: usize = 128;

/// How many frames a connection may process before it yields. Control frames cost about a
/// microsecond each, but a request may cost fifty; a full burst would cost some milliseconds.
const PER_TURN: u32 = 32;

/// The size of the client's connection preface.
const PREFACE_BYTES: usize = 24;

/// The size of a frame header: length, type, flags, stream ([RFC 9113 §4.1]).
///
/// [RFC 9113 §4.1]: https://www.rfc-editor.org/rfc/rfc9113#section-4.1
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// A flag of HEADERS and CONTINUATION.
const END_HEADERS: u8 = 4;

/// A connection that limits control frames: beyond the limit it reads as if it had ended, and
/// sends GOAWAY when it is closed.
pub(super) struct ControlFrameLimit<S> {
    inner: S,
    streams: Rc<Streams>,
    /// Counts a field block that is not complete yet.
    unfinished: UnfinishedHead,
    client: Option<IpAddr>,
    /// How many requests the client may reset.
    most_abandoned: u32,
    meter: Meter,
    goodbye: Option<Goodbye>,
}

impl<S> ControlFrameLimit<S> {
    pub(super) fn new(
        inner: S,
        streams: Rc<Streams>,
        unfinished: UnfinishedHead,
        client: Option<IpAddr>,
        limits: &Limits,
    ) -> Self {
        Self {
            inner,
            streams,
            unfinished,
            client,
            most_abandoned: limits.http2_resets,
            meter: Meter::new(limits.http2_control_frames),
            goodbye: None,
        }
    }
}

impl<S> ControlFrameLimit<S> {
    /// The error that ends a connection after a malformed request.
    fn malformed(&self) -> io::Error {
        self.streams.set_malformed(self.meter.last_stream);
        io::Error::new(io::ErrorKind::InvalidData, "pseudo-fields in trailers")
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ControlFrameLimit<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.meter.is_malformed {
            return Poll::Ready(Err(this.malformed()));
        }
        if this.streams.abandoned() > this.most_abandoned {
            this.meter.is_over = true;
        }
        if this.meter.has_ended() || this.unfinished.is_refused() {
            if this.goodbye.is_none() {
                tracing::debug!("closing an HTTP/2 connection with ENHANCE_YOUR_CALM");
                this.goodbye = Some(Goodbye::new(this.meter.last_stream));
            }
            return Poll::Ready(Ok(()));
        }
        if this.meter.in_turn >= PER_TURN {
            this.meter.in_turn = 0;
            // Unlike waking itself, this also lets other sockets be polled.
            return pin!(tokio::task::yield_now()).poll(cx).map(Ok);
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let passed_on = this.meter.count(read);
        this.streams
            .count_received(std::mem::take(&mut this.meter.data));
        buffer.set_filled(before + passed_on);
        match this.meter.block {
            0 => this.unfinished.finish(),
            block => this.unfinished.hold(block, this.client, cx),
        }
        if passed_on == 0 && this.meter.is_malformed {
            return Poll::Ready(Err(this.malformed()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ControlFrameLimit<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes))?;
        this.meter.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, slices))?;
        this.meter.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(goodbye) = &mut this.goodbye {
            ready!(goodbye.poll_write(&mut this.inner, cx))?;
        }
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

/// Counts frames by their headers.
#[derive(Debug)]
struct Meter {
    per_second: u32,
    /// How many more control frames are allowed.
    left: u32,
    /// How many frames came since it last yielded.
    in_turn: u32,
    /// When time was last added to the allowance.
    filled: Instant,
    /// Sent bytes that have not been added to the allowance yet.
    written: usize,
    /// The bytes of an incomplete frame header, most significant first.
    head: u128,
    head_bytes: usize,
    /// The payload of DATA frames since it was last queried, in bytes.
    data: usize,
    /// The remaining bytes of the preface or of a frame's payload.
    payload: usize,
    /// The size of an incomplete field block, in bytes.
    block: usize,
    /// Whether the field block ends with the current frame.
    ends_block: bool,
    /// The highest stream with a request.
    last_stream: u32,
    is_over: bool,
    trailers: TrailerCheck,
    /// Whether trailers contained pseudo-fields. The frame with them is not passed on completely.
    is_malformed: bool,
}

impl Meter {
    fn new(per_second: u32) -> Self {
        Self {
            per_second,
            left: per_second.saturating_mul(BURST_SECONDS),
            in_turn: 0,
            filled: Instant::now(),
            written: 0,
            head: 0,
            head_bytes: 0,
            data: 0,
            payload: PREFACE_BYTES,
            block: 0,
            ends_block: false,
            last_stream: 0,
            is_over: false,
            trailers: TrailerCheck::default(),
            is_malformed: false,
        }
    }

    /// Whether to stop reading: the limit is exceeded, and the last frame is complete.
    fn has_ended(&self) -> bool {
        self.is_over && self.head_bytes == 0 && self.payload == 0
    }

    /// Counts the frames in the bytes that were read, and returns how many of them may be passed
    /// on: all, or up to the end of a frame.
    fn count(&mut self, read: &[u8]) -> usize {
        let mut rest = read;
        while let [first, after_first @ ..] = rest
            && !self.has_ended()
        {
            if let Some(after_payload) = rest.get(self.payload.min(rest.len())..)
                && self.payload > 0
            {
                let length = rest.len() - after_payload.len();
                if self.trailers.read(rest.get(..length).unwrap_or_default()) {
                    self.is_malformed = true;
                    break;
                }
                self.payload -= length;
                rest = after_payload;
                self.end_block();
                continue;
            }
            self.head = self.head << 8 | u128::from(*first);
            self.head_bytes += 1;
            rest = after_first;
            if self.head_bytes == HEAD_BYTES {
                self.begin_frame();
            }
        }
        read.len() - rest.len()
    }

    fn begin_frame(&mut self) {
        let [length @ .., kind, flags, a, b, c, d] = self.head.to_be_bytes();
        let [.., x, y, z] = length;
        let length = u32::from_be_bytes([0, x, y, z]);
        let stream = u32::from_be_bytes([a, b, c, d]) & !(1 << 31);
        (self.head, self.head_bytes) = (0, 0);
        self.in_turn = self.in_turn.saturating_add(1);
        self.payload = usize::try_from(length).unwrap_or(usize::MAX);
        let is_trailers = stream <= self.last_stream;
        self.trailers.of_stream(stream);
        self.trailers.begin(kind, flags, self.payload, is_trailers);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.block = self
                .block
                .saturating_add(self.payload)
                .saturating_add(HEAD_BYTES);
            self.ends_block = flags & END_HEADERS != 0;
            self.end_block();
        }
        match kind {
            HEADERS => {
                self.last_stream = self.last_stream.max(stream);
                self.add(PER_REQUEST);
            }
            DATA if length > 0 => self.data += self.payload,
            _ => self.spend(),
        }
    }

    /// A field block is complete with the payload of its last frame.
    fn end_block(&mut self) {
        if self.ends_block && self.payload == 0 {
            self.block = 0;
        }
    }

    /// Counts a control frame.
    fn spend(&mut self) {
        if self.left == 0 {
            // Reads the clock only now, because traffic usually explains all frames.
            let passed = self.filled.elapsed().as_secs_f64() * f64::from(self.per_second);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a cast of a float saturates"
            )]
            self.add(passed as u32);
            self.filled = Instant::now();
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => self.is_over = true,
        }
    }

    /// Records sent bytes, which the client may answer with control frames.
    fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        self.add(u32::try_from(self.written / BYTES_PER_FRAME).unwrap_or(u32::MAX));
        self.written %= BYTES_PER_FRAME;
    }

    fn add(&mut self, frames: u32) {
        let most = self.per_second.saturating_mul(BURST_SECONDS);
        self.left = self.left.saturating_add(frames).min(most);
    }
}

/// Encodes a GOAWAY frame.
pub(super) fn goaway(reason: Reason, last_stream: u32) -> [u8; 17] {
    let [a, b, c, d] = last_stream.to_be_bytes();
    let [w, x, y, z] = u32::from(reason).to_be_bytes();
    [0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, w, x, y, z]
}

/// A GOAWAY with ENHANCE_YOUR_CALM that is being sent.
#[derive(Debug)]
struct Goodbye {
    frame: [u8; 17],
    written: usize,
}

impl Goodbye {
    fn new(last_stream: u32) -> Self {
        Self {
            frame: goaway(Reason::ENHANCE_YOUR_CALM, last_stream),
            written: 0,
        }
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.frame.get(self.written..) {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use crate::metrics::Metrics;

    use super::*;
    use crate::server::head_budget::HeadBudget;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [_, x, y, z] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![x, y, z, kind, 0];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    const PING: u8 = 6;

    /// A meter that has counted a preface and a full burst of control frames.
    fn spent() -> Meter {
        let mut meter = Meter::new(1);
        assert_eq!(meter.count(PREFACE), PREFACE.len());
        for _ in 0..BURST_SECONDS {
            assert_eq!(meter.count(&frame(PING, 0, &[0; 8])), 17);
        }
        meter.filled = Instant::now();
        meter
    }

    #[test]
    fn reading_ends_after_a_whole_frame_in_any_pieces() {
        let ping = frame(PING, 0, &[0; 8]);
        let bytes = [&ping[..], &ping, &ping].concat();
        for piece in 1..=bytes.len() {
            let mut meter = spent();
            let passed: usize = bytes.chunks(piece).map(|read| meter.count(read)).sum();
            assert_eq!(passed, ping.len(), "in pieces of {piece}");
            assert!(meter.has_ended());
        }
    }

    #[test]
    fn traffic_explains_control_frames() {
        let (request, body) = (frame(HEADERS, 7, b"abc"), frame(DATA, 7, b"abc"));
        for (name, explain, explained) in [
            ("nothing", &(|_: &mut Meter| {}) as &dyn Fn(&mut Meter), 0),
            ("a request", &|meter| _ = meter.count(&request), PER_REQUEST),
            ("a body", &|meter| _ = meter.count(&body), 0),
            ("bytes sent", &|meter| meter.wrote(5 * BYTES_PER_FRAME), 5),
            ("few bytes", &|meter| meter.wrote(BYTES_PER_FRAME - 1), 0),
        ] {
            let mut meter = spent();
            explain(&mut meter);
            for _ in 0..explained {
                meter.count(&frame(PING, 0, &[0; 8]));
                assert!(!meter.has_ended(), "{name}");
            }
            meter.count(&frame(PING, 0, &[0; 8]));
            assert!(meter.has_ended(), "{name}");
        }
    }

    #[test]
    fn everything_but_requests_and_their_bodies_is_a_control_frame() {
        for (kind, payload, ends) in [
            (DATA, &b""[..], true),
            (DATA, b"x", false),
            (HEADERS, b"", false),
            (2, b"12345", true),
            (3, b"1234", true),
            (4, b"", true),
            (8, b"1234", true),
            (9, b"x", true),
            (0xff, b"", true),
        ] {
            let mut meter = spent();
            meter.count(&frame(kind, 1, payload));
            assert_eq!(meter.has_ended(), ends, "{kind}");
        }
    }

    #[test]
    fn time_allows_control_frames() {
        let mut meter = spent();
        meter.filled = Instant::now() - std::time::Duration::from_secs(3);
        for _ in 0..3 {
            meter.count(&frame(PING, 0, &[0; 8]));
            assert!(!meter.has_ended());
        }
        meter.count(&frame(PING, 0, &[0; 8]));
        assert!(meter.has_ended());
    }

    #[test]
    fn a_connection_yields_after_a_number_of_frames() {
        let turn = frame(PING, 0, &[0; 8]).repeat(usize::try_from(PER_TURN).unwrap());
        let bytes = [PREFACE, &turn, &turn].concat();
        let streams = Rc::new(Streams::new(Metrics::new(1), &Limits::default()));
        let mut calm = {
            let unfinished = HeadBudget::new(1 << 20, 1 << 20).connection();
            let limits = Limits::default();
            ControlFrameLimit::new(&bytes[..], streams, unfinished, None, &limits)
        };
        let mut read = |length: usize| {
            let mut bytes = vec![0; length];
            let mut buffer = ReadBuf::new(&mut bytes);
            let polled =
                Pin::new(&mut calm).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
            polled.map(|read| read.map(|()| buffer.filled().len()).unwrap())
        };
        assert_eq!(
            read(PREFACE.len() + turn.len() - 17),
            Poll::Ready(PREFACE.len() + turn.len() - 17)
        );
        assert_eq!(read(17), Poll::Ready(17));
        assert_eq!(read(17), Poll::Pending);
        assert_eq!(read(17), Poll::Ready(17));
    }

    #[test]
    fn goaway_names_the_last_stream() {
        let mut meter = spent();
        meter.count(&frame(HEADERS, 5, b""));
        meter.count(&frame(HEADERS, 3, b""));
        let goodbye = Goodbye::new(meter.last_stream).frame;
        assert_eq!(goodbye[..9], frame(7, 0, &[0; 8])[..9]);
        assert_eq!(goodbye[9..], [0, 0, 0, 5, 0, 0, 0, 0xb]);
    }
}
