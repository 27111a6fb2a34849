//! Finds an unclosed bracket: a TOML parser notices it much later, and reports several errors.

use std::ops::Range;

/// The first `[` of a value that is still open when another key or table begins.
pub(super) fn bracket(text: &str) -> Option<Range<usize>> {
    let mut open: Vec<(usize, u8)> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some((at, b'[')) = open.last()
            && begins_anew(line)
        {
            return Some(*at..at + 1);
        }
        // A table header has its own brackets.
        if !(open.is_empty() && line.trim_start().starts_with('[')) {
            brackets(line, start, &mut open);
        }
        start += line.len();
    }
    None
}

/// Whether a line begins with `key =` or is a table header.
fn begins_anew(line: &str) -> bool {
    let line = line.trim();
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    let header = line
        .strip_prefix('[')
        .map(|rest| rest.trim_start_matches('['));
    let header = header.and_then(|rest| rest.split_once(']'));
    line.split_once('=')
        .is_some_and(|(key, _)| is_name(key.trim()))
        || header.is_some_and(|(name, _)| {
            is_name(name) && !name.starts_with(|one: char| one.is_ascii_digit())
        })
}

/// Tracks the brackets of a line, except in strings and comments.
fn brackets(line: &str, start: usize, open: &mut Vec<(usize, u8)>) {
    let mut quote = None;
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(b'"'), b'\\') => escaped = true,
            (Some(mark), byte) if mark == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'#') => return,
            (None, b'[' | b'{') => open.push((start + at, byte)),
            (None, b']' | b'}') => {
                open.pop();
            }
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unclosed_bracket_is_found() {
        for (text, expected) in [
            ("host = [\"a\"\nupstream = \"b\"\n", Some(7)),
            ("a = 1\nhost = [\n  \"a\",\n  \"b\"\n[[route]]\n", Some(13)),
            ("tls = [{ key = \"a\" }\naddress = \"b\"\n", Some(6)),
            ("host = [\"[\"] # [\nupstream = \"b\"\n", None),
            ("tls = [\n  { key = \"a\" },\n]\naddress = \"b\"\n", None),
            ("[[route]]\nhost = [\"a\"]\n", None),
        ] {
            assert_eq!(bracket(text).map(|span| span.start), expected, "{text}");
        }
    }
}
