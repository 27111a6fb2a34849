//! Hides secrets in output: credentials, cookies, signatures and tokens.
//!
//! Query values are hidden by default: only the values of parameters that S3 defines and that are
//! harmless are shown. So a signature stays hidden however it is spelled.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::cors::fetch::Verdict;

/// Replaces a hidden value; valid in a URL.
pub(super) const HIDDEN: &str = "HIDDEN";

/// Parts of names whose values are secret.
const SECRET_WORDS: [&str; 17] = [
    "apikey",
    "auth",
    "bearer",
    "cookie",
    "credential",
    "csrf",
    "jwt",
    "passw",
    "policy",
    "customerkey",
    "encryptionkey",
    "secret",
    "session",
    "sig",
    "token",
    "xsrf",
    "accesskey",
];

/// Field names that contain one of these words but are harmless.
const HARMLESS_FIELDS: [&str; 7] = [
    "access-control-allow-credentials",
    "content-security-policy",
    "cross-origin-embedder-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "referrer-policy",
    "permissions-policy",
];

/// Query parameters whose values are shown: S3's own, for formats, positions and ranges.
const SHOWN_PARAMETERS: [&str; 25] = [
    "acl",
    "attributes",
    "continuation",
    "cors",
    "delete",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "lifecycle",
    "list-type",
    "location",
    "max-keys",
    "max-parts",
    "max-uploads",
    "partnumber",
    "policystatus",
    "prefix",
    "response-content-type",
    "select-type",
    "tagging",
    "uploads",
    "versioning",
    "versions",
    "website",
    "x-id",
];

/// The maximum number of percent-decoding rounds; text that needs more is hidden as a whole.
const MAX_DECODING: usize = 4;

/// A URL without its user, fragment and secrets.
pub(super) fn url(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let (before, query) = match text.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (text, None),
    };
    let Parts { root, path } = Parts::of(before);
    let path: Vec<Cow<'_, str>> = path.split('/').map(segment).collect();
    let mut shown = root + &path.join("/");
    if let Some(query) = query {
        let parameters: Vec<String> = query.split('&').map(parameter).collect();
        shown.push('?');
        shown.push_str(&parameters.join("&"));
    }
    shown
}

/// The start of a URL and its path.
struct Parts<'u> {
    /// Scheme and host.
    root: String,
    path: &'u str,
}

impl<'u> Parts<'u> {
    /// Splits a URL as browsers do: any number of slashes or backslashes.
    fn of(url: &'u str) -> Self {
        let is_slash = |letter: char| matches!(letter, '/' | '\\');
        let scheme = url.find(':').filter(|colon| {
            let scheme = url.get(..*colon).unwrap_or_default();
            scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        });
        let (scheme, rest) = url.split_at(scheme.map_or(0, |colon| colon + 1));
        let after = rest.trim_start_matches(is_slash);
        let slashes = rest.get(..rest.len() - after.len()).unwrap_or_default();
        let is_http = ["http:", "https:"]
            .iter()
            .any(|http| scheme.eq_ignore_ascii_case(http));
        if !is_http && slashes.len() < 2 {
            return match scheme {
                "" => Self {
                    root: String::new(),
                    path: url,
                },
                // A scheme with an unknown structure.
                _ => Self {
                    root: format!("{scheme}{HIDDEN}"),
                    path: "",
                },
            };
        }
        let (authority, path) = after.split_at(after.find(is_slash).unwrap_or(after.len()));
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        Self {
            root: format!("{scheme}{slashes}{host}"),
            path,
        }
    }
}

/// Redacts the URLs in a text.
pub(super) fn text(text: &str) -> String {
    let words = text.split_inclusive(char::is_whitespace);
    words.map(word).collect()
}

/// Redacts a word that may contain a URL. URLs have no whitespace, but many contain quotation
/// marks.
fn word(word: &str) -> String {
    let is_punctuation =
        |letter: char| letter.is_whitespace() || "'\"`‘’<>()[].,;:".contains(letter);
    let start = match word.find("//") {
        Some(slashes) => {
            let before = word.get(..slashes).unwrap_or_default();
            let is_scheme = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
            let scheme = before
                .strip_suffix(':')
                .map(|scheme| scheme.trim_end_matches(is_scheme));
            scheme.unwrap_or(before).len()
        }
        None if word.contains(['@', '?']) => {
            word.len() - word.trim_start_matches(is_punctuation).len()
        }
        None => return word.to_owned(),
    };
    let (before, rest) = word.split_at(start);
    let end = rest.trim_end_matches(is_punctuation);
    let after_url = rest.get(end.len()..).unwrap_or_default();
    format!("{before}{}{after_url}", url(end))
}

