//! Field lines where they stand in a head.

use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::Header;

/// `Connection: close`, as it is written.
pub(crate) const CLOSE: &[u8] = b"connection: close\r\n";

/// `Connection`'s value that changes nothing in HTTP/1.1.
pub(crate) const KEEP_ALIVE: &[u8] = b"keep-alive";

/// The most fields that are read without an allocation.
pub(crate) const USUAL_FIELDS: usize = 96;

/// The fields of a message, in order.
pub(crate) trait Fields {
    /// The values of one field's lines.
    fn field_values(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &[u8]>;

    /// The elements of a list field, over all its lines.
    fn elements(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        self.field_values(name)
            .flat_map(|line| line.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
    }

    /// Whether a list field has an element, in any letter case.
    fn lists(&self, name: &HeaderName, element: &[u8]) -> bool {
        self.elements(name)
            .any(|listed| listed.eq_ignore_ascii_case(element))
    }
}

impl Fields for [Header<'_>] {
    fn field_values(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name.as_str()))
            .map(|field| field.value)
    }
}

impl Fields for HeaderMap {
    fn field_values(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

/// How often a field stands in a head, and its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field<'b> {
    /// Not at all.
    #[default]
    Absent,
    /// Once.
    One(&'b [u8]),
    /// More than once.
    Several,
}

impl<'b> Field<'b> {
    pub fn add(&mut self, value: &'b [u8]) {
        *self = match self {
            Self::Absent => Self::One(value),
            Self::One(_) | Self::Several => Self::Several,
        };
    }

    /// The one value. `Err` where there are several.
    pub fn at_most_one(self) -> Result<Option<&'b [u8]>, Several> {
        match self {
            Field::Absent => Ok(None),
            Field::One(value) => Ok(Some(value)),
            Field::Several => Err(Several),
        }
    }
}

/// Whether credentials or a challenge belong to a scheme that authenticates the connection, and not
/// the request: NTLM and Negotiate ([RFC 4559 §6]).
///
/// [RFC 4559 §6]: https://www.rfc-editor.org/rfc/rfc4559#section-6
pub(crate) fn authenticates_connection(value: &[u8]) -> bool {
    // Several challenges may stand in one line.
    let mut elements = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    elements.any(|element| {
        let scheme = element.split(|byte| byte.is_ascii_whitespace()).next();
        let is = |name: &[u8]| scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(name));
        is(b"ntlm") || is(b"negotiate")
    })
}

/// A field that may stand once in a head stands there more often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several;

/// Where `part` begins in `whole`, of which it is a part.
pub(crate) fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr())
}

/// Whether every line of a head ends with CRLF: a parser may take LF alone ([RFC 9112 §2.2]), and
/// then somebody else would see other lines.
///
/// [RFC 9112 §2.2]: https://www.rfc-editor.org/rfc/rfc9112#section-2.2
pub(crate) fn ends_lines_with_crlf(head: &[u8], fields: &[Header<'_>]) -> bool {
    let starts = fields
        .iter()
        .map(|field| offset(head, field.name.as_bytes()));
    let ends_line = |end| {
        head.get(..end)
            .is_some_and(|lines| lines.ends_with(b"\r\n"))
    };
    // Before each field, before the empty line, and that line itself.
    let mut ends = starts.chain([head.len().saturating_sub(2), head.len()]);
    // A trailer section begins with its first field.
    ends.all(|end| end == 0 || ends_line(end))
}

/// Copies the lines of the fields that are kept, as many at a time as stand together. `kept` is
/// asked once for each field, in order.
pub(crate) fn copy_runs<'b>(
    head: &'b [u8],
    fields: &[Header<'b>],
    out: &mut Vec<u8>,
    mut kept: impl FnMut(&Header<'b>) -> bool,
) {
    let mut run = None;
    for field in fields {
        let start = offset(head, field.name.as_bytes());
        match (kept(field), run) {
            (true, None) => run = Some(start),
            (false, Some(from)) => {
                out.extend_from_slice(head.get(from..start).unwrap_or_default());
                run = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    if let Some(from) = run {
        let lines = head.get(from..).unwrap_or_default();
        out.extend_from_slice(lines.strip_suffix(b"\r\n").unwrap_or_default());
    }
}
