//! The chunked coding ([RFC 9112 §7.1]), decoded strictly: sizes of at most 16 digits, only CRLF,
//! and bounded extensions and trailers.
//!
//! [RFC 9112 §7.1]: https://www.rfc-editor.org/rfc/rfc9112#section-7.1

use http::{HeaderMap, HeaderName, HeaderValue};

use super::fields::ends_lines_with_crlf;
use super::trailers::may_be_trailer;

/// The most bytes in a chunk's extension. No known client needs any.
const MOST_EXTENSION: u16 = 256;

/// The most bytes in a trailer section.
const MOST_TRAILERS: usize = 8 * 1024;

/// The most trailer fields.
const MOST_TRAILER_FIELDS: usize = 32;

/// Decodes a chunked body as it arrives.
#[derive(Debug)]
pub struct Chunked {
    state: ChunkState,
    /// The part of the chunk size read so far, or the data left in the chunk.
    size: u64,
    /// Digits of the size, or bytes of the extension, read so far.
    count: u16,
    /// The trailer section read so far; once it is complete, only the part that is passed on.
    trailers: Vec<u8>,
    policy: TrailerPolicy,
}

/// What happens to a trailer section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailerPolicy {
    /// Passed on; a field that belongs in a head makes the body invalid.
    Strict,
    /// Dropped; a field that belongs in a head makes the body invalid.
    Unannounced,
    /// Passed on without the fields that belong in a head.
    Filter,
    /// Dropped.
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    End,
}

/// The bytes are not a valid chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidChunk;

impl Default for Chunked {
    fn default() -> Self {
        Self {
            state: ChunkState::Size,
            size: 0,
            count: 0,
            trailers: Vec::new(),
            policy: TrailerPolicy::Strict,
        }
    }
}

impl Chunked {
    /// Creates a decoder with this trailer policy.
    pub fn with_trailers(policy: TrailerPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// The lines of the trailer section that are passed on; empty before the body's end.
    pub fn trailers(&self) -> &[u8] {
        match self.state {
            ChunkState::End => &self.trailers,
            _ => &[],
        }
    }

    /// Whether the body's last byte was read.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state == ChunkState::End
    }

    /// The trailers that are passed on, as a map; empty before the body's end.
    pub fn trailer_fields(&self) -> HeaderMap {
        let section = [self.trailers(), b"\r\n"].concat();
        let mut slots = [httparse::EMPTY_HEADER; MOST_TRAILER_FIELDS];
        let parsed = httparse::parse_headers(&section, &mut slots);
        let Ok(httparse::Status::Complete((_, fields))) = parsed else {
            return HeaderMap::new();
        };
        let fields = fields.iter().filter_map(|field| {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(field.value).ok()?))
        });
        let mut trailers = HeaderMap::new();
        for (name, value) in fields {
            trailers.append(name, value);
        }
        trailers
    }

    /// Takes bytes from the front of `bytes`, up to the end of the first piece of data, and returns
    /// that piece. Empty if there is none: then all of `bytes` was taken or the body has ended.
    ///
    /// # Errors
    /// [`InvalidChunk`]: the bytes are not a valid chunked body.
    pub fn take<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<&'b [u8], InvalidChunk> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.state {
                ChunkState::Data => {
                    let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                    let (data, rest) = bytes.split_at(left.min(bytes.len()));
                    self.size -= data.len() as u64;
                    if self.size == 0 {
                        self.state = ChunkState::DataCr;
                    }
                    *bytes = rest;
                    return Ok(data);
                }
                ChunkState::Trailers => {
                    let length = self.take_trailers(bytes)?;
                    *bytes = bytes.get(length..).unwrap_or_default();
                    if self.state == ChunkState::End {
                        return Ok(&[]);
                    }
                    continue;
                }
                ChunkState::End => return Ok(&[]),
                ChunkState::Size
                | ChunkState::Extension
                | ChunkState::SizeLf
                | ChunkState::DataCr
                | ChunkState::DataLf => {
                    self.step(byte)?;
                }
            }
            *bytes = rest;
        }
        Ok(&[])
    }

    fn step(&mut self, byte: u8) -> Result<(), InvalidChunk> {
        self.state = match (self.state, byte) {
            (ChunkState::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.count < 16 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                self.count += 1;
                ChunkState::Size
            }
            (ChunkState::Size, b'\r') if self.count > 0 => ChunkState::SizeLf,
            (ChunkState::Size, b';') if self.count > 0 => {
                self.count = 0;
                ChunkState::Extension
            }
            (ChunkState::Extension, b'\r') => ChunkState::SizeLf,
            (ChunkState::Extension, b'\t' | b' '..=b'~') if self.count < MOST_EXTENSION => {
                self.count += 1;
                ChunkState::Extension
            }
            // No real body is longer than this.
            (ChunkState::SizeLf, b'\n') if self.size <= i64::MAX as u64 => {
                self.count = 0;
                if self.size == 0 {
                    ChunkState::Trailers
                } else {
                    ChunkState::Data
                }
            }
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => ChunkState::Size,
            _ => return Err(InvalidChunk),
        };
        Ok(())
    }

    /// Takes the trailer section and its empty line from `bytes`; returns how many bytes that is.
    fn take_trailers(&mut self, bytes: &[u8]) -> Result<usize, InvalidChunk> {
        for (index, &byte) in bytes.iter().enumerate() {
            if byte == b'\n' && self.trailers.last() != Some(&b'\r') {
                return Err(InvalidChunk);
            }
            self.trailers.push(byte);
            if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
                self.trailers = passed_on(&self.trailers, self.policy)?;
                self.state = ChunkState::End;
                return Ok(index + 1);
            }
            if self.trailers.len() > MOST_TRAILERS {
                return Err(InvalidChunk);
            }
        }
        Ok(bytes.len())
    }
}

