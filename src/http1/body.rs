//! A body of HTTP/1.1, as far as it is still to come: its framing read, and written again.

use bytes::{Buf, Bytes};

use super::chunked::{Chunked, InvalidChunk, TrailerPolicy};
use super::response_head::ResponseFraming;

/// A response's body, as far as it is still to come.
pub(crate) enum BodyReader {
    /// So many bytes.
    Length(u64),
    /// In chunks, which are read and written again: extensions stay behind.
    Chunked(Chunked),
    /// All that comes until the upstream's connection ends.
    UntilClose {
        /// Whether it has come.
        is_ended: bool,
    },
    /// The last bytes were not a chunk: the body is cut here.
    Broken,
}

/// How a body whose length is not known goes to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// In chunks.
    Chunks,
    /// As it is, up to the connection's end (HTTP/1.0).
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

    /// Writes what `bytes` have of the body as the client gets it; what is behind it stays. Says
    /// how many bytes of the body that were, its coding apart.
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

    /// Takes the next piece of the body from the front of `bytes`: empty where there is none, in
    /// which case all of `bytes` was taken or the body has ended.
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

    /// The upstream's connection has ended: whether the body has, too.
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
            // An empty chunk would be the last.
            Self::Chunks if data.is_empty() => {}
            Self::Chunks => {
                write_size(data.len(), out);
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
            Self::Identity => out.extend_from_slice(data),
        }
    }

    /// Writes a body's end, with lines of trailers.
    pub(crate) fn write_end(self, trailers: &[u8], out: &mut Vec<u8>) {
        if self == Self::Chunks {
            for part in [b"0\r\n", trailers, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

/// Writes a chunk's size and the end of its line.
pub(crate) fn write_size(size: usize, out: &mut Vec<u8>) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = DIGITS.get(size >> (4 * place) & 15);
        out.push(digit.copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the data of the chunks that `bytes` begin with; what is behind the body stays. Says how
/// many bytes of data they had.
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

/// The front of `bytes`, `most` of them at the most.
pub(crate) fn part(bytes: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    bytes.get(..most.min(bytes.len())).unwrap_or_default()
}
