//! Writes an HTTP/1.1 message: its head, and its body by length, in chunks, or until the connection
//! closes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::AsyncWrite;

/// How much is buffered before it is written, in bytes, so that small pieces are written together.
const GATHERED: usize = 64 * 1024;

/// How many pieces one write takes.
const SLICES: usize = 32;

/// How a body is framed ([RFC 9112 §6]).
///
/// [RFC 9112 §6]: https://www.rfc-editor.org/rfc/rfc9112#section-6
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// This many bytes are still to come.
    Length(u64),
    /// Each piece in a chunk.
    Chunked,
    /// Everything until the connection closes.
    UntilClose,
    /// No body; all data is ignored.
    Absent,
}

/// A body is longer or shorter than its head announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLength;

/// Buffers a message and writes it.
pub struct BodyWriter {
    framing: BodyFraming,
    /// Pieces waiting to be written, in order, and their total length.
    queue: VecDeque<Bytes>,
    length: usize,
    is_ended: bool,
}

impl BodyWriter {
    /// A message that begins with `head`.
    #[must_use]
    pub fn new(head: Vec<u8>, framing: BodyFraming) -> Self {
        Self {
            framing,
            length: head.len(),
            queue: VecDeque::from([Bytes::from(head)]),
            is_ended: framing == BodyFraming::Absent,
        }
    }

    /// Whether nothing waits to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many bytes wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.length
    }

    /// Whether enough waits to be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.length >= GATHERED
    }

    /// Whether the message's end was added.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Adds a piece of the body.
    ///
    /// # Errors
    /// [`WrongLength`]: the body is longer than the head announced.
    pub fn data(&mut self, data: Bytes) -> Result<(), WrongLength> {
        // An empty chunk would end the body.
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            BodyFraming::UntilClose => {}
            BodyFraming::Absent => return Ok(()),
            BodyFraming::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
            }
            BodyFraming::Chunked => {
                self.push(format!("{:x}\r\n", data.len()).into());
                self.push(data);
                self.push(Bytes::from_static(b"\r\n"));
                return Ok(());
            }
        }
        self.push(data);
        Ok(())
    }

    /// Adds the body's end, with trailers if the body is chunked.
    ///
    /// # Errors
    /// [`WrongLength`]: the body is shorter than the head announced.
    pub fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), WrongLength> {
        self.is_ended = true;
        match self.framing {
            BodyFraming::Absent | BodyFraming::UntilClose | BodyFraming::Length(0) => Ok(()),
            BodyFraming::Length(_) => Err(WrongLength),
            BodyFraming::Chunked => {
                let mut end = BytesMut::from(&b"0\r\n"[..]);
                for (name, value) in trailers.into_iter().flatten() {
                    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                        end.extend_from_slice(part);
                    }
                }
                end.extend_from_slice(b"\r\n");
                self.push(end.freeze());
                Ok(())
            }
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        self.queue.push_back(bytes);
    }

    /// Writes some of the waiting pieces; ready after one write.
    ///
    /// # Errors
    ///
    /// The connection's error.
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut W,
    ) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        for (slice, piece) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(piece);
        }
        let filled = self.queue.len().min(SLICES);
        let slices = slices.get(..filled).unwrap_or_default();
        let mut written = match ready!(Pin::new(stream).poll_write_vectored(cx, slices))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => written,
        };
        self.length -= written;
        while let Some(first) = self.queue.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            self.queue.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::HeaderValue;

    use super::*;

    fn written(writer: &mut BodyWriter) -> Vec<u8> {
        let mut out = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while !writer.is_empty() {
            let written = writer.poll_write(&mut cx, &mut out);
            assert!(matches!(written, Poll::Ready(Ok(()))));
        }
        out
    }

    #[test]
    fn chunks_and_trailers_are_framed() {
        let mut writer = BodyWriter::new(b"HEAD".to_vec(), BodyFraming::Chunked);
        for piece in ["abc", "", "0123456789abcdef"] {
            writer.data(Bytes::from_static(piece.as_bytes())).unwrap();
        }
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from(1))]);
        writer.end(Some(&trailers)).unwrap();
        let expected = b"HEAD3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nx-sum: 1\r\n\r\n";
        assert_eq!(written(&mut writer), expected);
    }

    #[test]
    fn an_empty_body_in_chunks_is_the_last_chunk_alone() {
        let mut writer = BodyWriter::new(Vec::new(), BodyFraming::Chunked);
        writer.end(None).unwrap();
        assert_eq!(written(&mut writer), b"0\r\n\r\n");
    }

    #[test]
    fn a_body_has_the_length_that_its_head_announces() {
        let mut long = BodyWriter::new(Vec::new(), BodyFraming::Length(2));
        assert_eq!(long.data(Bytes::from_static(b"abc")), Err(WrongLength));
        let mut short = BodyWriter::new(Vec::new(), BodyFraming::Length(2));
        short.data(Bytes::from_static(b"a")).unwrap();
        assert_eq!(short.end(None), Err(WrongLength));
        assert_eq!(written(&mut short), b"a");
    }
}