/// The lines of a complete trailer section that are passed on.
fn passed_on(section: &[u8], policy: TrailerPolicy) -> Result<Vec<u8>, InvalidChunk> {
    let mut slots = [httparse::EMPTY_HEADER; MOST_TRAILER_FIELDS];
    let Ok(httparse::Status::Complete((length, fields))) =
        httparse::parse_headers(section, &mut slots)
    else {
        return Err(InvalidChunk);
    };
    if length != section.len() || !ends_lines_with_crlf(section, fields) {
        return Err(InvalidChunk);
    }
    let mut lines = Vec::new();
    for field in fields.iter().filter(|_| policy != TrailerPolicy::Drop) {
        match (may_be_trailer(field.name), policy) {
            (true, TrailerPolicy::Strict | TrailerPolicy::Filter) => {
                for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
                    lines.extend_from_slice(part);
                }
            }
            (false, TrailerPolicy::Strict | TrailerPolicy::Unannounced) => {
                return Err(InvalidChunk);
            }
            _ => {}
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The data, and what comes after the body; `None`: the body is incomplete.
    fn read(mut bytes: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, InvalidChunk> {
        let (mut chunked, mut data, whole) = (Chunked::default(), Vec::new(), bytes.len());
        while !bytes.is_empty() {
            let mut now = &bytes[..piece.min(bytes.len())];
            let before = now.len();
            while !now.is_empty() && !chunked.is_ended() {
                data.extend_from_slice(chunked.take(&mut now)?);
            }
            bytes = &bytes[before - now.len()..];
            if chunked.is_ended() {
                return Ok(Some((data, whole - bytes.len())));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_body_is_decoded_however_it_is_split() {
        let good = [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            (
                "3;a=\"b\"\r\nabc\r\n00A\r\n0123456789\r\n000\r\n\r\n",
                "abc0123456789",
            ),
            ("1\r\na\r\n0\r\nx-checksum: 1\r\nb: \r\n\r\n", "a"),
        ];
        for (text, data) in good {
            for piece in 1..=text.len() {
                let more = format!("{text}GET");
                let read = read(more.as_bytes(), piece);
                assert_eq!(
                    read,
                    Ok(Some((data.as_bytes().to_vec(), text.len()))),
                    "{text:?}"
                );
            }
        }
        let bad = [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\n",
            "1\r\na\n",
            "1\r\nab",
            "10000000000000000\r\n",
            "ffffffffffffffff\r\n",
            "1;\n",
            "1;\u{1}\r\n",
            ";\r\n",
            "0\r\n\n",
            "0\r\nhost: a\r\n\r\n",
            "0\r\nContent-Length: 1\r\n\r\n",
            "0\r\na: b\n\r\n",
            "0\r\na : b\r\n\r\n",
            "0\r\na: b\r\n c\r\n\r\n",
        ];
        for text in bad {
            assert_eq!(read(text.as_bytes(), 100), Err(InvalidChunk), "{text:?}");
        }
        let forbidden = b"0\r\nhost: a\r\nContent-Length: 1\r\n\r\n";
        let mut dropped = Chunked::with_trailers(TrailerPolicy::Drop);
        assert_eq!(dropped.take(&mut &forbidden[..]), Ok(&[][..]));
        assert!(dropped.is_ended());
        let mut filtered = Chunked::with_trailers(TrailerPolicy::Filter);
        let some = b"0\r\nhost: a\r\nX-Sum:1\r\nContent-Length: 1\r\n\r\n";
        assert_eq!(filtered.take(&mut &some[..]), Ok(&[][..]));
        assert_eq!(filtered.trailers(), b"X-Sum: 1\r\n");
        let no_trailer =
            Chunked::with_trailers(TrailerPolicy::Drop).take(&mut &b"0\r\na : b\r\n\r\n"[..]);
        assert_eq!(no_trailer, Err(InvalidChunk));
        let large = format!("0\r\na: {}", "b".repeat(2 * MOST_TRAILERS));
        assert_eq!(read(large.as_bytes(), 100), Err(InvalidChunk));
        let large = format!("0;{}", "b".repeat(2 * usize::from(MOST_EXTENSION)));
        assert_eq!(read(large.as_bytes(), 100), Err(InvalidChunk));
    }

    proptest! {
        #[test]
        fn an_encoded_body_decodes_to_the_same_bytes(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8), piece in 1..50_usize) {
            let mut body = Vec::new();
            for piece in &pieces {
                body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                body.extend_from_slice(piece);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(read(&body, piece), Ok(Some((pieces.concat(), body.len()))));
        }
    }
}
