//! Trace context: the `traceparent` field of [W3C Trace Context].
//!
//! The field is forwarded unchanged unless the proxy inserts its own span.
//!
//! [W3C Trace Context]: https://www.w3.org/TR/trace-context/

use std::fmt;
use std::str::Split;

use http::HeaderName;

use crate::http1::fields::Fields;

/// The field's name.
pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The ID that all spans of a trace share; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub u128);

/// The trace that a client's request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: TraceId,
    /// The client's span; never 0.
    pub parent_id: u64,
    /// The flags as they came.
    pub flags: u8,
}

impl TraceParent {
    /// The flag that the client records the trace.
    pub const SAMPLED: u8 = 1;

    /// Reads a request's field. Several fields, or a malformed one, are ignored ([§3.2.2.5]).
    ///
    /// [§3.2.2.5]: https://www.w3.org/TR/trace-context/#versioning-of-traceparent
    pub(crate) fn of(fields: &(impl Fields + ?Sized)) -> Option<Self> {
        let mut values = fields.field_values(&TRACEPARENT);
        let value = values.next().filter(|_| values.next().is_none())?;
        Self::parse(std::str::from_utf8(value).ok()?)
    }

    /// Parses one field value.
    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let version = hex(&mut parts, 2)?;
        let parent = Self {
            trace_id: TraceId(hex(&mut parts, 32)?),
            parent_id: u64::try_from(hex(&mut parts, 16)?).ok()?,
            flags: u8::try_from(hex(&mut parts, 2)?).ok()?,
        };
        // Version 0 has no more parts; later versions may add some. 255 is invalid.
        let is_whole = version != 0 || parts.next().is_none();
        let is_valid = is_whole && version != 0xff;
        (is_valid && parent.trace_id.0 != 0 && parent.parent_id != 0).then_some(parent)
    }

    /// Whether the client records the trace.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & Self::SAMPLED != 0
    }
}

/// Parses exactly this many lower-case hexadecimal digits.
fn hex(parts: &mut Split<'_, char>, digits: usize) -> Option<u128> {
    let part = parts.next().filter(|part| part.len() == digits)?;
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_valid = part.bytes().all(is_hex);
    u128::from_str_radix(part, 16).ok().filter(|_| is_valid)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_malformed_traceparent_is_ignored() {
        // The first is the example of §3.2.3 of the specification.
        let cases = [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), Some(true)),
            (format!("00-{TRACE}-00f067aa0ba902b7-00"), Some(false)),
            (format!("00-{TRACE}-00f067aa0ba902b7-03"), Some(true)),
            (
                format!("cc-{TRACE}-00f067aa0ba902b7-01-what-comes"),
                Some(true),
            ),
            (format!("00-{TRACE}-00f067aa0ba902b7-01-more"), None),
            (format!("ff-{TRACE}-00f067aa0ba902b7-01"), None),
            (format!("00-{TRACE}-0000000000000000-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
            (
                format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
                None,
            ),
            (format!("00-+{}-00f067aa0ba902b7-01", &TRACE[1..]), None),
            (format!("00-{TRACE}-00f067aa0ba902b7"), None),
            (format!("00-{TRACE}-00f067aa0ba902b7-1"), None),
            (String::new(), None),
            ("-".repeat(60), None),
        ];
        for (value, is_sampled) in cases {
            let parent = TraceParent::parse(&value);
            assert_eq!(parent.map(TraceParent::is_sampled), is_sampled, "{value}");
            if let Some(parent) = parent {
                assert_eq!(parent.trace_id.to_string(), TRACE);
                assert_eq!(parent.parent_id, 0x00f0_67aa_0ba9_02b7);
            }
        }
    }

    #[test]
    fn two_traceparents_are_ignored() {
        let mut headers = HeaderMap::new();
        let value = || format!("00-{TRACE}-00f067aa0ba902b7-01").parse().unwrap();
        headers.append(&TRACEPARENT, value());
        assert!(TraceParent::of(&headers).is_some());
        headers.append(&TRACEPARENT, value());
        assert_eq!(TraceParent::of(&headers), None);
    }
}
