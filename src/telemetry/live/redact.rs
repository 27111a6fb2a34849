//! Redacts targets and `Referer` values in events, so that a reader cannot repeat a request.
//!
//! No list of secrets is complete, because every program has its own names for tokens. So only
//! values known to be harmless are shown, and everything else becomes `-`.

use crate::routing::bucket::percent_decoded;

/// The most bytes shown of a target.
const MAX_TARGET: usize = 512;

/// S3's query parameters whose values are harmless, in lower case.
const HARMLESS: [&str; 14] = [
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "list-type",
    "max-keys",
    "max-parts",
    "max-uploads",
    "partnumber",
    "response-content-type",
    "x-amz-algorithm",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-id",
];

/// S3's subresources, which have no value.
const SUBRESOURCES: [&str; 22] = [
    "accelerate",
    "acl",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "object-lock",
    "policy",
    "replication",
    "restore",
    "retention",
    "select",
    "tagging",
    "torrent",
    "uploads",
    "versioning",
    "versions",
];

/// A target with `-` in place of possible secrets, cut.
pub(crate) fn target(target: &str) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut shown = self::path(path).to_owned();
    for (place, parameter) in query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .enumerate()
    {
        shown.push(if place == 0 { '?' } else { '&' });
        shown.push_str(&self::parameter(parameter));
        if shown.len() > MAX_TARGET {
            break;
        }
    }
    // A target is always ASCII. If it were not, a character could be split.
    while shown.len() > MAX_TARGET || !shown.is_char_boundary(shown.len()) {
        shown.pop();
    }
    shown
}

/// A path up to its first question mark in any encoding, because what follows was meant as a query.
/// Parameters of a segment (`;name=value`) are removed, too.
pub(crate) fn path(path: &str) -> &str {
    let mut encoded = path.char_indices().filter(|(_, char)| *char == '%');
    let is_mark = |at: usize| {
        let rest = path.get(at..).unwrap_or_default();
        // `%3F`, `%253F`, …
        let rest = rest.trim_start_matches('%');
        let mut rest = rest;
        while let Some(after) = rest.strip_prefix("25") {
            rest = after;
        }
        let hex = rest.get(..2).unwrap_or_default();
        hex.eq_ignore_ascii_case("3f") || hex.eq_ignore_ascii_case("3b")
    };
    let mark = encoded.find(|(at, _)| is_mark(*at)).map(|(at, _)| at);
    let parameters = path.find(';');
    let end = [mark, parameters].into_iter().flatten().min();
    path.get(..end.unwrap_or(path.len())).unwrap_or_default()
}

fn parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, value)) => {
            let plain = percent_decoded(name).to_ascii_lowercase();
            let is_harmless = HARMLESS.contains(&&*plain) && is_plain(value);
            let name = if is_plain(name) || is_harmless {
                name
            } else {
                "-"
            };
            format!("{name}={}", if is_harmless { value } else { "-" })
        }
        None if parameter.is_empty() || SUBRESOURCES.contains(&parameter) => parameter.to_owned(),
        // A name without a value may itself be the secret.
        None => "-".to_owned(),
    }
}

