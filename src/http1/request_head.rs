//! Parses a request's head and determines how its body is framed.

use std::mem::MaybeUninit;

use http::Version;
use http::header::CONNECTION;
use httparse::{Header, Status};

use super::claims::{IMITATED_FRAMING, imitates_framing};
use super::fields::{
    Field, Fields as _, KEEP_ALIVE, USUAL_FIELDS, authenticates_connection, ends_lines_with_crlf,
    is_named,
};
use super::request_rules::is_continue;

/// A request head with one unambiguous meaning.
#[derive(Debug)]
pub struct RequestHead<'h, 'b> {
    /// The bytes of the head, including the empty line.
    pub bytes: &'b [u8],
    /// The method.
    pub method: &'b str,
    /// The target, unchanged.
    pub target: &'b str,
    /// Whether the version is HTTP/1.0.
    pub is_http10: bool,
    /// How its body is framed.
    pub framing: Framing,
    /// `Host`.
    pub host: Field<'b>,
    /// `Origin`.
    pub origin: Field<'b>,
    /// `Access-Control-Request-Method`.
    pub requested_method: Field<'b>,
    /// `Access-Control-Request-Headers`.
    pub requested_headers: Field<'b>,
    /// `Connection`.
    pub connection: ConnectionOption,
    /// Whether it has an `Upgrade`.
    pub has_upgrade: bool,
    /// Whether it has a `TE`.
    pub has_te: bool,
    /// Whether it announces trailers (`Trailer`).
    pub has_trailer: bool,
    /// Whether its `Authorization` authenticates the connection (NTLM, Negotiate).
    pub authenticates_connection: bool,
    /// Whether it has a `Via`.
    pub has_via: bool,
    /// `Expect`.
    pub expect: Field<'b>,
    /// Whether it has a `Cookie`.
    pub has_cookie: bool,
    /// `Sec-Fetch-Mode`.
    pub fetch_mode: Option<&'b [u8]>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Option<&'b [u8]>,
    /// The fields.
    pub fields: &'h [Header<'b>],
}

/// How a request's body is framed ([RFC 9112 §6.3]).
///
/// [RFC 9112 §6.3]: https://www.rfc-editor.org/rfc/rfc9112#section-6.3
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes, possibly none.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// What `Connection` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionOption {
    /// Nothing, or that the connection stays open.
    #[default]
    Stays,
    /// That the connection closes after the response.
    Closes,
    /// More than that: it lists fields, or there are several lines.
    Lists,
}

/// Why bytes are not an acceptable request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP/1.1, or HTTP/1.1 that another server might read differently; with the reason.
    Malformed(&'static str),
    /// More bytes or fields than the limits allow.
    TooLarge,
    /// A longer target than the limit allows.
    UriTooLong,
}

/// Parses the request head that `bytes` begin with and passes it to `then`; `None`: the head is
/// incomplete.
///
/// # Errors
///
/// Why the head is refused. The connection cannot be used any further.
pub fn read_request<R>(
    bytes: &[u8],
    limits: &HeadLimits,
    then: impl FnOnce(&RequestHead<'_, '_>) -> R,
) -> Result<Option<R>, HeadError> {
    let mut usual = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    let mut slots = usual
        .get_mut(..limits.header_count.min(USUAL_FIELDS))
        .unwrap_or_default();
    let mut request = httparse::Request::new(&mut []);
    let mut result = request.parse_with_uninit_headers(bytes, slots);
    let mut many;
    if result == Err(httparse::Error::TooManyHeaders) && limits.header_count > USUAL_FIELDS {
        many = vec![MaybeUninit::uninit(); limits.header_count];
        slots = &mut many;
        request = httparse::Request::new(&mut []);
        result = request.parse_with_uninit_headers(bytes, slots);
    }
    let length = match result {
        Ok(Status::Complete(length)) if length <= limits.head_bytes => length,
        Ok(Status::Complete(_)) => return Err(HeadError::TooLarge),
        Ok(Status::Partial) => return too_long(bytes, limits).map_or(Ok(None), Err),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(error) => return Err(HeadError::Malformed(reason(error))),
    };
    let head = bytes.get(..length).unwrap_or_default();
    let target = request.path.unwrap_or_default();
    if target.len() > limits.uri_bytes {
        return Err(HeadError::UriTooLong);
    }
    RequestHead::new(head, &request).map(|head| Some(then(&head)))
}

fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a field name is not a token",
        httparse::Error::HeaderValue => "a field value has a forbidden byte",
        httparse::Error::NewLine => "a line does not end with CRLF",
        httparse::Error::Status | httparse::Error::Token => "the request line is invalid",
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::Version => "the HTTP version is neither 1.1 nor 1.0",
    }
}

