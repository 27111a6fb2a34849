//! Parses a response's head and determines how its body is framed.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use http::StatusCode;
use httparse::{Header, Status};

use crate::text::escape::Escaped;

use super::fields::{
    Field, KEEP_ALIVE, USUAL_FIELDS, authenticates_connection, ends_lines_with_crlf, is_named,
};
use super::request_head::parse_length;

/// A response's head.
#[derive(Debug)]
pub(crate) struct ResponseHead<'h, 'b> {
    /// The bytes of the head, including the empty line.
    pub(crate) bytes: &'b [u8],
    pub(crate) status: StatusCode,
    /// The reason phrase, unchanged; empty if it has forbidden bytes.
    pub(crate) reason: &'b str,
    pub(crate) body: ResponseFraming,
    /// Whether the connection closes after the response.
    pub(crate) closes: bool,
    /// Whether `Connection` says more than whether the connection stays.
    pub(crate) has_lists: bool,
    /// Whether it has a `Date`.
    pub(crate) is_dated: bool,
    /// Whether it asks for credentials that authenticate the connection (NTLM, Negotiate).
    pub(crate) authenticates_connection: bool,
    /// Whether it has a `Vary`.
    pub(crate) has_vary: bool,
    /// Whether its lines can be copied unchanged.
    pub(crate) is_clean: bool,
    pub(crate) fields: &'h [Header<'b>],
}

/// How a response's body is framed ([RFC 9112 §6.3]).
///
/// [RFC 9112 §6.3]: https://www.rfc-editor.org/rfc/rfc9112#section-6.3
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseFraming {
    /// This many bytes, possibly none.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Everything until the connection ends.
    UntilClose,
}

/// Why bytes are not a response that can be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InvalidResponse {
    /// More fields than the limit allows.
    TooManyFields,
    /// Not HTTP/1, or HTTP/1 that could be read in two ways; what was sent instead.
    Malformed(Cow<'static, str>),
}

impl InvalidResponse {
    const fn malformed(what: &'static str) -> Self {
        Self::Malformed(Cow::Borrowed(what))
    }

    /// Describes the parser's `error` about `bytes`.
    fn of(error: httparse::Error, bytes: &[u8]) -> Self {
        Self::malformed(match error {
            httparse::Error::TooManyHeaders => return Self::TooManyFields,
            httparse::Error::HeaderName => {
                return Self::at_field(bytes, "an invalid field name");
            }
            httparse::Error::HeaderValue => {
                return Self::at_field(bytes, "a forbidden byte in a field");
            }
            httparse::Error::NewLine => "a line that does not end with CRLF",
            httparse::Error::Status => "a status line without a status",
            httparse::Error::Version | httparse::Error::Token => not_http1(bytes),
        })
    }

    /// Names the first field with a forbidden byte, but not its value, which may be a secret.
    fn at_field(bytes: &[u8], what: &'static str) -> Self {
        let lines = bytes.split(|&byte| byte == b'\n').skip(1);
        let names = lines.filter_map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let colon = line.iter().position(|&byte| byte == b':');
            let (name, value) = line.split_at(colon.unwrap_or(line.len()));
            let is_wrong = colon.is_none()
                || !name.iter().all(|byte| is_token(*byte))
                || value.iter().any(|byte| is_control(*byte));
            is_wrong.then_some(name)
        });
        match names.into_iter().next() {
            Some(name) => {
                let name = Escaped::new(name, MOST_SHOWN);
                Self::Malformed(format!("{what}: \"{name}\"").into())
            }
            None => Self::malformed(what),
        }
    }
}

/// The most bytes shown of a field name.
const MOST_SHOWN: usize = 60;

/// Guesses the protocol of bytes that do not begin an HTTP/1 response.
fn not_http1(bytes: &[u8]) -> &'static str {
    match bytes {
        // An alert or a handshake, and the version (RFC 8446 §5.1).
        [0x15 | 0x16, 3, ..] => "TLS instead of HTTP: should its URL be https://?",
        // A frame of SETTINGS or GOAWAY, on the connection's own stream (RFC 9113 §4.1).
        [0, _, _, 4 | 7, _, 0, 0, 0, 0, ..] => "HTTP/2: should its route set upstream_http2?",
        [b'H', b'T', b'T', b'P', b'/', ..] => "an HTTP version that is neither 1.1 nor 1.0",
        _ => "data that does not begin with HTTP/1",
    }
}

