//! A response's head, and how its body is framed.

use std::mem::MaybeUninit;

use http::StatusCode;
use httparse::{Header, Status};

use super::fields::{Field, KEEP_ALIVE, USUAL_FIELDS, ends_lines_with_crlf};
use super::request::parse_length;

/// A response's head.
#[derive(Debug)]
pub(in crate::proxy) struct ResponseHead<'h, 'b> {
    /// Its bytes, the empty line included.
    pub(in crate::proxy) bytes: &'b [u8],
    pub(in crate::proxy) status: StatusCode,
    /// The reason phrase, as it came; empty where it has bytes that none may have.
    pub(in crate::proxy) reason: &'b str,
    pub(in crate::proxy) body: ResponseBody,
    /// Whether the connection ends with it.
    pub(in crate::proxy) closes: bool,
    /// Whether `Connection` says more than whether the connection stays.
    pub(in crate::proxy) has_lists: bool,
    /// Whether it has a `Date`.
    pub(in crate::proxy) is_dated: bool,
    /// Whether it has a `Vary`.
    pub(in crate::proxy) has_vary: bool,
    /// Whether its lines can be copied as they stand.
    pub(in crate::proxy) is_clean: bool,
    pub(in crate::proxy) fields: &'h [Header<'b>],
}

/// How a response's body is framed ([RFC 9112 §6.3]).
///
/// [RFC 9112 §6.3]: https://www.rfc-editor.org/rfc/rfc9112#section-6.3
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum ResponseBody {
    /// So many bytes, maybe none.
    Length(u64),
    /// In chunks.
    Chunked,
    /// All that comes until the connection ends.
    UntilClose,
}

/// The bytes are no response that could be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct InvalidResponse;

/// Reads the response head that `bytes` begin with and gives it to `then`; `None`: there is more
/// to come. `to_head`: the request was a `HEAD`.
pub(in crate::proxy) fn read_response<R>(
    bytes: &[u8],
    most_fields: usize,
    to_head: bool,
    then: impl FnOnce(&ResponseHead<'_, '_>) -> R,
) -> Result<Option<R>, InvalidResponse> {
    let mut usual = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let mut result = config.parse_response_with_uninit_headers(&mut response, bytes, &mut usual);
    let mut many;
    if result == Err(httparse::Error::TooManyHeaders) && most_fields > USUAL_FIELDS {
        many = vec![MaybeUninit::uninit(); most_fields];
        response = httparse::Response::new(&mut []);
        result = config.parse_response_with_uninit_headers(&mut response, bytes, &mut many);
    }
    let length = match result {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(InvalidResponse),
    };
    let head = bytes.get(..length).unwrap_or_default();
    ResponseHead::new(head, &response, to_head).map(|head| Some(then(&head)))
}

impl<'h, 'b> ResponseHead<'h, 'b> {
    fn new(
        bytes: &'b [u8],
        response: &'h httparse::Response<'_, 'b>,
        to_head: bool,
    ) -> Result<Self, InvalidResponse> {
        let code = response.code.unwrap_or_default();
        let status = StatusCode::from_u16(code).map_err(|_| InvalidResponse)?;
        let is_http10 = response.version == Some(0);
        let mut head = Self {
            bytes,
            status,
            reason: response.reason.unwrap_or_default(),
            body: ResponseBody::UntilClose,
            closes: is_http10,
            has_lists: false,
            is_dated: false,
            has_vary: false,
            is_clean: bytes.starts_with(b"HTTP/1.")
                && ends_lines_with_crlf(bytes, response.headers),
            fields: &[],
        };
        let (mut length, mut coding) = <(Field, Field)>::default();
        for field in response.headers.iter() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                4 if is("date") => head.is_dated = true,
                4 if is("vary") => head.has_vary = true,
                10 if is("connection") => head.set_connection(field.value),
                14 if is("content-length") => length.add(field.value),
                17 if is("transfer-encoding") => coding.add(field.value),
                _ => {}
            }
        }
        head.body = body(status, to_head, is_http10, length, coding)?;
        head.closes |= head.body == ResponseBody::UntilClose;
        head.fields = &*response.headers;
        Ok(head)
    }

    fn set_connection(&mut self, value: &[u8]) {
        if value.eq_ignore_ascii_case(b"close") {
            self.closes = true;
        } else if !value.eq_ignore_ascii_case(KEEP_ALIVE) {
            // Whatever else it says, it may say `close` too.
            self.closes = true;
            self.has_lists = true;
        }
    }
}

fn body(
    status: StatusCode,
    to_head: bool,
    is_http10: bool,
    length: Field<'_>,
    coding: Field<'_>,
) -> Result<ResponseBody, InvalidResponse> {
    // Where it says its length twice, whoever stands behind us may take the other one.
    let length = match length {
        Field::Absent => None,
        Field::One(digits) => Some(parse_length(digits).ok_or(InvalidResponse)?),
        Field::Several => return Err(InvalidResponse),
    };
    let is_bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match (coding, length) {
        (Field::Absent, _) if to_head || is_bodiless || status.is_informational() => {
            Ok(ResponseBody::Length(0))
        }
        (Field::Absent, Some(length)) => Ok(ResponseBody::Length(length)),
        (Field::Absent, None) => Ok(ResponseBody::UntilClose),
        // Both fields, or a coding that is not known to be the last, may be an attack on whoever
        // reads on (RFC 9112 §6.3).
        (Field::One(value), None) if value.eq_ignore_ascii_case(b"chunked") && !is_http10 => {
            if to_head || is_bodiless {
                Ok(ResponseBody::Length(0))
            } else {
                Ok(ResponseBody::Chunked)
            }
        }
        (Field::One(_) | Field::Several, _) => Err(InvalidResponse),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, to_head: bool) -> Result<Option<(ResponseBody, bool)>, InvalidResponse> {
        read_response(text.as_bytes(), 100, to_head, |head| {
            (head.body, head.closes)
        })
    }

    #[test]
    fn a_body_is_framed_as_rfc_9112_says() {
        use ResponseBody::{Chunked, Length, UntilClose};
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
        let bad = [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "garbage\r\n\r\n",
        ];
        for text in bad {
            assert_eq!(read(text, false), Err(InvalidResponse), "{text:?}");
        }
    }
}
