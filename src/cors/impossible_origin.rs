//! Origins in which something stands that no browser's has: what S3 accepts, and what never matches.

use std::net::Ipv6Addr;

use super::doubtful_origin::Found;
use super::origin::mended;
use super::punycode::ascii_host;
use super::spelling::distance;

/// Quotation marks, as people and their word processors set them.
const QUOTES: [char; 9] = ['"', '\'', '`', '“', '”', '‘', '’', '«', '»'];

/// Why no browser could send an origin.
enum Fault {
    Quotes,
    Expression,
    /// With the scheme that was meant.
    Scheme(&'static str),
    User,
    Port,
    NotAscii,
}

/// An origin that no browser could send.
pub(super) fn impossible(origin: &str) -> Option<Found> {
    let bare = origin
        .trim_matches(|character: char| QUOTES.contains(&character) || character.is_whitespace());
    let fault = if origin.contains(QUOTES) {
        Fault::Quotes
    } else {
        Fault::of(bare)?
    };
    let Parts {
        rest, authority, ..
    } = Parts::of(bare);
    let scheme = bare.split_at(bare.len() - rest.len()).0;
    let host = |separator| {
        authority
            .rsplit_once(separator)
            .unwrap_or((authority, authority))
    };
    let (code, why, hint) = match fault {
        Fault::Quotes => {
            let why = "a browser sends none with quotation marks";
            ("origin-quotes", why, write(bare))
        }
        Fault::Expression => {
            let why = "it is compared as it stands, and only `*` stands for anything else";
            ("origin-expression", why, write(&without_expression(bare)))
        }
        Fault::Scheme(meant) => {
            let why = "browsers know no scheme like this";
            ("origin-scheme", why, write(&format!("{meant}://{rest}")))
        }
        Fault::User => {
            let (_, host) = host('@');
            let why = "a browser sends none with a user's name";
            ("origin-user", why, write(&format!("{scheme}{host}")))
        }
        Fault::Port => {
            let (host, _) = host(':');
            let any = format!("write the page's own port; `{scheme}{host}:*` is any");
            ("origin-port", "65535 is the highest port", any)
        }
        Fault::NotAscii => {
            let why = "a browser sends a name beyond ASCII in punycode";
            let hint = match ascii_host(authority) {
                Some(host) => write(&format!("{scheme}{host}")),
                None => "`new URL(…).origin` in a browser's console tells how".into(),
            };
            ("origin-not-ascii", why, hint)
        }
    };
    Some((code, format!("`{origin}` matches no origin: {why}"), hint))
}

impl Fault {
    fn of(origin: &str) -> Option<Self> {
        let parts = Parts::of(origin);
        let port = parts.authority.rsplit_once(':').map(|(_, port)| port);
        let is_number = |port: &&str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        if origin.contains(QUOTES) {
            Some(Self::Quotes)
        } else if is_expression(&parts) {
            Some(Self::Expression)
        } else if let Some(meant) = parts.scheme.and_then(scheme_meant) {
            Some(Self::Scheme(meant))
        } else if parts.authority.contains('@') {
            Some(Self::User)
        } else if port
            .filter(is_number)
            .is_some_and(|port| port.parse::<u16>().is_err())
        {
            Some(Self::Port)
        } else {
            (!parts.authority.is_ascii()).then_some(Self::NotAscii)
        }
    }
}

/// What to write instead, where `origin` is not wrong in yet another way.
fn write(origin: &str) -> String {
    let (right, _) = mended(origin);
    let authority = Parts::of(&right).authority;
    let is_site = authority.contains('.') || authority.starts_with("localhost");
    if right == "null" || (is_site && Fault::of(&right).is_none()) {
        return format!("write `{right}`");
    }
    "write it as a browser does: `https://app.example.com`, or `https://*.example.com` for all \
     sub-domains"
        .into()
}

/// An origin as it is written, with what a path may follow cut off.
struct Parts<'o> {
    /// What stands before `://`.
    scheme: Option<&'o str>,
    /// What stands behind it, or behind the `//` alone.
    rest: &'o str,
    /// The rest without a path.
    authority: &'o str,
}

impl<'o> Parts<'o> {
    fn of(origin: &'o str) -> Self {
        let (scheme, rest) = match origin.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, origin.trim_start_matches('/')),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        Self {
            scheme,
            rest,
            authority,
        }
    }
}

/// Whether it is a regular expression: they have signs that neither a scheme nor a host has.
fn is_expression(parts: &Parts<'_>) -> bool {
    let signs = ['\\', '^', '$', '(', ')', '{', '}', '|', '+'];
    let scheme = parts.scheme.unwrap_or_default();
    let address = parts
        .authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    let host = match address {
        Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() => rest,
        _ => parts.authority,
    };
    // Schemes may have a plus.
    scheme.contains(['?', '\\', '^', '(', '[', '|'])
        || host.contains(signs)
        || host.contains(['[', ']'])
        || host.starts_with(".*")
}

/// What the expression's author most probably wanted to match, as a pattern.
fn without_expression(origin: &str) -> String {
    let mut text = origin.replace('\\', "");
    text = text.replacen("https?://", "https://", 1);
    for any in ["[^.]+", "[^.]*", "[a-z0-9-]+", "[a-z0-9-]*", ".*", ".+"] {
        text = text.replace(&format!("({any})"), "*").replace(any, "*");
    }
    text = text.replace(['^', '$'], "");
    // One `*` is all that there may be.
    if text.matches('*').count() > 1 {
        String::new()
    } else {
        text
    }
}

/// The scheme that was meant by one that differs from it by a slip of the pen.
fn scheme_meant(written: &str) -> Option<&'static str> {
    let written = written.to_ascii_lowercase();
    if written.contains('*') || ["https", "http"].contains(&&*written) {
        return None;
    }
    if written == "wss" || written == "ws" {
        return Some(if written == "ws" { "http" } else { "https" });
    }
    let near = |scheme: &&str| {
        let apart = distance(&written, scheme);
        // Two letters that changed places are two apart.
        apart == 1 || (apart == 2 && written.len() == scheme.len() && written.starts_with('h'))
    };
    ["https", "http"].into_iter().find(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(origin: &str) -> Option<(&'static str, String)> {
        impossible(origin).map(|(code, _, hint)| (code, hint))
    }

    #[test]
    fn what_no_browser_sends_is_put_as_a_browser_would() {
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
            ("'null'", "origin-quotes", "null"),
            ("htps://app.example", "origin-scheme", "https://app.example"),
            (
                "httsp://app.example",
                "origin-scheme",
                "https://app.example",
            ),
            ("htp://app.example", "origin-scheme", "http://app.example"),
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
    fn what_was_meant_is_not_guessed() {
        for (origin, code) in [
            ("^https", "origin-expression"),
            (r"https://(a|b)\.example", "origin-expression"),
            (r".*\.a\..*", "origin-expression"),
            ("https://app.example:70000", "origin-port"),
            // Composed of a letter and its accent: a browser would make one of them.
            ("https://mu\u{308}nchen.example", "origin-not-ascii"),
            ("https://app\u{2013}one.example", "origin-not-ascii"),
        ] {
            let (found, hint) = hint(origin).expect(origin);
            assert_eq!(found, code, "{origin}");
            assert!(!hint.starts_with("write `"), "{origin}: {hint}");
        }
    }

    #[test]
    fn what_a_browser_may_send_is_left_alone() {
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
