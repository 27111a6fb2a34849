//! Origins in a form that S3 accepts but that no browser sends, so that they never match.

use super::origin_form::{AS_BROWSERS_DO, Found, OriginParts, is_canonical, is_invisible};
use super::origin_repair::{QUOTES, is_expression, listed, right, scheme_meant};
use super::punycode::ascii_host;

/// Why no browser sends an origin like this.
enum OriginFault {
    Invisible(char),
    List,
    Quotes,
    Expression,
    Scheme,
    User,
    Port(&'static str),
    NotAscii,
    Host,
}

/// An origin that no browser sends.
pub(super) fn impossible(origin: &str) -> Option<Found> {
    let fault = OriginFault::of(origin)?;
    let shown = match fault {
        OriginFault::Invisible(_) => origin.escape_debug().to_string(),
        _ => origin.to_owned(),
    };
    let (code, why, otherwise) = match fault {
        OriginFault::Invisible(one) => (
            "origin-invisible-character",
            format!(
                "it contains the invisible character U+{:04X}",
                u32::from(one)
            ),
            "remove it".to_owned(),
        ),
        OriginFault::List => {
            let hint = "give each origin its own AllowedOrigin".to_owned();
            let message =
                format!("`{shown}` matches no origin: an element can hold only one origin");
            return Some(("origin-list", message, hint));
        }
        OriginFault::Quotes => (
            "origin-quotes",
            "browsers send origins without quotation marks".to_owned(),
            AS_BROWSERS_DO.to_owned(),
        ),
        OriginFault::Expression => (
            "origin-expression",
            "it is compared literally, and only `*` is a wildcard".to_owned(),
            AS_BROWSERS_DO.to_owned(),
        ),
        OriginFault::Scheme => (
            "origin-scheme",
            "browsers do not know this scheme".to_owned(),
            AS_BROWSERS_DO.to_owned(),
        ),
        OriginFault::User => (
            "origin-user",
            "browsers send origins without a user name".to_owned(),
            AS_BROWSERS_DO.to_owned(),
        ),
        OriginFault::Port(why) => {
            let OriginParts { scheme, host, .. } = OriginParts::of(origin);
            let any = format!("{}://{host}:*", scheme.unwrap_or("https"));
            let hint = match is_canonical(&any) {
                true => format!("write the page's own port; `{any}` matches any port"),
                false => "write the page's own port".to_owned(),
            };
            ("origin-port", why.to_owned(), hint)
        }
        OriginFault::NotAscii => {
            let hint = match ascii_host(OriginParts::of(origin).host) {
                Some(_) => AS_BROWSERS_DO.to_owned(),
                None => {
                    "`new URL(…).origin` in a browser's console shows the right form".to_owned()
                }
            };
            let why = "browsers send names with letters beyond ASCII in punycode".to_owned();
            ("origin-not-ascii", why, hint)
        }
        OriginFault::Host => (
            "origin-host",
            "browsers do not send a host like this".to_owned(),
            AS_BROWSERS_DO.to_owned(),
        ),
    };
    let message = format!("`{shown}` matches no origin: {why}");
    Some((code, message, right(origin).unwrap_or(otherwise)))
}

impl OriginFault {
    fn of(origin: &str) -> Option<Self> {
        if let Some(one) = origin.chars().find(|one| is_invisible(*one)) {
            return Some(Self::Invisible(one));
        }
        if listed(origin).is_some() {
            return Some(Self::List);
        }
        let bare = origin.trim();
        let rest = bare.split_once("://").map_or(bare, |(_, rest)| rest);
        let rest = rest.trim_start_matches('/');
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let scheme = bare.split_once("://").map(|(scheme, _)| scheme);
        if origin.contains(QUOTES) {
            return Some(Self::Quotes);
        }
        if is_expression(bare) {
            return Some(Self::Expression);
        }
        if scheme.and_then(scheme_meant).is_some() {
            return Some(Self::Scheme);
        }
        if authority.contains('@') {
            return Some(Self::User);
        }
        let OriginParts { host, port, .. } = OriginParts::of(authority);
        // `https:/app.example` lacks a slash, not a port.
        let is_scheme = scheme.is_none() && ["http", "https"].contains(&host);
        if let Some(why) = port.filter(|_| !is_scheme).and_then(bad_port) {
            return Some(Self::Port(why));
        }
        if !authority.is_ascii() {
            return Some(Self::NotAscii);
        }
        let is_web = scheme.is_some_and(|scheme| scheme.starts_with("http"));
        // Other mistakes have their own messages.
        let is_plain = origin == authority || origin.ends_with(&format!("://{authority}"));
        let is_lower = !origin.bytes().any(|byte| byte.is_ascii_uppercase());
        (is_web && is_plain && is_lower && !is_canonical(&format!("x://{host}")))
            .then_some(Self::Host)
    }
}

/// Why browsers never send a port like this.
fn bad_port(port: &str) -> Option<&'static str> {
    if port.is_empty() {
        return Some("browsers send no colon without a port");
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match port.parse::<u16>() {
        Err(_) => Some("the highest port is 65535"),
        Ok(number) if number.to_string() != port => {
            Some("browsers send ports without leading zeros")
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(origin: &str) -> Option<(&'static str, String)> {
        impossible(origin).map(|(code, _, hint)| (code, hint))
    }

    #[test]
    fn impossible_origins_are_corrected_to_what_browsers_send() {
        for (origin, code, right) in [
            (
                r"https://.*\.app\.example",
                "origin-expression",
                "https://*.app.example",
            ),
            (
                r"^https://app\.example$",
                "origin-expression",
                "https://app.example",
            ),
            (
                "https?://app.example",
                "origin-expression",
                "https://app.example",
            ),
            (
                "https://[^.]+.app.example/",
                "origin-expression",
                "https://*.app.example",
            ),
            (
                "https://.*.app.example",
                "origin-expression",
                "https://*.app.example",
            ),
            (
                "\"https://app.example\"",
                "origin-quotes",
                "https://app.example",
            ),
            (
                "“https://app.example”",
                "origin-quotes",
                "https://app.example",
            ),
            ("htps://app.example", "origin-scheme", "https://app.example"),
            (
                "httsp://app.example",
                "origin-scheme",
                "https://app.example",
            ),
            (
                "https:://app.example",
                "origin-scheme",
                "https://app.example",
            ),
            ("wss://app.example", "origin-scheme", "https://app.example"),
            (
                "HTPS://App.example/",
                "origin-scheme",
                "https://app.example",
            ),
            (
                "https://me@app.example",
                "origin-user",
                "https://app.example",
            ),
            (
                "https://me:secret@app.example:8443",
                "origin-user",
                "https://app.example:8443",
            ),
            (
                "https://münchen.example",
                "origin-not-ascii",
                "https://xn--mnchen-3ya.example",
            ),
            (
                "https://*.bücher.example:8443",
                "origin-not-ascii",
                "https://*.xn--bcher-kva.example:8443",
            ),
        ] {
            assert_eq!(
                hint(origin),
                Some((code, format!("write `{right}`"))),
                "{origin}"
            );
        }
    }

    #[test]
    fn unclear_origins_are_not_guessed() {
        for (origin, code) in [
            ("^https", "origin-expression"),
            // Sandboxed frames have this origin; another lint warns about it.
            ("'null'", "origin-quotes"),
            // The intended scheme could be `https` or `http`.
            ("htp://app.example", "origin-scheme"),
            ("https://a.example;https://b.example", "origin-list"),
            ("https://a.examplehttps://b.example", "origin-list"),
            (r"https://.*a\.example", "origin-expression"),
            ("https://.a.example", "origin-host"),
            ("https://a..example", "origin-host"),
            ("https://1.2.3.256", "origin-host"),
            (r"https://(a|b)\.example", "origin-expression"),
            (r".*\.a\..*", "origin-expression"),
            ("https://app.example:70000", "origin-port"),
            // A letter with a separate accent: browsers compose them into one character.
            ("https://mu\u{308}nchen.example", "origin-not-ascii"),
            ("https://app\u{2013}one.example", "origin-not-ascii"),
        ] {
            let (found, hint) = hint(origin).expect(origin);
            assert_eq!(found, code, "{origin}");
            assert!(!hint.starts_with("write `"), "{origin}: {hint}");
        }
    }

    #[test]
    fn origins_that_browsers_send_are_accepted() {
        for origin in [
            "https://app.example",
            "https://app.example:65535",
            "http://[::1]:3000",
            "http://localhost:*",
            "https://*.app.example",
            "http*://app.example",
            "capacitor://localhost",
            "app+shell://app",
            "ftp://app.example",
            "moz-extension://0a1b",
            "file://",
            "null",
            "*",
            "",
        ] {
            assert_eq!(hint(origin), None, "{origin}");
        }
    }
}
