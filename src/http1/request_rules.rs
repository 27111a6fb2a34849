//! What a request asks of an intermediary: each rule written once, for heads as bytes and as header
//! maps.

use std::time::Duration;

use http::header::{CONNECTION, EXPECT, MAX_FORWARDS, UPGRADE};
use http::{Method, Version};

use super::fields::Fields;

/// How long a request's body waits for an upstream that never sends `100 Continue`.
pub(crate) const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// Whether the client asks to switch to a protocol that can be tunnelled ([RFC 9110 §7.8]).
///
/// `h2c` cannot be, not even as one of several: it would let a client smuggle requests past the
/// proxy.
///
/// [RFC 9110 §7.8]: https://www.rfc-editor.org/rfc/rfc9110#section-7.8
pub(crate) fn requests_upgrade(version: Version, fields: &(impl Fields + ?Sized)) -> bool {
    let mut protocols = fields.elements(&UPGRADE).peekable();
    version == Version::HTTP_11
        && protocols.peek().is_some()
        && !protocols.any(|protocol| protocol.to_ascii_lowercase().starts_with(b"h2c"))
        && fields.lists(&CONNECTION, b"upgrade")
}

/// Whether the client waits for `100 Continue` before it sends the body. HTTP/1.0 has no such rule
/// ([RFC 9110 §10.1.1]).
///
/// [RFC 9110 §10.1.1]: https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
pub(crate) fn expects_continue(version: Version, fields: &(impl Fields + ?Sized)) -> bool {
    let mut values = fields.field_values(&EXPECT);
    let value = values.next().filter(|_| values.next().is_none());
    version != Version::HTTP_10 && value.is_some_and(is_continue)
}

/// Whether a value of `Expect` is `100-continue`.
pub(crate) fn is_continue(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"100-continue")
}

/// How many more hops a request may take; `None`: unlimited. Applies only to TRACE and OPTIONS
/// ([RFC 9110 §7.6.2]).
///
/// [RFC 9110 §7.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.2
pub(crate) fn max_forwards(method: &Method, fields: &(impl Fields + ?Sized)) -> Option<u64> {
    if !matches!(*method, Method::TRACE | Method::OPTIONS) {
        return None;
    }
    let mut values = fields.field_values(&MAX_FORWARDS);
    let value = values.next().filter(|_| values.next().is_none())?;
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Saturates: a larger number still means more hops than any path has.
    let hops = std::str::from_utf8(value).map(|value| value.parse().unwrap_or(u64::MAX));
    hops.ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        fields.collect()
    }

    #[test]
    fn an_upgrade_needs_http11_and_both_fields_and_is_never_to_h2c() {
        let asks = |fields: &[(&'static str, &'static str)]| {
            requests_upgrade(Version::HTTP_11, &map(fields))
        };
        let both = [("upgrade", "websocket"), ("connection", "Upgrade")];
        assert!(asks(&both));
        assert!(!requests_upgrade(Version::HTTP_10, &map(&both)));
        assert!(!asks(&both[..1]));
        assert!(!asks(&both[1..]));
        for protocols in ["h2c", "websocket, H2C", "h2c-14"] {
            assert!(!asks(&[("upgrade", protocols), ("connection", "upgrade")]));
        }
    }

    #[test]
    fn a_single_expect_field_in_http11_waits_for_continue() {
        let one = map(&[("expect", "100-Continue")]);
        assert!(expects_continue(Version::HTTP_11, &one));
        assert!(expects_continue(Version::HTTP_2, &one));
        assert!(!expects_continue(Version::HTTP_10, &one));
        assert!(!expects_continue(
            Version::HTTP_11,
            &map(&[("expect", "else")])
        ));
        let mut two = one.clone();
        two.append(EXPECT, HeaderValue::from_static("100-continue"));
        assert!(!expects_continue(Version::HTTP_11, &two));
    }

    #[test]
    fn hops_are_counted_for_trace_and_options_with_one_number() {
        let hops = |method: Method, value| max_forwards(&method, &map(&[("max-forwards", value)]));
        assert_eq!(hops(Method::TRACE, "0"), Some(0));
        assert_eq!(hops(Method::OPTIONS, "17"), Some(17));
        assert_eq!(
            hops(Method::OPTIONS, "99999999999999999999"),
            Some(u64::MAX)
        );
        assert_eq!(hops(Method::GET, "0"), None);
        assert_eq!(hops(Method::OPTIONS, "00"), Some(0));
        let mut two = map(&[("max-forwards", "0")]);
        two.append(MAX_FORWARDS, HeaderValue::from_static("0"));
        assert_eq!(max_forwards(&Method::TRACE, &two), None);
        for invalid in ["", "-1", "+1", "1 2", "x"] {
            assert_eq!(hops(Method::TRACE, invalid), None, "{invalid}");
        }
    }
}
