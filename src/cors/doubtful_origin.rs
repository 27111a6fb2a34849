//! Origins that S3 accepts in a rule but that are probably mistakes: no browser sends them, they
//! match more than one site, or they should not be trusted.

use super::impossible_origin::impossible;
use super::origin::{OriginDifference, corrected};
use super::origin_form::{Found, is_plain_http};
use super::origin_repair::right_or_how;

/// An origin in a form that no browser sends.
pub(super) fn written_wrongly(origin: &str) -> Option<Found> {
    if origin.is_empty() {
        let message = "an empty AllowedOrigin matches no origin";
        return Some(("origin-empty", message.into(), "remove it".into()));
    }
    if let Some(found) = impossible(origin) {
        return Some(found);
    }
    let (code, why) = if origin.trim().contains(char::is_whitespace) {
        (
            "origin-white-space",
            "browsers send origins without white space",
        )
    } else if has_broken_scheme(origin) {
        ("origin-no-scheme", "a scheme is followed by `://`")
    } else {
        let (right, slips) = corrected(origin);
        match slips.first()? {
            OriginDifference::WhiteSpace => (
                "origin-white-space",
                "browsers send origins without white space",
            ),
            OriginDifference::Path if origin.ends_with('/') && right.len() + 1 == origin.len() => (
                "origin-trailing-slash",
                "browsers send origins without a trailing slash",
            ),
            OriginDifference::Path => ("origin-path", "browsers send origins without a path"),
            OriginDifference::Case => ("origin-upper-case", "browsers send origins in lower case"),
            OriginDifference::DefaultPort => (
                "origin-default-port",
                "browsers omit the scheme's default port",
            ),
            OriginDifference::NoScheme => {
                ("origin-no-scheme", "browsers send origins with a scheme")
            }
            _ => return None,
        }
    };
    let message = format!("`{origin}` matches no origin: {why}");
    Some((code, message, right_or_how(origin)))
}

/// An origin that should not be trusted with credentials.
pub(super) fn trusting(origin: &str) -> Option<Found> {
    if origin == "null" {
        let message = "`null` is the origin of sandboxed frames and of data: and file: URLs: any \
                       site can create such a page, which then gets credentials";
        let hint = "serve the page from its own origin";
        return Some(("origin-null", message.into(), hint.into()));
    }
    if is_plain_http(origin) {
        let message = format!(
            "`{origin}` allows plain HTTP: anyone who controls the network can act as the site, with \
             credentials"
        );
        let hint = "use https:// as soon as the site supports it";
        return Some(("origin-plain-http", message, hint.into()));
    }
    None
}

/// Whether `https:/` or `https//` was written instead of `https://`.
fn has_broken_scheme(origin: &str) -> bool {
    ["https", "http"].into_iter().any(|scheme| {
        let rest = origin.strip_prefix(scheme).unwrap_or_default();
        let cut = rest.len() - rest.trim_start_matches([':', '/']).len();
        matches!(rest.get(..cut), Some(":/" | "//" | ":"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cors::wide_origin::wide;

    #[test]
    fn an_incomplete_scheme_is_completed() {
        for (origin, right) in [
            ("https:/app.example.com", "https://app.example.com"),
            ("https//app.example.com", "https://app.example.com"),
            ("http:localhost:3000", "http://localhost:3000"),
            ("https.example.com", "https://https.example.com"),
            ("app.example.com", "https://app.example.com"),
        ] {
            let (code, _, hint) = written_wrongly(origin).unwrap();
            assert_eq!(
                (code, hint),
                ("origin-no-scheme", format!("write `{right}`"))
            );
        }
        for (origin, right) in [
            ("*://app.example.com", "https://app.example.com"),
            ("*.example.com", "https://*.example.com"),
        ] {
            let (code, _, hint) = wide(origin).unwrap();
            assert_eq!(
                (code, hint),
                ("origin-no-scheme", format!("write `{right}`"))
            );
        }
    }
}