/// Which limit an incomplete head exceeds. A target that is too long is refused only once the rest
/// of the head has arrived (within its own limit), because the head says who may read the response.
fn too_long(bytes: &[u8], limits: &HeadLimits) -> Option<HeadError> {
    // Room for the method, spaces and version.
    const REST_OF_LINE: usize = 64;
    if bytes.len() <= limits.head_bytes {
        return None;
    }
    let line = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(bytes.len());
    Some(match line > limits.uri_bytes.saturating_add(REST_OF_LINE) {
        true => HeadError::UriTooLong,
        false => HeadError::TooLarge,
    })
}

impl<'h, 'b> RequestHead<'h, 'b> {
    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&'b [u8]> {
        let mut fields = self.fields.iter();
        let field = fields.find(|field| is_named(field.name, name))?;
        Some(field.value)
    }

    /// The version.
    pub(crate) fn version(&self) -> Version {
        match self.is_http10 {
            true => Version::HTTP_10,
            false => Version::HTTP_11,
        }
    }

    /// Whether the client closes the connection after the response ([RFC 9112 §9.3]).
    ///
    /// [RFC 9112 §9.3]: https://www.rfc-editor.org/rfc/rfc9112#section-9.3
    pub(crate) fn closes(&self) -> bool {
        match self.connection {
            ConnectionOption::Closes => true,
            ConnectionOption::Stays if !self.is_http10 => false,
            ConnectionOption::Stays | ConnectionOption::Lists => {
                self.fields.lists(&CONNECTION, b"close")
                    || self.is_http10 && !self.fields.lists(&CONNECTION, KEEP_ALIVE)
            }
        }
    }

    /// Whether the client waits for `100 Continue` before it sends the body. An HTTP/1.0 client
    /// never does ([RFC 9110 §10.1.1]).
    ///
    /// [RFC 9110 §10.1.1]: https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
    pub(crate) fn expects_continue(&self) -> bool {
        matches!(self.expect, Field::One(value) if is_continue(value))
            && !self.is_http10
            && self.framing != Framing::Length(0)
    }

    fn new(bytes: &'b [u8], request: &'h httparse::Request<'_, 'b>) -> Result<Self, HeadError> {
        let (fields, malformed) = (&*request.headers, HeadError::Malformed);
        let method = request.method.unwrap_or_default();
        if !bytes.starts_with(method.as_bytes()) || !ends_lines_with_crlf(bytes, fields) {
            return Err(malformed("a line does not end with CRLF"));
        }
        let mut head = Self {
            bytes,
            method,
            target: request.path.unwrap_or_default(),
            is_http10: request.version == Some(0),
            framing: Framing::Length(0),
            host: Field::Absent,
            origin: Field::Absent,
            requested_method: Field::Absent,
            requested_headers: Field::Absent,
            connection: ConnectionOption::default(),
            has_upgrade: false,
            has_te: false,
            has_trailer: false,
            authenticates_connection: false,
            has_via: false,
            expect: Field::Absent,
            has_cookie: false,
            fetch_mode: None,
            fetch_site: None,
            fields: &[],
        };
        let (mut length, mut coding, mut connection) = <(Field, Field, Field)>::default();
        for field in fields {
            let is = |name: &str| is_named(field.name, name);
            // Lengths rule out nearly all names before any letter is compared.
            let place = match field.name.len() {
                2 if is("te") => {
                    head.has_te = true;
                    continue;
                }
                3 if is("via") => {
                    head.has_via = true;
                    continue;
                }
                4 if is("host") => &mut head.host,
                6 if is("origin") => &mut head.origin,
                6 if is("expect") => &mut head.expect,
                6 if is("cookie") => {
                    head.has_cookie = true;
                    continue;
                }
                7 if is("upgrade") => {
                    head.has_upgrade = true;
                    continue;
                }
                7 if is("trailer") => {
                    head.has_trailer = true;
                    continue;
                }
                10 if is("connection") => &mut connection,
                13 if is("authorization") => {
                    head.authenticates_connection |= authenticates_connection(field.value);
                    continue;
                }
                14 if is("content-length") => &mut length,
                14 if is("sec-fetch-mode") => {
                    head.fetch_mode = Some(field.value);
                    continue;
                }
                14 if is("sec-fetch-site") => {
                    head.fetch_site = Some(field.value);
                    continue;
                }
                17 if is("transfer-encoding") => &mut coding,
                14 | 17 if imitates_framing(field.name) => return Err(malformed(IMITATED_FRAMING)),
                29 if is("access-control-request-method") => &mut head.requested_method,
                30 if is("access-control-request-headers") => &mut head.requested_headers,
                _ => continue,
            };
            place.add(field.value);
        }
        head.framing = framing(length, coding, head.is_http10).map_err(malformed)?;
        head.connection = match connection {
            Field::Absent => ConnectionOption::Stays,
            Field::One(value) if value.eq_ignore_ascii_case(KEEP_ALIVE) => ConnectionOption::Stays,
            Field::One(value) if value.eq_ignore_ascii_case(b"close") => ConnectionOption::Closes,
            Field::One(_) | Field::Several => ConnectionOption::Lists,
        };
        if !head
            .target
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        {
            return Err(malformed(
                "the target has a fragment or a byte outside visible ASCII: percent-encode it",
            ));
        }
        head.fields = fields;
        Ok(head)
    }
}

