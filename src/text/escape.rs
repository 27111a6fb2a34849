//! What a client sent, as logs show it: visible ASCII, cut to a length.
//!
//! One place for all logs, so that no request can break a line, end a quotation, or speak to the
//! terminal that the log is read on.

use std::fmt;

/// Bytes for a line of text: `"` and `\` with a backslash before them, what is not visible ASCII
/// or a space as `\xHH`, and `...` behind what was cut.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'b> {
    bytes: &'b [u8],
    is_cut: bool,
}

impl<'b> Escaped<'b> {
    /// At most `max` of `bytes`.
    #[must_use]
    pub fn new(bytes: &'b [u8], max: usize) -> Self {
        let (bytes, rest) = cut(bytes, max);
        Self {
            bytes,
            is_cut: !rest.is_empty(),
        }
    }

    /// With `quote` before what would end a quotation, and `hex` before a byte's two digits.
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

/// Bytes for a log that sets strings in quotation marks by itself: what is not visible ASCII or a
/// space as `%HH`, and `...` behind what was cut. With backslashes, the log would escape them again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percent<'b>(Escaped<'b>);

impl<'b> Percent<'b> {
    /// At most `max` of `bytes`.
    pub(crate) fn new(bytes: &'b [u8], max: usize) -> Self {
        Self(Escaped::new(bytes, max))
    }
}

impl fmt::Display for Percent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, "", "%")
    }
}

/// Bytes for a JSON string, without its quotation marks: what is no visible ASCII becomes
/// `\u00HH`, so that the string, read as Latin-1, has the very bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Json<'b>(pub(crate) &'b [u8]);

impl Json<'_> {
    /// Adds the text to a line. Each request of an access log comes by here several times: `fmt`
    /// would cost more than all else.
    pub(crate) fn write(self, out: &mut String) {
        for part in parts(self.0) {
            match part {
                Part::Plain(text) => out.push_str(text),
                Part::Quoted(byte) => out.extend(['\\', char::from(byte)]),
                Part::Hidden(byte) => {
                    out.push_str("\\u00");
                    out.extend(
                        [byte >> 4, byte & 15]
                            .map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')),
                    );
                }
            }
        }
    }
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
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (first, after) = rest.split_first()?;
        if is_plain(first) {
            let end = rest.iter().position(|byte| !is_plain(byte));
            let (plain, after) = rest.split_at(end.unwrap_or(rest.len()));
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
    fn nothing_leaves_its_line_or_quotation() {
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
        fn json_keeps_the_very_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut line = String::from('"');
            Json(&bytes).write(&mut line);
            line.push('"');
            let text: String = serde_json::from_str(&line).unwrap();
            let read: Vec<u8> = text.chars().map(|char| u8::try_from(char).unwrap()).collect();
            prop_assert_eq!(read, bytes);
        }

        #[test]
        fn text_is_visible_ascii(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            for text in [Escaped::new(&bytes, 40).to_string(), Percent::new(&bytes, 40).to_string()] {
                prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            }
        }
    }
}
