//! Field lines in place, as they stand in a head.

use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::Header;

/// `Connection: close` as a line.
pub(crate) const CLOSE: &[u8] = b"connection: close\r\n";

/// A value of `Connection` that changes nothing in HTTP/1.1.
pub(crate) const KEEP_ALIVE: &[u8] = b"keep-alive";

/// The most fields that are parsed without an allocation.
pub(crate) const USUAL_FIELDS: usize = 96;

/// Whether a field's name is `lower`, a name of lower-case letters, digits and hyphens, in any
/// letter case.
///
/// It compares eight bytes at once, because it runs several times for each field of each message.
/// Setting the lower-case bit is enough: among the bytes of a token ([RFC 9110 §5.6.2]), only
/// upper-case letters turn into a byte that `lower` may contain.
///
/// [RFC 9110 §5.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
#[inline]
pub(crate) fn is_named(name: &str, lower: &str) -> bool {
    const LOWER: u8 = 0x20;
    debug_assert!(
        lower
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')),
        "{lower} has a byte that cannot be compared"
    );
    if name.len() != lower.len() {
        return false;
    }
    let (eights, rest) = name.as_bytes().as_chunks::<8>();
    let (expected_eights, expected) = lower.as_bytes().as_chunks::<8>();
    let (fours, rest) = rest.as_chunks::<4>();
    let (expected_fours, expected) = expected.as_chunks::<4>();
    let is_eight = |(bytes, expected): (&[u8; 8], &[u8; 8])| {
        u64::from_ne_bytes(*bytes) | u64::from_ne_bytes([LOWER; 8]) == u64::from_ne_bytes(*expected)
    };
    let is_four = |(bytes, expected): (&[u8; 4], &[u8; 4])| {
        u32::from_ne_bytes(*bytes) | u32::from_ne_bytes([LOWER; 4]) == u32::from_ne_bytes(*expected)
    };
    eights.iter().zip(expected_eights).all(is_eight)
        && fours.iter().zip(expected_fours).all(is_four)
        && rest
            .iter()
            .zip(expected)
            .all(|(byte, expected)| byte | LOWER == *expected)
}

/// The fields of a message, in order.
pub(crate) trait Fields {
    /// The values of all lines of one field.
    fn field_values(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &[u8]>;

    /// The elements of a list field, across all its lines.
    fn elements(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        self.field_values(name)
            .flat_map(|line| line.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
    }

    /// Whether a list field has an element, ignoring letter case.
    fn lists(&self, name: &HeaderName, element: &[u8]) -> bool {
        self.elements(name)
            .any(|listed| listed.eq_ignore_ascii_case(element))
    }
}

impl Fields for [Header<'_>] {
    fn field_values(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
        let name = name.as_str();
        self.iter()
            .filter(move |field| is_named(field.name, name))
            .map(|field| field.value)
    }
}

impl Fields for HeaderMap {
    fn field_values(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

/// How often a field occurs in a head, and its value.
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

    /// The value, if the field occurs once. `Err` if it occurs several times.
    pub fn at_most_one(self) -> Result<Option<&'b [u8]>, Several> {
        match self {
            Field::Absent => Ok(None),
            Field::One(value) => Ok(Some(value)),
            Field::Several => Err(Several),
        }
    }
}

/// Whether credentials or a challenge use a scheme that authenticates the connection instead of the
/// request: NTLM and Negotiate ([RFC 4559 §6]).
///
/// [RFC 4559 §6]: https://www.rfc-editor.org/rfc/rfc4559#section-6
pub(crate) fn authenticates_connection(value: &[u8]) -> bool {
    // One line may hold several challenges.
    let mut elements = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    elements.any(|element| {
        let scheme = element.split(|byte| byte.is_ascii_whitespace()).next();
        let is = |name: &[u8]| scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(name));
        is(b"ntlm") || is(b"negotiate")
    })
}

/// A field occurs more than once, where only one is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several;

/// Where `part`, which is a part of `whole`, begins.
pub(crate) fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr())
}

/// Whether every line of a head ends with CRLF. A parser may accept LF alone ([RFC 9112 §2.2]), and
/// then two parsers could see different lines.
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
    // The line ends before each field, before the empty line, and of that line itself.
    let mut ends = starts.chain([head.len().saturating_sub(2), head.len()]);
    // A trailer section begins directly with its first field.
    ends.all(|end| end == 0 || ends_line(end))
}

/// Copies the lines of the fields that are kept, joining adjacent lines into one copy. `kept` is
/// called once for each field, in order.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All bytes of a token (RFC 9110 §5.6.2).
    const TOKEN: &str = "[!#$%&'*+.^_`|~0-9A-Za-z-]{0,24}";

    proptest! {
        #[test]
        fn a_name_is_compared_as_ascii_without_letter_case(
            name in TOKEN, lower in "[a-z0-9-]{0,24}", letter_case in any::<u32>(),
        ) {
            prop_assert_eq!(is_named(&name, &lower), name.eq_ignore_ascii_case(&lower));
            let cased = lower.char_indices().map(|(index, letter)| match letter_case >> index & 1 {
                1 => letter.to_ascii_uppercase(),
                _ => letter,
            });
            let cased: String = cased.collect();
            prop_assert!(is_named(&cased, &lower));
        }

        #[test]
        fn a_name_that_differs_in_one_byte_does_not_match(
            lower in "[a-z0-9-]{1,24}", place in any::<prop::sample::Index>(), other in TOKEN,
        ) {
            let place = place.index(lower.len());
            for byte in other.chars().filter(|byte| !lower[place..].starts_with(byte.to_ascii_lowercase())) {
                let mut name = lower.clone();
                name.replace_range(place..=place, &byte.to_string());
                prop_assert!(!is_named(&name, &lower), "{name} matches {lower}");
            }
        }
    }
}
