//! Detects requests from pages of other sites.

use http::header::{HOST, ORIGIN};
use http::{HeaderName, HeaderValue, Request};

use crate::cors::fetch::applies_cors;

const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a page of another site sent the request: by `Origin`, or by `Sec-Fetch-Site`, which
/// browsers also send without CORS, for images and event streams. Such a page cannot read the
/// response, but could use up the viewers' places. Following a link to a page here is allowed.
pub(super) fn asks<B>(request: &Request<B>) -> bool {
    let field = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => field(HOST).unwrap_or_default(),
    };
    let is_foreign = |origin| applies_cors(origin, host, None, None);
    let is_other_site = |site: &[u8]| matches!(site, b"cross-site" | b"same-site");
    let is_link = field(FETCH_MODE) == Some(b"navigate");
    field(ORIGIN).is_some_and(is_foreign)
        || !is_link && field(FETCH_SITE).is_some_and(is_other_site)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_distinguished_from_our_own_and_from_programs() {
        let own = ("host", "localhost:9901");
        let cases: [(&[(&str, &str)], bool); 11] = [
            (&[own], false),
            (&[own, ("origin", "http://localhost:9901")], false),
            (&[own, ("origin", "https://evil.example")], true),
            (&[own, ("origin", "http://localhost:3000")], true),
            (&[own, ("origin", "null")], true),
            (
                &[
                    own,
                    ("sec-fetch-site", "same-origin"),
                    ("sec-fetch-mode", "cors"),
                ],
                false,
            ),
            (
                &[
                    own,
                    ("sec-fetch-site", "none"),
                    ("sec-fetch-mode", "navigate"),
                ],
                false,
            ),
            (
                &[
                    own,
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                ],
                false,
            ),
            (
                &[
                    own,
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "no-cors"),
                ],
                true,
            ),
            (
                &[
                    own,
                    ("sec-fetch-site", "same-site"),
                    ("sec-fetch-mode", "cors"),
                ],
                true,
            ),
            (
                &[
                    own,
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "https://evil.example"),
                ],
                true,
            ),
        ];
        for (fields, expected) in cases {
            let mut request = Request::builder().uri("/cors/live");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            assert_eq!(asks(&request.body(()).unwrap()), expected, "{fields:?}");
        }
    }
}
