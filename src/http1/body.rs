//! The rest of an HTTP/1.1 body: decodes its framing and encodes it again.

use bytes::{Buf, Bytes};

use super::chunked::{Chunked, InvalidChunk, TrailerPolicy};
use super::response_head::ResponseFraming;

/// The rest of a response's body.
pub(crate) enum BodyReader {
    /// This many bytes.
    Length(u64),
    /// Chunked; decoded and encoded again, without extensions.
    Chunked(Chunked),
    /// Everything until the upstream's connection ends.
    UntilClose {
        /// Whether the connection has ended.
        is_ended: bool,
    },
    /// The last bytes were not a valid chunk: the body ends here.
    Broken,
}

/// How a body of unknown length is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// In chunks.
    Chunks,
    /// As is, until the connection closes (HTTP/1.0).
    Identity,
}

impl BodyReader {
    pub(crate) fn of(framing: ResponseFraming, trailers: TrailerPolicy) -> Self {
        match framing {
            ResponseFraming::Length(length) => Self::Length(length),
            ResponseFraming::Chunked => Self::Chunked(Chunked::with_trailers(trailers)),
            ResponseFraming::UntilClose => Self::UntilClose { is_ended: false },
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_ended(),
            Self::UntilClose { is_ended } => *is_ended,
            Self::Broken => false,
        }
    }

    /// Writes the part of the body that `bytes` begin with, as the client gets it; bytes after the
    /// body stay. Returns the number of body bytes, without framing.
    pub(crate) fn pass(&mut self, bytes: &mut &[u8], coding: Coding, out: &mut Vec<u8>) -> u64 {
        let mut passed = 0;
        match self {
            Self::Length(left) => {
                let now = part(bytes, *left);
                out.extend_from_slice(now);
                *left -= now.len() as u64;
                *bytes = bytes.get(now.len()..).unwrap_or_default();
                passed = now.len() as u64;
            }
            Self::Chunked(chunked) => match pass_chunks(chunked, bytes, coding, out) {
                Ok(now) => passed = now,
                Err(InvalidChunk) => *self = Self::Broken,
            },
            Self::UntilClose { .. } => {
                passed = bytes.len() as u64;
                coding.write(std::mem::take(bytes), out);
            }
            Self::Broken => {}
        }
        passed
    }

    /// Takes the next piece of the body from the front of `bytes`. Empty if there is none: then all
    /// of `bytes` was taken or the body has ended.
    pub(crate) fn take(&mut self, bytes: &mut Bytes) -> Result<Bytes, InvalidChunk> {
        match self {
            Self::Length(left) => {
                let now = part(bytes, *left).len();
                *left -= now as u64;
                Ok(bytes.split_to(now))
            }
            Self::Chunked(chunked) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() && !chunked.is_ended() {
                    let data = chunked.take(&mut rest)?;
                    if !data.is_empty() {
                        let data = bytes.slice_ref(data);
                        bytes.advance(bytes.len() - rest.len());
                        return Ok(data);
                    }
                }
                bytes.advance(bytes.len() - rest.len());
                Ok(Bytes::new())
            }
            Self::UntilClose { .. } => Ok(std::mem::take(bytes)),
            Self::Broken => Err(InvalidChunk),
        }
    }

    /// Notes that the upstream's connection has ended; returns whether the body is complete.
    pub(crate) fn close(&mut self) -> bool {
        match self {
            Self::UntilClose { is_ended } => {
                *is_ended = true;
                true
            }
            Self::Length(_) | Self::Chunked(_) | Self::Broken => false,
        }
    }
}

impl Coding {
    /// Writes a piece of a body.
    fn write(self, data: &[u8], out: &mut Vec<u8>) {
        match self {
            // An empty chunk would end the body.
            Self::Chunks if data.is_empty() => {}
            Self::Chunks => {
                write_size(data.len(), out);
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
            Self::Identity => out.extend_from_slice(data),
        }
    }

    /// Writes a body's end, with the lines of its trailers.
    pub(crate) fn write_end(self, trailers: &[u8], out: &mut Vec<u8>) {
        if self == Self::Chunks {
            for part in [b"0\r\n", trailers, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

/// Writes a chunk's size line.
pub(crate) fn write_size(size: usize, out: &mut Vec<u8>) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = DIGITS.get(size >> (4 * place) & 15);
        out.push(digit.copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the data of the chunks that `bytes` begin with; bytes after the body stay. Returns the
/// number of data bytes.
pub(crate) fn pass_chunks(
    chunked: &mut Chunked,
    bytes: &mut &[u8],
    coding: Coding,
    out: &mut Vec<u8>,
) -> Result<u64, InvalidChunk> {
    let mut passed = 0;
    while !bytes.is_empty() && !chunked.is_ended() {
        let data = chunked.take(bytes)?;
        coding.write(data, out);
        passed += data.len() as u64;
    }
    if chunked.is_ended() {
        coding.write_end(chunked.trailers(), out);
    }
    Ok(passed)
}

/// The front of `bytes`, at most `most` of them.
pub(crate) fn part(bytes: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    bytes.get(..most.min(bytes.len())).unwrap_or_default()
}
