//! The one form in which browsers send an origin: scheme, host and port, each as the URL standard
//! serializes it ([URL, «host serializing»], [HTML, «ASCII serialization of an origin»]).
//!
//! [URL, «host serializing»]: https://url.spec.whatwg.org/#host-serializing
//! [HTML, «ASCII serialization of an origin»]: https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin

use std::net::{Ipv4Addr, Ipv6Addr};

/// A lint's code, message and hint.
pub(super) type Found = (&'static str, String, String);

/// The hint if it is unknown which origin was meant.
pub(super) const AS_BROWSERS_DO: &str = "use the form that browsers send: `https://app.example.com`, or \
                                         `https://*.example.com` for all subdomains";

/// The parts of an origin, or of a pattern of origins.
#[derive(Clone, Copy)]
pub(super) struct OriginParts<'o> {
    /// The text before `://`.
    pub(super) scheme: Option<&'o str>,
    pub(super) host: &'o str,
    /// The text after the host's colon.
    pub(super) port: Option<&'o str>,
}

impl<'o> OriginParts<'o> {
    /// Splits `origin`, which has no path.
    pub(super) fn of(origin: &'o str) -> Self {
        let (scheme, authority) = match origin.split_once("://") {
            Some((scheme, authority)) => (Some(scheme), authority),
            None => (None, origin),
        };
        // The colons of an IPv6 address are in brackets.
        let after_address = authority.rfind(']').map_or(0, |at| at + 1);
        let colon = authority
            .get(after_address..)
            .and_then(|rest| rest.rfind(':'));
        let (host, port) = match colon.map(|at| authority.split_at(after_address + at)) {
            Some((host, port)) => (host, port.get(1..)),
            None => (authority, None),
        };
        Self { scheme, host, port }
    }
}

/// Whether a browser could send an origin that `pattern` matches, and the pattern is in that form.
///
/// It may contain one `*` for whole components or for a part of a label.
pub(super) fn is_canonical(pattern: &str) -> bool {
    if matches!(pattern, "null" | "*") {
        return true;
    }
    let OriginParts { scheme, host, port } = OriginParts::of(pattern);
    let is_scheme = scheme.is_some_and(|scheme| {
        scheme.starts_with(|first: char| first.is_ascii_lowercase() || first == '*')
            && scheme.bytes().all(|byte| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'+' | b'-' | b'.' | b'*')
            })
    });
    pattern.matches('*').count() <= 1
        && is_scheme
        && is_host(host)
        && port.is_none_or(|port| is_port(scheme.unwrap_or_default(), port))
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']');
        let parsed = address.and_then(|address| address.parse::<Ipv6Addr>().ok());
        return parsed.is_some_and(|parsed| Some(&*parsed.to_string()) == address);
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    let last = labels.rsplit('.').next().unwrap_or_default();
    // Browsers parse a host that ends in a number as an address.
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    labels.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let is_letter = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'*')
    };
    !label.is_empty()
        && label.bytes().all(is_letter)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A port in the form that browsers send: without leading zeros, and not the scheme's default.
fn is_port(scheme: &str, port: &str) -> bool {
    if port == "*" {
        return true;
    }
    let number = port.parse::<u16>().ok();
    let is_own = matches!((scheme, port), ("https", "443") | ("http", "80"));
    number.is_some_and(|number| number.to_string() == port) && !is_own
}

/// Whether requests to it never leave the machine: loopback addresses, `localhost` and its
/// subdomains ([Secure Contexts, «Is origin potentially trustworthy?»]).
///
/// [Secure Contexts, «Is origin potentially trustworthy?»]: https://w3c.github.io/webappsec-secure-contexts/#is-origin-trustworthy
pub(super) fn is_local(origin: &str) -> bool {
    let host = OriginParts::of(origin).host;
    let name = host.strip_suffix('.').unwrap_or(host);
    let address = name.parse::<Ipv4Addr>();
    name == "localhost"
        || name.ends_with(".localhost")
        || name == "[::1]"
        || address.is_ok_and(|address| address.is_loopback())
}

/// Whether the origin, or one that the pattern matches, uses the network without TLS.
pub(super) fn is_plain_http(origin: &str) -> bool {
    (origin.starts_with("http://") || origin.starts_with("http*://")) && !is_local(origin)
}

/// Characters that are invisible, or that change the display order of others: zero width, byte
/// order mark, soft hyphen, and the controls of writing direction ([Unicode,
/// `Default_Ignorable_Code_Point` and `Bidi_Control`]).
///
/// [Unicode, `Default_Ignorable_Code_Point` and `Bidi_Control`]: https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point
pub(crate) fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_send_origins_in_one_form() {
        for origin in [
            "https://app.example",
            "https://app.example:8443",
            "https://app.example.",
            "http://localhost:3000",
            "http://minio:9001",
            "http://127.0.0.1:5173",
            "http://[::1]:3000",
            "https://*.app.example",
            "https://*--site.netlify.app",
            "http*://app.example",
            "http://localhost:*",
            "capacitor://localhost",
            "moz-extension://0a1b",
            "null",
            "*",
        ] {
            assert!(is_canonical(origin), "{origin}");
        }
        for origin in [
            "app.example",
            "https://",
            "https://app.example/",
            "https://App.example",
            "HTTPS://app.example",
            "https://app.example:",
            "https://app.example:443",
            "https://app.example:08443",
            "https://app.example:65536",
            "https://app..example",
            "https://.app.example",
            "https://*.--site.netlify.app",
            "https://app.example;https:",
            "https://me@app.example",
            "https://app example",
            "https://127.1",
            "https://1.2.3.256",
            "http://[0:0:0:0:0:0:0:1]",
            "https://*.*.example",
            "https://müller.example",
            "https://app\u{200b}.example",
            "",
        ] {
            assert!(!is_canonical(origin), "{origin}");
        }
    }

    #[test]
    fn only_loopback_is_local() {
        for origin in [
            "http://localhost:3000",
            "http://localhost:*",
            "http://app.localhost:5173",
            "http://*.localhost",
            "http*://localhost",
            "http://127.0.0.1",
            "http://127.9.9.9:1",
            "http://[::1]:3000",
        ] {
            assert!(is_local(origin), "{origin}");
        }
        for origin in [
            "http://localhost.evil.example",
            "http://localhost*",
            "http://127.evil.example",
            "http://notlocalhost",
            "http://10.0.0.1",
        ] {
            assert!(!is_local(origin), "{origin}");
        }
    }
}
