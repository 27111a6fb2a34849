//! What happens to the method and the fields that a script sets.

use http::{HeaderName, HeaderValue};

use super::engine::Engine;
use super::exchange::{Mode, ScriptRequest};
use super::field::{elements, text};
use super::safelist::is_safelisted;

/// The total limit of all safelisted values in bytes ([«CORS-unsafe request-header
/// names»](https://fetch.spec.whatwg.org/#cors-unsafe-request-header-names), step 5).
const MAX_SAFELISTED: usize = 1024;

/// A field that a script sets, classified for CORS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestHeader {
    /// The preflight asks for this name.
    Unsafe(String),
    /// It is sent without a preflight.
    Safelisted(String),
    /// The browser drops it: scripts cannot set it.
    Forbidden(String),
}

/// Converts a method to the form that browsers send: six of them in upper case, others unchanged
/// ([«normalize a method»](https://fetch.spec.whatwg.org/#concept-method-normalize)).
#[must_use]
pub fn normalized_method(method: &str) -> String {
    const NORMALIZED: [&str; 6] = ["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"];
    let upper = method.to_ascii_uppercase();
    if NORMALIZED.contains(&&*upper) {
        upper
    } else {
        method.to_owned()
    }
}

/// Whether a normalized method needs no preflight ([«CORS-safelisted
/// method»](https://fetch.spec.whatwg.org/#cors-safelisted-method)).
#[must_use]
pub fn is_safelisted_method(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "POST")
}

/// Whether scripts cannot use a method ([«forbidden
/// method»](https://fetch.spec.whatwg.org/#forbidden-method)).
#[must_use]
pub fn is_forbidden_method(method: &str) -> bool {
    ["CONNECT", "TRACE", "TRACK"]
        .iter()
        .any(|forbidden| method.eq_ignore_ascii_case(forbidden))
}

impl RequestHeader {
    /// Classifies a single field; `None` as the value: unknown.
    ///
    /// Without a value, `Accept` and the languages count as safelisted, but `Content-Type` and
    /// `Range` do not: scripts that set them rarely use a safelisted value.
    #[must_use]
    pub fn of(name: &HeaderName, value: Option<&str>) -> Self {
        let name = name.as_str();
        if is_forbidden(name, value.unwrap_or_default()) {
            return Self::Forbidden(name.to_owned());
        }
        let safelisted = match value {
            Some(value) => is_safelisted(None, name, value),
            None => matches!(name, "accept" | "accept-language" | "content-language"),
        };
        if safelisted {
            Self::Safelisted(name.to_owned())
        } else {
            Self::Unsafe(name.to_owned())
        }
    }
}

/// A [forbidden request-header](https://fetch.spec.whatwg.org/#forbidden-request-header).
fn is_forbidden(name: &str, value: &str) -> bool {
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
    const METHOD_OVERRIDES: [&str; 3] = [
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
    ];
    FORBIDDEN.contains(&name)
        || name.starts_with("proxy-")
        || name.starts_with("sec-")
        || (METHOD_OVERRIDES.contains(&name) && elements(value).any(is_forbidden_method))
}

/// The fields that a request carries: without forbidden ones, repeated ones combined, in the order
/// in which the script first sets each name.
#[derive(Clone, Debug, Default)]
pub(super) struct SentHeaders(Vec<SentHeader>);

#[derive(Clone, Debug)]
struct SentHeader {
    name: String,
    /// The values, one for each append.
    values: Vec<String>,
}

impl SentHeader {
    fn combined(&self) -> String {
        self.values.join(", ")
    }

    /// Whether an engine sends it without a preflight. Firefox checks each appended value
    /// separately.
    fn is_safelisted(&self, engine: Option<Engine>) -> bool {
        match engine {
            Some(Engine::Firefox) => self
                .values
                .iter()
                .all(|value| is_safelisted(engine, &self.name, value)),
            Some(Engine::Chromium | Engine::Webkit) | None => {
                is_safelisted(engine, &self.name, &self.combined())
            }
        }
    }
}

impl SentHeaders {
    pub(super) fn of(request: &ScriptRequest) -> Self {
        let mut sent = Self::default();
        for (name, value) in &request.headers {
            sent.append(name, value, request.mode);
        }
        sent
    }

