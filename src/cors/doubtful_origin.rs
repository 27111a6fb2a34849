//! Origins that S3 accepts in a rule and that hardly do what is meant: no browser sends them, they match
//! more than their site, or they should not be trusted.

use super::impossible_origin::impossible;
use super::origin::{OriginDifference, mended};
use super::origin_form::{Found, is_plain_http};
use super::origin_repair::right_or_how;

/// An origin that no browser sends like this.
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
            "a browser sends none with white space in it",
        )
    } else if has_broken_scheme(origin) {
        ("origin-no-scheme", "behind a scheme stands `://`")
    } else {
        let (right, slips) = mended(origin);
        match slips.first()? {
            OriginDifference::WhiteSpace => (
                "origin-white-space",
                "a browser sends none with white space around it",
            ),
            OriginDifference::Path if origin.ends_with('/') && right.len() + 1 == origin.len() => (
                "origin-trailing-slash",
                "a browser sends none with a slash at its end",
            ),
            OriginDifference::Path => ("origin-path", "a browser sends none with a path"),
            OriginDifference::Case => ("origin-upper-case", "a browser sends none with capitals"),
            OriginDifference::DefaultPort => (
                "origin-default-port",
                "a browser sends none with the scheme's own port",
            ),
            OriginDifference::NoScheme => ("origin-no-scheme", "a browser's begins with a scheme"),
            _ => return None,
        }
    };
    let message = format!("`{origin}` matches no origin: {why}");
    Some((code, message, right_or_how(origin)))
}

/// An origin that should not be trusted with credentials.
pub(super) fn trusting(origin: &str) -> Option<Found> {
    if origin == "null" {
        let message = "`null` is the origin of sandboxed frames, data: and file: URLs: any site \
                       can make such a page, and it gets credentials";
        let hint = "serve the page from an origin of its own";
        return Some(("origin-null", message.into(), hint.into()));
    }
    if is_plain_http(origin) {
        let message = format!(
            "`{origin}` lets in plain HTTP: whoever controls the network speaks for the site, with \
             credentials"
        );
        let hint = "write https:// once the site has it";
        return Some(("origin-plain-http", message, hint.into()));
    }
    None
}

/// Whether `https:/` or `https//` stands for `https://`.
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
    fn a_scheme_that_is_not_whole_is_made_whole() {
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
