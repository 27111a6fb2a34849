//! The fields that are meant for one connection only; an intermediary does not forward them ([RFC
//! 9110 §7.6.1]).
//!
//! [RFC 9110 §7.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1

use http::header::CONNECTION;

use super::claims::is_claim;
use super::fields::{Fields, is_named};

/// Whether a field is always one of them, even if `Connection` does not list it.
pub(crate) fn includes(name: &str) -> bool {
    let is = |other: &str| is_named(name, other);
    // Lengths rule out nearly all names before any letter is compared.
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

/// Whether `Connection` lists this field, and it may be removed that way.
pub(crate) fn removed_by_connection(name: &str, fields: &(impl Fields + ?Sized)) -> bool {
    fields.lists(&CONNECTION, name.as_bytes()) && !is_end_to_end(name)
}

/// Fields that a client cannot remove by listing them in `Connection`: they route, frame, identify
/// or decide.
fn is_end_to_end(name: &str) -> bool {
    const FIELDS: [&str; 6] = [
        "host",
        "origin",
        "authorization",
        "cookie",
        "content-length",
        "via",
    ];
    const PREFIXES: [&str; 2] = ["access-control-", "x-amz-"];
    let starts_with = |prefix: &str| {
        let start = name.as_bytes().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    FIELDS.iter().any(|field| is_named(name, field))
        || PREFIXES.into_iter().any(starts_with)
        || is_claim(name)
}

#[cfg(test)]
mod tests {
    use super::*;

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
