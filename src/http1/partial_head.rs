//! Reads as much as possible of a refused head, for CORS fields on the error response and for the
//! log. Nothing is forwarded because of it.

use std::ops::ControlFlow;

use http::{HeaderMap, HeaderName, HeaderValue, Version};

/// The parts of a refused head that have arrived.
#[derive(Debug)]
pub(crate) struct PartialHead<'b> {
    /// Empty if there is none.
    pub(crate) method: &'b [u8],
    /// Everything between the method and the version; empty if there is none.
    pub(crate) target: &'b [u8],
    pub(crate) version: Version,
    /// A field in an ambiguous line appears twice, with empty values: a rule that needs it exactly
    /// once refuses it.
    pub(crate) fields: HeaderMap,
}

impl<'b> PartialHead<'b> {
    /// Reads the start of a head.
    pub(crate) fn of(head: &'b [u8]) -> Self {
        let mut lines = head.split_inclusive(|&byte| byte == b'\n');
        let request_line = lines.next().unwrap_or_default();
        let line = request_line.trim_ascii_end();
        let (method, rest) = split_at_space(line, line.iter().position(|&byte| byte == b' '));
        let last_space = rest.iter().rposition(|&byte| byte == b' ');
        let (target, version) = match split_at_space(rest, last_space) {
            (target, version) if version.starts_with(b"HTTP/") => (target, version),
            _ => (rest, b"".as_slice()),
        };
        let mut fields = PartialFields {
            read: HeaderMap::new(),
            last: None,
            is_after_crlf: request_line.ends_with(b"\r\n"),
        };
        // There may be too many fields for a map; the rest stays unread.
        let _ = lines.try_for_each(|line| fields.add(line));
        Self {
            method,
            target,
            version: match version {
                b"HTTP/1.0" => Version::HTTP_10,
                _ => Version::HTTP_11,
            },
            fields: fields.read,
        }
    }
}

/// The text before a space, and the text after it; without a space, all of it is before.
fn split_at_space(text: &[u8], space: Option<usize>) -> (&[u8], &[u8]) {
    let space = space.unwrap_or(text.len());
    let (before, behind) = text.split_at(space);
    (before, behind.strip_prefix(b" ").unwrap_or_default())
}

struct PartialFields {
    read: HeaderMap,
    /// The name in the previous line.
    last: Option<HeaderName>,
    /// Whether the previous line ended with CRLF. If not, this one may be a part of it.
    is_after_crlf: bool,
}

impl PartialFields {
    /// Reads a line; stops at the end of the head.
    fn add(&mut self, line: &[u8]) -> ControlFlow<()> {
        if !line.ends_with(b"\n") || line.trim_ascii_end().is_empty() {
            return ControlFlow::Break(());
        }
        let ends_with_crlf = line.ends_with(b"\r\n");
        let is_after_crlf = std::mem::replace(&mut self.is_after_crlf, ends_with_crlf);
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            // It may continue the previous line, or be one of its own.
            return match self.last.clone() {
                Some(name) => self.doubt(name),
                None => ControlFlow::Continue(()),
            };
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        self.last = HeaderName::from_bytes(name.trim_ascii()).ok();
        let Some(known) = self.last.clone() else {
            return ControlFlow::Continue(());
        };
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let is_clean = colon.is_some()
            && name.len() == known.as_str().len()
            && ends_with_crlf
            && is_after_crlf;
        match HeaderValue::from_bytes(value).ok().filter(|_| is_clean) {
            Some(value) => self.append(known, value),
            None => self.doubt(known),
        }
    }

    fn doubt(&mut self, name: HeaderName) -> ControlFlow<()> {
        self.read.remove(&name);
        let nothing = HeaderValue::from_static("");
        self.append(name.clone(), nothing.clone())?;
        self.append(name, nothing)
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) -> ControlFlow<()> {
        match self.read.try_append(name, value) {
            Ok(_) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(head: &str, name: &str) -> Vec<String> {
        let head = PartialHead::of(head.as_bytes());
        let values = head.fields.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    }

    #[test]
    fn the_readable_part_of_a_request_line_is_returned() {
        let cases = [
            ("GET /k?a HTTP/1.1\r\n\r\n", ("GET", "/k?a")),
            ("GET /k HTTP/1.0\r\n", ("GET", "/k")),
            ("GET /k b HTTP/1.1\r\n", ("GET", "/k b")),
            ("GET /k HTTP/7\n", ("GET", "/k")),
            ("GET /long", ("GET", "/long")),
            ("GET /k\r\n", ("GET", "/k")),
            ("GET\r\n", ("GET", "")),
            ("\n", ("", "")),
            ("", ("", "")),
        ];
        for (head, (method, target)) in cases {
            let head = PartialHead::of(head.as_bytes());
            assert_eq!(head.method, method.as_bytes(), "{head:?}");
            assert_eq!(head.target, target.as_bytes(), "{head:?}");
        }
    }

    #[test]
    fn a_field_counts_once_only_if_its_line_is_unambiguous() {
        let read = [
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : b\r\nHost: a\r\n\r\nHost: c\r\n",
            "GET / HTTP/1.1\r\nHost:a",
            "GET / HTTP/1.1\r\nX: \0\r\nHost:\ta \r\nhost",
            "GET / HTTP/1.1\r\nno field\r\nHost: a\r\n",
        ];
        let expected = [&["a"][..], &["", "", "a"], &[], &["a"], &["a"]];
        for (head, expected) in read.iter().zip(expected) {
            assert_eq!(values(head, "host"), expected, "{head:?}");
        }
        let doubtful = [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nX: y\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nX: y\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\t: a\r\n\r\n",
        ];
        for head in doubtful {
            assert_ne!(values(head, "host").len(), 1, "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PartialHead::of(&bytes);
        }
    }
}
