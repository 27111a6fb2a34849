//! What a browser makes of a script's request ([Fetch]): which method and fields it sends, and
//! whether it asks first.
//!
//! [Fetch]: https://fetch.spec.whatwg.org/

use std::fmt;

/// Why a browser sends a preflight before a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreflightReason {
    /// The method is none of GET, HEAD and POST.
    Method(String),
    /// A script sets this field, which is not safelisted.
    Header(String),
    /// A script sets this field, which is safelisted with some values only, and the value is not
    /// known.
    Unvalued(String),
}

impl fmt::Display for PreflightReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) => write!(f, "{method} is none of GET, HEAD and POST"),
            Self::Header(name) => write!(f, "{name} is not a CORS-safelisted request header"),
            Self::Unvalued(name) => write!(
                f,
                "{name} is CORS-safelisted with some values only, and its value is not given"
            ),
        }
    }
}

/// A field that a script sets, as far as CORS asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// The browser asks for it, by this name.
    Asked(String),
    /// It goes along unasked.
    Safelisted(String),
    /// Scripts cannot set it: the browser does, or nobody.
    Forbidden(String),
}

/// A method as browsers send it: six of them in capitals however a script writes them
/// ([«normalize a method»](https://fetch.spec.whatwg.org/#concept-method-normalize)).
pub(super) fn normalised(method: &str) -> String {
    const NORMALISED: [&str; 6] = ["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"];
    let upper = method.to_ascii_uppercase();
    if NORMALISED.contains(&&*upper) {
        upper
    } else {
        method.to_owned()
    }
}

/// Whether a method goes without a preflight
/// ([«CORS-safelisted method»](https://fetch.spec.whatwg.org/#cors-safelisted-method)).
pub(super) fn is_safelisted(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "POST")
}

impl Header {
    /// The name of a field that is given without its value, where the browser looks at that.
    pub(super) fn depends_on_its_value(text: &str) -> Option<String> {
        let name = text.trim().to_ascii_lowercase();
        matches!(name.as_str(), "content-type" | "range").then_some(name)
    }

    /// What becomes of a field; `text` is a name, or `name: value`.
    ///
    /// Where whether the browser asks depends on the value, and there is none, it asks: a script
    /// that sets `Content-Type` at all seldom sets one of the three that pass
    /// ([«CORS-safelisted request-header»](https://fetch.spec.whatwg.org/#cors-safelisted-request-header)).
    pub(super) fn of(text: &str) -> Self {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value.trim())),
            None => (text, None),
        };
        // As `Access-Control-Request-Headers` has it.
        let name = name.trim().to_ascii_lowercase();
        if is_forbidden(&name) {
            return Self::Forbidden(name);
        }
        let is_short = value.is_none_or(|value| value.len() <= 128);
        let is_safe = match name.as_str() {
            "accept" => value.is_none_or(|value| !value.bytes().any(is_unsafe)),
            "accept-language" | "content-language" => {
                value.is_none_or(|value| value.bytes().all(is_language))
            }
            "content-type" => value.is_some_and(is_form),
            "range" => value.is_some_and(is_simple_range),
            _ => false,
        };
        if is_safe && is_short {
            Self::Safelisted(name)
        } else {
            Self::Asked(name)
        }
    }
}

/// A [forbidden request-header](https://fetch.spec.whatwg.org/#forbidden-request-header).
fn is_forbidden(name: &str) -> bool {
    const FORBIDDEN: [&str; 21] = [
        "accept-charset",
        "accept-encoding",
        "access-control-request-headers",
        "access-control-request-method",
        "connection",
        "content-length",
        "cookie",
        "cookie2",
        "date",
        "dnt",
        "expect",
        "host",
        "keep-alive",
        "origin",
        "referer",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    FORBIDDEN.contains(&name) || name.starts_with("proxy-") || name.starts_with("sec-")
}

/// A [CORS-unsafe request-header byte](https://fetch.spec.whatwg.org/#cors-unsafe-request-header-byte).
fn is_unsafe(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t')
        || matches!(byte, b'"' | b'(' | b')' | b':' | b'<' | b'>' | b'?' | b'@')
        || matches!(byte, b'[' | b'\\' | b']' | b'{' | b'}' | 0x7f)
}

fn is_language(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'*' | b',' | b'-' | b'.' | b';' | b'=')
}

/// A media type that a form could send.
fn is_form(value: &str) -> bool {
    const FORMS: [&str; 3] = [
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/plain",
    ];
    let essence = value.split(';').next().unwrap_or_default().trim();
    !value.bytes().any(is_unsafe) && FORMS.iter().any(|form| essence.eq_ignore_ascii_case(form))
}

/// `bytes=1-` or `bytes=1-2`.
fn is_simple_range(value: &str) -> bool {
    let Some((first, last)) = value
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return false;
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !first.is_empty() && is_number(first) && is_number(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_asks_for_what_no_form_could_send() {
        let asked = |name: &str| Header::Asked(name.to_owned());
        let safelisted = |name: &str| Header::Safelisted(name.to_owned());
        let forbidden = |name: &str| Header::Forbidden(name.to_owned());
        let cases = [
            ("Authorization", asked("authorization")),
            ("X-Amz-Date: 1", asked("x-amz-date")),
            ("Accept", safelisted("accept")),
            ("Accept: application/json", safelisted("accept")),
            ("Accept: a(b)", asked("accept")),
            ("Content-Type", asked("content-type")),
            (
                "Content-Type: text/plain; charset=utf-8",
                safelisted("content-type"),
            ),
            ("Content-Type: application/json", asked("content-type")),
            ("Range: bytes=0-99", safelisted("range")),
            ("range: bytes=-99", asked("range")),
            (
                "Accept-Language: de, en;q=0.5",
                safelisted("accept-language"),
            ),
            ("Cookie", forbidden("cookie")),
            ("Sec-Fetch-Mode", forbidden("sec-fetch-mode")),
        ];
        for (text, expected) in cases {
            assert_eq!(Header::of(text), expected, "{text}");
        }
        let long = format!("Accept: {}", "a".repeat(129));
        assert_eq!(Header::of(&long), asked("accept"));
    }

    #[test]
    fn six_methods_are_written_in_capitals_and_three_go_unasked() {
        assert_eq!(normalised("put"), "PUT");
        assert_eq!(normalised("patch"), "patch");
        assert!(is_safelisted("POST") && !is_safelisted("PUT"));
    }
}