/// Whether a field name may contain the byte ([RFC 9110 §5.6.2]).
///
/// [RFC 9110 §5.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether no field value may contain the byte ([RFC 9110 §5.5]).
///
/// [RFC 9110 §5.5]: https://www.rfc-editor.org/rfc/rfc9110#section-5.5
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// Parses the response head that `bytes` begin with and passes it to `then`; `None`: the head is
/// incomplete. `to_head`: the request was a `HEAD`.
pub(crate) fn read_response<R>(
    bytes: &[u8],
    most_fields: usize,
    to_head: bool,
    then: impl FnOnce(&ResponseHead<'_, '_>) -> R,
) -> Result<Option<R>, InvalidResponse> {
    let mut usual = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    let usual = usual
        .get_mut(..most_fields.min(USUAL_FIELDS))
        .unwrap_or_default();
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let mut result = config.parse_response_with_uninit_headers(&mut response, bytes, usual);
    let mut is_spaced = false;
    if result == Err(httparse::Error::HeaderName) {
        // A proxy must remove whitespace before the colon in a response (RFC 9112 §5.1).
        let mut lenient = httparse::ParserConfig::default();
        lenient.allow_spaces_after_header_name_in_responses(true);
        response = httparse::Response::new(&mut []);
        result = lenient.parse_response_with_uninit_headers(&mut response, bytes, usual);
        is_spaced = true;
    }
    let mut many;
    if result == Err(httparse::Error::TooManyHeaders) && most_fields > USUAL_FIELDS {
        many = vec![MaybeUninit::uninit(); most_fields];
        response = httparse::Response::new(&mut []);
        result = config.parse_response_with_uninit_headers(&mut response, bytes, &mut many);
    }
    let length = match result {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(InvalidResponse::of(error, bytes)),
    };
    let head = bytes.get(..length).unwrap_or_default();
    let mut head = ResponseHead::new(head, &response, to_head)?;
    head.is_clean &= !is_spaced;
    Ok(Some(then(&head)))
}

impl<'h, 'b> ResponseHead<'h, 'b> {
    fn new(
        bytes: &'b [u8],
        response: &'h httparse::Response<'_, 'b>,
        to_head: bool,
    ) -> Result<Self, InvalidResponse> {
        let code = response.code.unwrap_or_default();
        let status = StatusCode::from_u16(code)
            .map_err(|_| InvalidResponse::malformed("a status below 100"))?;
        let is_http10 = response.version == Some(0);
        let mut head = Self {
            bytes,
            status,
            reason: response.reason.unwrap_or_default(),
            body: ResponseFraming::UntilClose,
            closes: is_http10,
            has_lists: false,
            is_dated: false,
            authenticates_connection: false,
            has_vary: false,
            is_clean: bytes.starts_with(b"HTTP/1.")
                && ends_lines_with_crlf(bytes, response.headers),
            fields: &[],
        };
        let (mut length, mut coding) = <(Field, Field)>::default();
        for field in response.headers.iter() {
            let is = |name: &str| is_named(field.name, name);
            match field.name.len() {
                4 if is("date") => head.is_dated = true,
                4 if is("vary") => head.has_vary = true,
                10 if is("connection") => head.set_connection(field.value),
                14 if is("content-length") => length.add(field.value),
                16 if is("www-authenticate") => {
                    head.authenticates_connection |= authenticates_connection(field.value);
                }
                17 if is("transfer-encoding") => coding.add(field.value),
                _ => {}
            }
        }
        head.body = body(status, to_head, is_http10, length, coding)?;
        head.closes |= head.body == ResponseFraming::UntilClose;
        head.fields = &*response.headers;
        Ok(head)
    }

    fn set_connection(&mut self, value: &[u8]) {
        if value.eq_ignore_ascii_case(b"close") {
            self.closes = true;
        } else if !value.eq_ignore_ascii_case(KEEP_ALIVE) {
            // It may also list `close`.
            self.closes = true;
            self.has_lists = true;
        }
    }
}

