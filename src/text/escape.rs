//! Escapes what clients send, for logs: visible ASCII, cut to a length.
//!
//! All logs use it, so that no request can break a line, end a quotation or send control sequences
//! to a terminal.

use std::fmt;

/// Escapes bytes for a line of text: `"` and `\` get a backslash, anything but visible ASCII and
/// spaces becomes `\xHH`, and `...` marks a cut.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'b> {
    bytes: &'b [u8],
    is_cut: bool,
}

impl<'b> Escaped<'b> {
    /// Escapes at most `max` of `bytes`.
    #[must_use]
    pub fn new(bytes: &'b [u8], max: usize) -> Self {
        let (bytes, rest) = cut(bytes, max);
        Self {
            bytes,
            is_cut: !rest.is_empty(),
        }
    }

    /// Writes `quote` before characters that would end a quotation, and `hex` before a byte's two
    /// digits.
    fn write(&self, f: &mut fmt::Formatter<'_>, quote: &str, hex: &str) -> fmt::Result {
        for part in parts(self.bytes) {
            match part {
                Part::Plain(text) => f.write_str(text)?,
                Part::Quoted(byte) => write!(f, "{quote}{}", char::from(byte))?,
                Part::Hidden(byte) => write!(f, "{hex}{byte:02x}")?,
            }
        }
        f.write_str(if self.is_cut { "..." } else { "" })
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "\\", "\\x")
    }
}

/// Escapes bytes for a log that quotes strings itself: anything but visible ASCII and spaces
/// becomes `%HH`, and `...` marks a cut. The log would escape backslashes a second time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percent<'b>(Escaped<'b>);

impl<'b> Percent<'b> {
    /// Escapes at most `max` of `bytes`.
    pub(crate) fn new(bytes: &'b [u8], max: usize) -> Self {
        Self(Escaped::new(bytes, max))
    }
}

impl fmt::Display for Percent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, "", "%")
    }
}

/// Escapes bytes for a JSON string, without its quotation marks. Anything but visible ASCII becomes
/// `\u00HH`, so that the string, read as Latin-1, has the original bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Json<'b>(pub(crate) &'b [u8]);

impl Json<'_> {
    /// Appends the text to a line. The access log calls this several times for each request, where
    /// `fmt` would dominate the cost.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let digit = |index: u8| DIGITS.get(usize::from(index)).copied().unwrap_or(b'0');
        let mut rest = self.0;
        loop {
            let (plain, after) = rest.split_at(plain_length(rest).min(rest.len()));
            out.extend_from_slice(plain);
            match after.split_first() {
                None => return,
                Some((byte @ (b'"' | b'\\'), after)) => {
                    out.extend_from_slice(&[b'\\', *byte]);
                    rest = after;
                }
                Some((byte, after)) => {
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
                    rest = after;
                }
            }
        }
    }
}

/// Whether a byte needs no escape: visible ASCII and the space, except `"` and `\`.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

/// How many leading bytes are [plain](is_plain), eight at a time.
fn plain_length(bytes: &[u8]) -> usize {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // The high bit of each zero byte is set. Others may be set too, but only above a zero byte.
    let zero = |word: u64| word.wrapping_sub(LOW) & !word;
    let equal = |word: u64, byte: u8| zero(word ^ u64::from_ne_bytes([byte; 8]));
    let mut length = 0;
    let (words, last) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let below_space = word.wrapping_sub(u64::from_ne_bytes([b' '; 8])) & !word;
        let special = equal(word, b'"') | equal(word, b'\\') | equal(word, 0x7f);
        let found = (word | below_space | special) & HIGH;
        if found != 0 {
            return length + found.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let end = last.iter().position(|byte| !is_plain(*byte));
    length + end.unwrap_or(last.len())
}

pub(crate) fn cut(bytes: &[u8], max: usize) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.len().min(max))
}

enum Part<'b> {
    Plain(&'b str),
    Quoted(u8),
    Hidden(u8),
}

fn parts(bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (first, after) = rest.split_first()?;
        if is_plain(*first) {
            let (plain, after) = rest.split_at(plain_length(rest).min(rest.len()));
            rest = after;
            return Some(Part::Plain(std::str::from_utf8(plain).unwrap_or_default()));
        }
        rest = after;
        Some(match first {
            b'"' | b'\\' => Part::Quoted(*first),
            hidden => Part::Hidden(*hidden),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escaped_text_stays_within_its_line_and_quotation() {
        let cases = [
            (&b"https://a.example"[..], "https://a.example"),
            (b"a b", "a b"),
            (b"a\"b\\c", "a\\\"b\\\\c"),
            (b"a\r\nFAKE 200", "a\\x0d\\x0aFAKE 200"),
            (b"\x1b[31m\x07\x7f", "\\x1b[31m\\x07\\x7f"),
            (b"h\xc3\xa9\xff", "h\\xc3\\xa9\\xff"),
            (b"", ""),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Escaped::new(bytes, 100).to_string(), expected);
        }
        assert_eq!(Escaped::new(b"abcd", 3).to_string(), "abc...");
        assert_eq!(Escaped::new(b"abc", 3).to_string(), "abc");
    }

    proptest! {
        #[test]
        fn json_preserves_every_byte(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut line = vec![b'"'];
            Json(&bytes).write(&mut line);
            line.push(b'"');
            let text: String = serde_json::from_slice(&line).unwrap();
            let read: Vec<u8> = text.chars().map(|char| u8::try_from(char).unwrap()).collect();
            prop_assert_eq!(read, bytes);
        }

        #[test]
        fn plain_bytes_are_counted_up_to_the_first_other_one(
            mut bytes in proptest::collection::vec(b' '..=b'~', 0..50),
            others in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        ) {
            for (place, other) in others {
                bytes.insert(place % (bytes.len() + 1), other);
            }
            let plain = bytes.iter().take_while(|byte| is_plain(**byte));
            prop_assert_eq!(plain_length(&bytes), plain.count());
        }

        #[test]
        fn text_is_visible_ascii(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            for text in [Escaped::new(&bytes, 40).to_string(), Percent::new(&bytes, 40).to_string()] {
                prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            }
        }
    }
}