/// Whether a text is short and has no escapes. Parameter names are plain; a secret that follows an
/// encoded `=` in one is not.
fn is_plain(text: &str) -> bool {
    text.len() <= 40
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// A `Referer` without query, fragment and password.
pub(crate) fn referer(value: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(value) else {
        return "-".to_owned();
    };
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let text = text.get(..end).unwrap_or_default();
    let Some((scheme, rest)) = text.split_once("://") else {
        return "-".to_owned();
    };
    let (authority, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{}", path(rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "5ec2e7";

    #[test]
    fn only_harmless_values_are_shown() {
        let cases = [
            ("/a/b.jpg", "/a/b.jpg"),
            (
                "/b?list-type=2&delimiter=-&uploads",
                "/b?list-type=2&delimiter=-&uploads",
            ),
            (
                "/b?X-Amz-Date=20261130T000000Z&partNumber=7",
                "/b?X-Amz-Date=20261130T000000Z&partNumber=7",
            ),
            ("/b?prefix=a%2Fb&uploadId=abc", "/b?prefix=-&uploadId=-"),
            ("/b?X-Amz-Signature=5ec2e7", "/b?X-Amz-Signature=-"),
            ("/b?X-Amz-Credential=AKIA%2F1", "/b?X-Amz-Credential=-"),
            ("/b?X%2DAmz%2DSignature=5ec2e7", "/b?-=-"),
            ("/b?X-Amz-Signature%3D5ec2e7", "/b?-"),
            ("/b?list-type=2;Signature=5ec2e7", "/b?list-type=-"),
            ("/b?list-type=2%26Signature%3D5ec2e7", "/b?list-type=-"),
            ("/b?5ec2e7", "/b?-"),
            ("/b?a=1?Signature=5ec2e7", "/b?a=-"),
            ("/b%3FSignature=5ec2e7", "/b"),
            ("/b%253fSignature=5ec2e7", "/b"),
            ("/b;token=5ec2e7/c", "/b"),
            ("/b%3btoken=5ec2e7/c", "/b"),
            ("/a%20b%2525", "/a%20b%2525"),
            ("*", "*"),
            ("/b?", "/b?"),
        ];
        for (target, expected) in cases {
            assert_eq!(super::target(target), expected, "{target}");
        }
        assert!(super::target(&format!("/{}", "a".repeat(10_000))).len() <= MAX_TARGET);
        assert!(super::target(&format!("/?{}", "a=b&".repeat(10_000))).len() <= MAX_TARGET);
    }

    #[test]
    fn a_referer_is_shown_without_possible_secrets() {
        let cases = [
            (
                "https://app.example/album?token=5ec2e7#5ec2e7",
                "https://app.example/album",
            ),
            ("https://user:5ec2e7@app.example/", "https://app.example/"),
            ("https://app.example#5ec2e7", "https://app.example"),
            (
                "https://app.example/%3Ftoken=5ec2e7",
                "https://app.example/",
            ),
            ("5ec2e7", "-"),
            ("\u{e9}://x/", "\u{e9}://x/"),
        ];
        for (value, expected) in cases {
            assert_eq!(referer(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(referer(b"\xff5ec2e7"), "-");
    }

    /// Percent-encodes some bytes of a text, once or twice, in either case.
    fn spelt(text: &str, encoded: &[u8]) -> String {
        let mut spelt = String::new();
        for (byte, how) in text.bytes().zip(encoded.iter().cycle()) {
            match how % 5 {
                0 => spelt.push_str(&format!("%{byte:02x}")),
                1 => spelt.push_str(&format!("%25{byte:02X}")),
                2 => spelt.push(char::from(byte.to_ascii_uppercase())),
                _ => spelt.push(char::from(byte)),
            }
        }
        spelt
    }

    proptest! {
        #[test]
        fn a_secret_is_redacted_in_every_spelling_of_its_parameter(
            name in proptest::sample::select(&[
                "X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-Credential", "Signature", "AWSAccessKeyId",
                "access_token", "token", "sig", "X-Goog-Signature", "key", "jwt", "password", "code",
            ][..]),
            encoded in proptest::collection::vec(any::<u8>(), 1..20),
            separator in proptest::sample::select(&["=", "%3D", "%253d"][..]),
            before in proptest::sample::select(&["?", "?a=b&", "?list-type=2&", "%3F", "%253f", ";", "?uploads&"][..]),
            after in proptest::sample::select(&["", "&x-id=GetObject", ";a=b", "#x"][..]),
        ) {
            let name = spelt(name, &encoded);
            let target = format!("/b/k{before}{name}{separator}{SECRET}{after}");
            let shown = super::target(&target);
            prop_assert!(!shown.contains(SECRET), "{target} → {shown}");
            let page = format!("https://app.example{target}");
            prop_assert!(!referer(page.as_bytes()).contains(SECRET), "{page}");
        }
    }
}