    /// [«Append»](https://fetch.spec.whatwg.org/#concept-headers-append), steps 3 to 6.
    fn append(&mut self, name: &HeaderName, value: &HeaderValue, mode: Mode) {
        let (name, value) = (name.as_str(), text(value.as_bytes()));
        if is_forbidden(name, &value) {
            return;
        }
        let position = self.0.iter().position(|header| header.name == name);
        if mode == Mode::NoCors {
            let earlier = position
                .and_then(|at| self.0.get(at))
                .map(SentHeader::combined);
            let whole = earlier.map_or_else(|| value.clone(), |earlier| earlier + ", " + &value);
            // `Range` is reserved for the browser's own requests.
            if name == "range" || !is_safelisted(None, name, &whole) {
                return;
            }
        }
        match position.and_then(|at| self.0.get_mut(at)) {
            Some(header) => header.values.push(value),
            None => self.0.push(SentHeader {
                name: name.to_owned(),
                values: vec![value],
            }),
        }
    }

    /// The names that a preflight asks for, sorted
    /// ([«CORS-unsafe request-header names»](https://fetch.spec.whatwg.org/#cors-unsafe-request-header-names)).
    pub(super) fn unsafe_names(&self, engine: Option<Engine>) -> Vec<&str> {
        let mut names = Vec::new();
        let mut safelisted = Vec::new();
        let mut bytes = 0;
        for header in &self.0 {
            if header.is_safelisted(engine) {
                bytes += header.combined().len();
                safelisted.push(&*header.name);
            } else {
                names.push(&*header.name);
            }
        }
        // Firefox has no such limit.
        if bytes > MAX_SAFELISTED && engine != Some(Engine::Firefox) {
            names.append(&mut safelisted);
        }
        names.sort_unstable();
        names
    }

    /// All names, in the script's order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|header| &*header.name)
    }

    /// Names and combined values, in the script's order.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, String)> {
        self.0
            .iter()
            .map(|header| (&*header.name, header.combined()))
    }

    /// Removes fields by name.
    pub(super) fn remove(&mut self, removed: &[&str]) {
        self.0.retain(|header| !removed.contains(&&*header.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> RequestHeader {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value.trim())),
            None => (text, None),
        };
        RequestHeader::of(&name.parse().unwrap(), value)
    }

    #[test]
    fn fields_that_no_form_could_send_need_a_preflight() {
        let asked = |name: &str| RequestHeader::Unsafe(name.to_owned());
        let safelisted = |name: &str| RequestHeader::Safelisted(name.to_owned());
        let forbidden = |name: &str| RequestHeader::Forbidden(name.to_owned());
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
            ("Content-Type: text/plain, a", asked("content-type")),
            ("Content-Type: application/json", asked("content-type")),
            ("Range: bytes=0-99", safelisted("range")),
            ("range: bytes=-99", asked("range")),
            ("range: bytes=9-2", asked("range")),
            ("range: bytes=09-10", safelisted("range")),
            (
                "Accept-Language: de, en;q=0.5",
                safelisted("accept-language"),
            ),
            ("Cookie", forbidden("cookie")),
            ("Sec-Fetch-Mode", forbidden("sec-fetch-mode")),
            (
                "X-HTTP-Method-Override: PUT",
                asked("x-http-method-override"),
            ),
            (
                "X-HTTP-Method-Override: PUT, trace",
                forbidden("x-http-method-override"),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(of(text), expected, "{text}");
        }
        assert_eq!(
            of(&format!("Accept: {}", "a".repeat(128))),
            safelisted("accept")
        );
        assert_eq!(of(&format!("Accept: {}", "a".repeat(129))), asked("accept"));
    }

    #[test]
    fn six_methods_are_normalized_and_three_need_no_preflight() {
        assert_eq!(normalized_method("put"), "PUT");
        assert_eq!(normalized_method("patch"), "patch");
        assert!(is_safelisted_method("POST") && !is_safelisted_method("PUT"));
        assert!(is_forbidden_method("trace") && !is_forbidden_method("OPTIONS"));
    }
}