pub(crate) fn body(
    status: StatusCode,
    to_head: bool,
    is_http10: bool,
    length: Field<'_>,
    coding: Field<'_>,
) -> Result<ResponseFraming, InvalidResponse> {
    // With two lengths, the next recipient could use the other one.
    let length = match length {
        Field::Absent => None,
        Field::One(digits) => {
            let length = parse_length(digits);
            let none = InvalidResponse::malformed("an invalid Content-Length");
            Some(length.ok_or(none)?)
        }
        Field::Several => return Err(InvalidResponse::malformed("more than one Content-Length")),
    };
    let is_bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match (coding, length) {
        (Field::Absent, _) if to_head || is_bodiless || status.is_informational() => {
            Ok(ResponseFraming::Length(0))
        }
        (Field::Absent, Some(length)) => Ok(ResponseFraming::Length(length)),
        (Field::Absent, None) => Ok(ResponseFraming::UntilClose),
        // Both fields, or a last coding that is unknown, may be an attack on the next recipient
        // (RFC 9112 §6.3).
        (Field::One(value), None) if value.eq_ignore_ascii_case(b"chunked") && !is_http10 => {
            if to_head || is_bodiless {
                Ok(ResponseFraming::Length(0))
            } else {
                Ok(ResponseFraming::Chunked)
            }
        }
        (coding, length) => Err(InvalidResponse::malformed(match (coding, length) {
            (Field::Several, _) => "more than one Transfer-Encoding",
            (_, Some(_)) => "both Content-Length and Transfer-Encoding",
            (_, None) if is_http10 => "Transfer-Encoding in HTTP/1.0",
            (_, None) => "a Transfer-Encoding that is not chunked",
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, to_head: bool) -> Result<Option<(ResponseFraming, bool)>, InvalidResponse> {
        read_response(text.as_bytes(), 100, to_head, |head| {
            (head.body, head.closes)
        })
    }

    #[test]
    fn a_body_is_framed_as_rfc_9112_says() {
        use ResponseFraming::{Chunked, Length, UntilClose};
        let good = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
                false,
                Length(3),
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
                true,
                Length(0),
                false,
            ),
            (
                "HTTP/1.1 304 \r\nContent-Length: 3\r\n\r\n",
                false,
                Length(0),
                false,
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, Length(0), false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
                Chunked,
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                true,
                Length(0),
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", false, UntilClose, true),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n",
                false,
                Length(3),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n",
                false,
                Length(3),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: x-a\r\nContent-Length: 3\r\n\r\n",
                false,
                Length(3),
                true,
            ),
        ];
        for (text, to_head, body, closes) in good {
            assert_eq!(read(text, to_head), Ok(Some((body, closes))), "{text:?}");
        }
    }

    #[test]
    fn an_invalid_response_is_described_without_field_values() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
        assert_eq!(read(&many, false), Err(InvalidResponse::TooManyFields));
        let long = format!("HTTP/1.1 200 OK\r\n{}: b\r\n\r\n", "é".repeat(99));
        let shown = format!("{}...", "\\xc3\\xa9".repeat(30));
        let long_name = format!("an invalid field name: \"{shown}\"");
        let bad = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
                "more than one Content-Length",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
                "more than one Content-Length",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
                "an invalid Content-Length",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                "both Content-Length and Transfer-Encoding",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                "a Transfer-Encoding that is not chunked",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
                "more than one Transfer-Encoding",
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "Transfer-Encoding in HTTP/1.0",
            ),
            (
                "HTTP/2.0 200 OK\r\n\r\n",
                "an HTTP version that is neither 1.1 nor 1.0",
            ),
            ("garbage\r\n\r\n", "data that does not begin with HTTP/1"),
            ("HTTP/1.1 OK\r\n\r\n", "a status line without a status"),
            ("HTTP/1.1 099 OK\r\n\r\n", "a status below 100"),
            (
                "\x15\x03\x03\0\x02\x02\x32",
                "TLS instead of HTTP: should its URL be https://?",
            ),
            (
                "\0\0\x12\x04\0\0\0\0\0",
                "HTTP/2: should its route set upstream_http2?",
            ),
            (
                "HTTP/1.1 200 OK\r\nA: b\r\nX\x1b Y: secret\r\n\r\n",
                "an invalid field name: \"X\\x1b Y\"",
            ),
            (
                "HTTP/1.1 200 OK\r\nA: b\r\nSet-Cookie: secret\0\r\n\r\n",
                "a forbidden byte in a field: \"Set-Cookie\"",
            ),
            (&long, &long_name),
        ];
        for (text, what) in bad {
            let expected = InvalidResponse::Malformed(what.to_owned().into());
            assert_eq!(read(text, false), Err(expected), "{text:?}");
        }
    }
}
