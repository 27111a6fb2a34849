//! The fields of a message that are meant for one connection only: no intermediary forwards them
//! ([RFC 9110 §7.6.1]).
//!
//! [RFC 9110 §7.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName};

/// Removes those that `Connection` lists, then `Connection` itself and its old companions. The
/// message's framing was read already.
pub(super) fn remove(fields: &mut HeaderMap) {
    if let Some(connection) = fields.get(CONNECTION) {
        let says_only = connection.as_bytes();
        let names_nothing = matches!(says_only, b"keep-alive" | b"close");
        if !names_nothing || fields.get_all(CONNECTION).iter().nth(1).is_some() {
            remove_listed(fields);
        }
    }
    // Most messages have one of them or none: their names are looked at, instead of looking up each
    // that there might be.
    let is_included = |name: &&HeaderName| includes(name.as_str());
    while let Some(name) = fields.keys().find(is_included).cloned() {
        fields.remove(name);
    }
}

/// Removes the fields that `Connection` names.
fn remove_listed(fields: &mut HeaderMap) {
    let listed: Vec<HeaderName> = elements(fields, &CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| !is_end_to_end(name.as_str()))
        .collect();
    for name in listed {
        fields.remove(name);
    }
}

/// Whether a field is one of them, whatever `Connection` names.
pub(super) fn includes(name: &str) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    // Lengths tell nearly all names apart before any letter is compared.
    match name.len() {
        2 => is("te"),
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        14 => is("http2-settings"),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        _ => false,
    }
}

/// Fields that a client may not have removed by naming them in `Connection`: what routes,
/// frames, identifies or decides.
pub(super) fn is_end_to_end(name: &str) -> bool {
    const FIELDS: [&str; 7] = [
        "host",
        "origin",
        "authorization",
        "cookie",
        "content-length",
        "forwarded",
        "via",
    ];
    const PREFIXES: [&str; 4] = ["access-control-", "x-forwarded-", "x-amz-", "x-s3cors-"];
    let starts_with = |prefix: &str| {
        let start = name.as_bytes().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field))
        || PREFIXES.into_iter().any(starts_with)
}

/// Whether a list field has an element, in any letter case.
pub(super) fn lists(fields: &HeaderMap, name: &HeaderName, element: &[u8]) -> bool {
    elements(fields, name).any(|listed| listed.eq_ignore_ascii_case(element))
}

/// The elements of a list field, over all its lines.
pub(super) fn elements<'f>(
    fields: &'f HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'f [u8]> {
    let lines = fields.get_all(name).iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    elements.map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_connection_lists_goes_but_not_what_decides() {
        let lines = [
            ("connection", "close, X-Private, Origin, host"),
            ("connection", "Authorization"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("origin", "https://a.example"),
            ("host", "a"),
            ("authorization", "AWS4-HMAC-SHA256"),
            ("etag", "\"1\""),
        ];
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(name, HeaderValue::from_static(value));
        }
        remove(&mut fields);
        let mut left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "etag", "host", "origin"]);
    }

    #[test]
    fn connection_fields_are_known_in_any_letter_case() {
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "TE",
            "Transfer-Encoding",
            "UPGRADE",
            "HTTP2-Settings",
        ] {
            assert!(includes(name), "{name}");
        }
        for name in [
            "host",
            "trailer",
            "warning",
            "etag",
            "content-length",
            "te-",
            "",
        ] {
            assert!(!includes(name), "{name}");
        }
    }
}