/// How a body is framed, if there is only one way to read it. Requests with both fields, with
/// several of one, or with a coding besides `chunked`, can smuggle other requests ([RFC 9112
/// §11.2]).
///
/// [RFC 9112 §11.2]: https://www.rfc-editor.org/rfc/rfc9112#section-11.2
fn framing(length: Field<'_>, coding: Field<'_>, is_http10: bool) -> Result<Framing, &'static str> {
    match (length, coding) {
        (Field::Absent, Field::Absent) => Ok(Framing::Length(0)),
        (Field::One(digits), Field::Absent) => match parse_length(digits) {
            Some(length) => Ok(Framing::Length(length)),
            None => Err("Content-Length is not a valid number of bytes"),
        },
        (Field::Several, Field::Absent) => Err("more than one Content-Length field"),
        (Field::Absent, Field::One(_)) if is_http10 => {
            Err("Transfer-Encoding is not allowed in HTTP/1.0")
        }
        // The names of codings are case-insensitive (RFC 9112 §7).
        (Field::Absent, Field::One(coding)) if coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        (Field::Absent, _) => Err("Transfer-Encoding must be chunked, once"),
        (_, _) => Err("both Content-Length and Transfer-Encoding"),
    }
}

/// Parses a `Content-Length`: only digits, at most as many as a file size needs, without leading
/// zeros, which some parsers read as octal.
pub(crate) fn parse_length(digits: &[u8]) -> Option<u64> {
    // 18 digits always fit, and reach almost an exabyte.
    const MOST_DIGITS: usize = 18;
    let is_padded = digits.len() > 1 && digits.starts_with(b"0");
    let is_number = digits.iter().all(u8::is_ascii_digit);
    if digits.is_empty() || digits.len() > MOST_DIGITS || is_padded || !is_number {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0, |length, digit| length * 10 + u64::from(digit - b'0')),
    )
}

/// Limits on a request's head, checked before anything else.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// The target's length in bytes.
    pub uri_bytes: usize,
    /// The fields' length in bytes.
    pub head_bytes: usize,
    /// The number of fields.
    pub header_count: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        uri_bytes: 100,
        head_bytes: 400,
        header_count: 100,
    };

    fn read(text: &str) -> Result<Option<Framing>, HeadError> {
        read_request(text.as_bytes(), &LIMITS, |head| head.framing)
    }

    #[test]
    fn an_ambiguous_head_is_refused() {
        let good = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0)),
            (
                "PUT / HTTP/1.1\r\ncontent-length:  12 \r\n\r\nbody",
                Framing::Length(12),
            ),
            (
                "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
                Framing::Chunked,
            ),
            (
                "PUT / HTTP/1.1\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
                Framing::Chunked,
            ),
            ("GET / HTTP/1.0\r\n\r\n", Framing::Length(0)),
        ];
        for (text, framing) in good {
            assert_eq!(read(text), Ok(Some(framing)), "{text:?}");
            for end in 0..text.find("\r\n\r\n").unwrap() + 3 {
                assert_eq!(read(&text[..end]), Ok(None), "{:?}", &text[..end]);
            }
        }
        let bad = [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET /# HTTP/1.1\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 010\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: Chunked;q=1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: \r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ];
        for text in bad {
            assert!(
                matches!(read(text), Err(HeadError::Malformed(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn an_oversized_head_is_refused_before_it_is_complete() {
        let long = format!("GET /{}", "a".repeat(200));
        assert_eq!(read(&long), Ok(None));
        let long = format!("GET /{}", "a".repeat(400));
        assert_eq!(read(&long), Err(HeadError::UriTooLong));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(200));
        assert_eq!(read(&long), Err(HeadError::UriTooLong));
        let large = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(400));
        assert_eq!(read(&large), Err(HeadError::TooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A:\r\n".repeat(99));
        assert_eq!(
            read_request(
                many.as_bytes(),
                &HeadLimits {
                    header_count: 99,
                    ..LIMITS
                },
                |_| ()
            ),
            Err(HeadError::TooLarge)
        );
        let wide = HeadLimits {
            head_bytes: 4000,
            ..LIMITS
        };
        assert_eq!(
            read_request(many.as_bytes(), &wide, |head| head.fields.len()),
            Ok(Some(99))
        );
    }
}