/// A verdict without secrets.
pub(super) fn verdict(verdict: &Verdict) -> Verdict {
    let mut shown = verdict.clone();
    for (_, message) in &mut shown.messages {
        *message = text(message);
    }
    if let Some(error) = &mut shown.error {
        error.parameter = text(&error.parameter);
    }
    shown
}

/// The value of a field, hidden if it is a secret.
pub(super) fn field<'v>(name: &str, value: &'v str) -> Cow<'v, str> {
    let name = name.to_ascii_lowercase();
    if is_secret_field(&name) {
        return HIDDEN.into();
    }
    match &*name {
        "location" | "referer" | "content-location" | "link" | "refresh" => url(value).into(),
        _ => value.into(),
    }
}

/// Whether the values of a field are secret; `name` is lower case.
fn is_secret_field(name: &str) -> bool {
    // `WWW-Authenticate` describes how to authenticate: it is not a secret.
    name != "www-authenticate" && !HARMLESS_FIELDS.contains(&name) && is_secret_name(name)
}

fn is_secret_name(name: &str) -> bool {
    let letters: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    SECRET_WORDS.iter().any(|word| letters.contains(word))
}

/// A query parameter, its value hidden unless the parameter is harmless.
fn parameter(text: &str) -> String {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let decoded = decoded(name).unwrap_or_default();
    let is_shown = SHOWN_PARAMETERS
        .iter()
        .any(|shown| decoded.eq_ignore_ascii_case(shown));
    match value {
        None if text.is_empty() || is_shown => text.to_owned(),
        // A token may stand without a name.
        None => HIDDEN.to_owned(),
        Some(value) if is_shown && !holds_secret(value) => text.to_owned(),
        // Base64 may end with `=`.
        Some(value) if value.trim_matches('=').is_empty() => format!("{HIDDEN}="),
        Some(_) if is_plain_name(&decoded) => format!("{decoded}={HIDDEN}"),
        Some(_) => format!("{HIDDEN}={HIDDEN}"),
    }
}

/// Whether a text can be the name of a parameter, not a token.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.[]".contains(&byte))
}

/// A path segment, hidden if it contains a query or a token.
fn segment(text: &str) -> Cow<'_, str> {
    let (name, parameters) = match text.split_once(';') {
        Some((name, _)) => (name, ";"),
        None => (text, ""),
    };
    let shown = if holds_secret(name) { HIDDEN } else { name };
    match parameters {
        "" => shown.into(),
        _ => format!("{shown};{HIDDEN}").into(),
    }
}

/// Whether a value names a secret or is a token by its form.
fn holds_secret(text: &str) -> bool {
    let Some(decoded) = decoded(text) else {
        return true;
    };
    let names_secret = decoded.contains(['=', '&']) && is_secret_name(&decoded);
    decoded.contains('?') || names_secret || is_token(&decoded)
}

/// Whether a text is a JSON Web Token.
fn is_token(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let is_base64 = |part: &&str| {
        part.len() >= 8
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte))
    };
    parts.len() == 3 && text.starts_with("ey") && parts.iter().all(is_base64)
}

