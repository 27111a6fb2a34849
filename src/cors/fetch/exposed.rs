//! Which fields of a response a script may read.

use http::header::{ACCESS_CONTROL_EXPOSE_HEADERS, HeaderMap};

use super::exchange::Credentials;
use super::field::{combined, tokens};

/// Fields that a script may always read
/// ([«CORS-safelisted response-header name»](https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name)).
const SAFELISTED: [&str; 7] = [
    "cache-control",
    "content-language",
    "content-length",
    "content-type",
    "expires",
    "last-modified",
    "pragma",
];

/// Fields that no script may read
/// ([«forbidden response-header name»](https://fetch.spec.whatwg.org/#forbidden-response-header-name)).
const FORBIDDEN: [&str; 2] = ["set-cookie", "set-cookie2"];

/// The readable fields of a response from the page's own origin ([«basic filtered
/// response»](https://fetch.spec.whatwg.org/#concept-filtered-response-basic)), sorted.
pub(super) fn basic(headers: &HeaderMap) -> Vec<String> {
    readable(headers, |_| true)
}

/// The readable fields of a response from another origin ([«CORS filtered
/// response»](https://fetch.spec.whatwg.org/#concept-filtered-response-cors)), sorted.
pub(super) fn exposed(headers: &HeaderMap, credentials: Credentials) -> Vec<String> {
    let list = combined(headers, &ACCESS_CONTROL_EXPOSE_HEADERS);
    // An invalid list exposes nothing.
    let names = tokens(list.as_deref()).unwrap_or_default();
    // Main fetch, step 13.1: with credentials, `*` is an ordinary name.
    let all = credentials != Credentials::Include && names.contains(&"*");
    readable(headers, |name| {
        all || SAFELISTED.contains(&name)
            || names
                .iter()
                .any(|exposed| exposed.eq_ignore_ascii_case(name))
    })
}

fn readable(headers: &HeaderMap, is_exposed: impl Fn(&str) -> bool) -> Vec<String> {
    let names = headers.keys().map(http::HeaderName::as_str);
    let mut names: Vec<String> = names
        .filter(|name| !FORBIDDEN.contains(name) && is_exposed(name))
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names
}
