//! What a CORS request asks for, parsed from its head.

use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, ValueIter,
};
use http::{HeaderMap, HeaderValue, Method};

/// The longest accepted `Origin`, in bytes. An origin has a scheme, a host of at most 253 bytes and
/// a port; anything longer is not an origin and matches no rule.
pub(crate) const MAX_ORIGIN: usize = 2048;

/// The most requested headers that are checked. A request with more is malformed, which bounds its
/// cost by this number times the policy's patterns.
pub(crate) const MAX_REQUESTED_HEADERS: usize = 512;

/// A CORS request: what a page asks to be allowed to do.
///
/// It borrows from the request's head. Which requests are CORS requests at all depends on the
/// policy's semantics: [`Policy::decide`](super::Policy::decide) has the order of the checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CorsRequest<'r> {
    /// A preflight, or the request itself.
    pub(crate) kind: Kind,
    /// The value of `Origin`, unchanged.
    pub(crate) origin: &'r [u8],
    /// The method to check: the requested one, or the request's own.
    pub(crate) method: &'r [u8],
    /// The field names to check.
    pub(crate) headers: RequestedHeaders<'r>,
}

/// The two kinds of CORS request ([Fetch, «HTTP requests»]).
///
/// [Fetch, «HTTP requests»]: https://fetch.spec.whatwg.org/#http-requests
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `OPTIONS` that asks whether another request may be made.
    Preflight,
    /// The request itself.
    Actual,
}

/// The field names of `Access-Control-Request-Headers`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestedHeaders<'r>(HeaderLines<'r>);

#[derive(Clone, Copy, Debug)]
enum HeaderLines<'r> {
    One(&'r [u8]),
    Several(&'r HeaderMap),
}

impl<'r> RequestedHeaders<'r> {
    /// No names.
    #[cfg(feature = "proxy")]
    pub(crate) const NONE: RequestedHeaders<'static> = RequestedHeaders(HeaderLines::One(b""));

    /// The names of one field value.
    pub(crate) fn from_value(value: &'r [u8]) -> Self {
        Self(HeaderLines::One(value))
    }

    /// The names of a request's head; several field lines are one list ([RFC 9110 §5.3]).
    ///
    /// [RFC 9110 §5.3]: https://www.rfc-editor.org/rfc/rfc9110#section-5.3
    pub(crate) fn from_fields(fields: &'r HeaderMap) -> Self {
        let mut lines = fields.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Self(HeaderLines::One(b"")),
            (Some(line), None) => Self(HeaderLines::One(line.as_bytes())),
            (Some(_), Some(_)) => Self(HeaderLines::Several(fields)),
        }
    }

    /// The names in request order, without the empty elements that a list may have
    /// ([RFC 9110 §5.6.1]).
    ///
    /// [RFC 9110 §5.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.1
    pub(crate) fn names(self) -> Names<'r> {
        match self.0 {
            HeaderLines::One(line) => Names {
                rest: line,
                lines: None,
            },
            HeaderLines::Several(fields) => Names {
                rest: b"",
                lines: Some(fields.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter()),
            },
        }
    }

    /// Whether there are no names.
    pub(crate) fn is_empty(self) -> bool {
        match self.0 {
            HeaderLines::One(b"") => true,
            _ => self.names().next().is_none(),
        }
    }
}

/// Iterates over the names of a list.
#[derive(Debug)]
pub(crate) struct Names<'r> {
    /// The rest of the current line.
    rest: &'r [u8],
    /// The lines after it.
    lines: Option<ValueIter<'r, HeaderValue>>,
}

impl<'r> Iterator for Names<'r> {
    type Item = &'r [u8];

    fn next(&mut self) -> Option<&'r [u8]> {
        loop {
            if self.rest.is_empty() {
                self.rest = self.lines.as_mut()?.next()?.as_bytes();
                continue;
            }
            let comma = self.rest.iter().position(|&byte| byte == b',');
            let (name, rest) = match comma.and_then(|comma| self.rest.split_at_checked(comma)) {
                Some((name, rest)) => (name, rest.get(1..).unwrap_or_default()),
                None => (self.rest, &b""[..]),
            };
            self.rest = rest;
            let name = name.trim_ascii();
            if !name.is_empty() {
                return Some(name);
            }
        }
    }
}

/// The `Origin` field of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OriginField<'r> {
    /// Absent or empty.
    Missing,
    /// Repeated, or in a form that no browser sends: it matches nothing and is never echoed.
    Malformed,
    /// A single value.
    One(&'r HeaderValue),
}

impl<'r> OriginField<'r> {
    pub(crate) fn of(fields: &'r HeaderMap) -> Self {
        let mut lines = fields.get_all(ORIGIN).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Self::Missing,
            (Some(_), Some(_)) => Self::Malformed,
            (Some(line), None) => match line.as_bytes() {
                b"" => Self::Missing,
                bytes if is_origin(bytes) => Self::One(line),
                _ => Self::Malformed,
            },
        }
    }
}

/// Whether `bytes` may be an origin, or the `null` of an opaque one: visible ASCII without a comma
/// ([Fetch, «Origin header»]; S3 itself does not require URL syntax).
///
/// [Fetch, «Origin header»]: https://fetch.spec.whatwg.org/#origin-header
pub(crate) fn is_origin(bytes: &[u8]) -> bool {
    // Checks all bytes without an early exit, so that it is vectorized.
    let visible = |every, byte: &u8| every & byte.is_ascii_graphic() & (*byte != b',');
    bytes.len() <= MAX_ORIGIN && bytes.iter().fold(true, visible)
}

/// Whether a request asks for a CORS preflight: `OPTIONS` with `Origin` and
/// `Access-Control-Request-Method` ([Fetch, «CORS-preflight request»]).
///
/// [Fetch, «CORS-preflight request»]: https://fetch.spec.whatwg.org/#cors-preflight-request
#[must_use]
pub fn is_preflight(method: &Method, fields: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && fields.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        && !matches!(OriginField::of(fields), OriginField::Missing)
}

/// Whether `bytes` is a token, the form of methods and field names ([RFC 9110 §5.6.2]).
///
/// [RFC 9110 §5.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|&byte| TOKEN.get(usize::from(byte)).copied().unwrap_or_default())
}

/// Which bytes a token may contain.
#[expect(
    clippy::indexing_slicing,
    reason = "an index out of bounds would not compile"
)]
static TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        token[byte] = matches!(byte as u8, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#'
            | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    token
};

#[cfg(test)]
mod tests {
    use super::*;

    fn names(lines: &[&str]) -> Vec<String> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(ACCESS_CONTROL_REQUEST_HEADERS, line.parse().unwrap());
        }
        RequestedHeaders::from_fields(&fields)
            .names()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    #[test]
    fn empty_elements_are_dropped_and_lines_are_joined() {
        assert_eq!(names(&["a,,b ,\tc,"]), ["a", "b", "c"]);
        assert_eq!(names(&["a", "b, c"]), ["a", "b", "c"]);
        assert!(names(&[" , ,"]).is_empty());
        assert!(names(&[]).is_empty());
    }

    #[test]
    fn only_a_single_visible_ascii_origin_is_accepted() {
        for origin in [
            "https://a.example",
            "null",
            "localhost:4566",
            "https://a.example/",
        ] {
            assert!(is_origin(origin.as_bytes()), "{origin}");
        }
        for origin in [
            "https://a.example https://b.example",
            "https://a,https://b",
            "h\u{e9}",
        ] {
            assert!(!is_origin(origin.as_bytes()), "{origin}");
        }
        assert!(!is_origin(&[b'a'; MAX_ORIGIN + 1]));
    }
}