/// Fully percent-decoded text; `None` if it is encoded too many times.
fn decoded(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    for _ in 0..MAX_DECODING {
        let next = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if next == text {
            return Some(text);
        }
        text = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_and_tokens_are_hidden_in_any_spelling() {
        let cases = [
            (
                "https://a.example/k?X-Amz-Signature=s3cr3t",
                "https://a.example/k?X-Amz-Signature=HIDDEN",
            ),
            (
                "https://a.example/k?x%2Damz%2Dsignature=s3cr3t&list-type=2",
                "https://a.example/k?x-amz-signature=HIDDEN&list-type=2",
            ),
            (
                "https://a.example/k?X%252DAmz%252DSignature=s3cr3t",
                "https://a.example/k?X-Amz-Signature=HIDDEN",
            ),
            (
                "https://a.example/k?sig=s3cr3t",
                "https://a.example/k?sig=HIDDEN",
            ),
            ("https://a.example/k?s3cr3t", "https://a.example/k?HIDDEN"),
            ("https://a.example/k?uploads", "https://a.example/k?uploads"),
            (
                "https://a.example/k?a=b?token=s3cr3t",
                "https://a.example/k?a=HIDDEN",
            ),
            (
                "https://a.example/k?prefix=x%26token%3Ds3cr3t",
                "https://a.example/k?prefix=HIDDEN",
            ),
            (
                "https://a.example/k%3FX-Amz-Signature%3Ds3cr3t",
                "https://a.example/HIDDEN",
            ),
            (
                "https://a.example/k;jsessionid=s3cr3t/x",
                "https://a.example/k;HIDDEN/x",
            ),
            (
                "https://user:s3cr3t@a.example:1/k#access_token=s3cr3t",
                "https://a.example:1/k",
            ),
            (
                "https://a.example?token=s3cr3t",
                "https://a.example?token=HIDDEN",
            ),
            ("/k?token=s3cr3t", "/k?token=HIDDEN"),
            (
                "https://a.example/eyJhbGciOi.eyJzdWIi00.s3cr3ts3cr3t",
                "https://a.example/HIDDEN",
            ),
            (
                "HTTPS://user:s3cr3t@a.example/it's.jpg?x=s3cr3t",
                "HTTPS://a.example/it's.jpg?x=HIDDEN",
            ),
            ("//user:s3cr3t@a.example/k", "//a.example/k"),
            ("https:/user:s3cr3t@a.example/k", "https:/a.example/k"),
            ("https:user:s3cr3t@a.example/k", "https:a.example/k"),
            ("\\\\user:s3cr3t@a.example\\k", "\\\\a.example\\k"),
            ("mailto:s3cr3t@a.example", "mailto:HIDDEN"),
            (
                "https://a.example/k?czNjcjN0=",
                "https://a.example/k?HIDDEN=",
            ),
            (
                "https://a.example/k?czNjcjN0==",
                "https://a.example/k?HIDDEN=",
            ),
            ("http:///x", "http:///x"),
            (
                "https://a.example/photos/2026/cat.jpg",
                "https://a.example/photos/2026/cat.jpg",
            ),
        ];
        for (written, shown) in cases {
            assert_eq!(url(written), shown, "{written}");
        }
    }

    #[test]
    fn urls_are_found_in_a_text() {
        let cases = [
            (
                "Access to fetch at 'https://a.example/k?sig=s3cr3t' (redirected from 'https://u:s3cr3t@b.example') is blocked",
                "Access to fetch at 'https://a.example/k?sig=HIDDEN' (redirected from 'https://b.example') is blocked",
            ),
            (
                "at 'https://a.example/it's.jpg?X-Amz-Signature=s3cr3t' from",
                "at 'https://a.example/it's.jpg?X-Amz-Signature=HIDDEN' from",
            ),
            (
                "at 'https://a.example/it'.jpg?X-Amz-Signature=s3cr3t'.",
                "at 'https://a.example/it'.jpg?X-Amz-Signature=HIDDEN'.",
            ),
            (
                "at ‘HTTPS://u:s3cr3t@a.example/k’. (",
                "at ‘HTTPS://a.example/k’. (",
            ),
            (
                "to //u:s3cr3t@a.example/k denied",
                "to //a.example/k denied",
            ),
            (
                "to 'https:/u:s3cr3t@a.example/k' denied",
                "to 'https:/a.example/k' denied",
            ),
            ("to k?s3cr3t denied", "to k?HIDDEN denied"),
            (
                "the value 'https://app.example, *' is",
                "the value 'https://app.example, *' is",
            ),
        ];
        for (written, shown) in cases {
            assert_eq!(text(written), shown);
        }
    }

    #[test]
    fn fields_with_credentials_are_hidden() {
        for name in [
            "Authorization",
            "COOKIE",
            "Set-Cookie",
            "proxy-authorization",
            "x-amz-security-token",
            "X-API-Key",
            "x-csrf-token",
            "X_Auth",
            "x-amz-server-side-encryption-customer-key",
            "x-amz-copy-source-server-side-encryption-customer-key-MD5",
            "x-ms-encryption-key",
            "x-goog-encryption-key",
            "x-goog-signature",
        ] {
            assert_eq!(field(name, "s3cr3t"), HIDDEN, "{name}");
        }
        for name in [
            "etag",
            "access-control-allow-credentials",
            "www-authenticate",
            "referrer-policy",
        ] {
            assert_eq!(field(name, "shown"), "shown", "{name}");
        }
        assert_eq!(field("Location", "/x?token=s3cr3t"), "/x?token=HIDDEN");
    }
}
