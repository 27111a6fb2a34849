//! What browsers do with a response, as far as a server can tell. Runs for every response that a
//! proxy sends, without an allocation unless a preflight names many headers.
//!
//! The checks are those of [`judge`](super::judge); a property test compares them. A server does
//! not know a request's credentials mode, so the caller assumes one. It does not know which fields
//! the script reads either, so [`AnswerVerdict::Readable`] is about the status and the body.

use std::collections::BTreeSet;

use http::StatusCode;

use super::chromium::origin_error;
use super::field::is_token;
use super::preflight::is_redirect_status;
use super::request_headers::is_safelisted_method;

/// What a browser does with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnswerVerdict {
    /// The script may read the response.
    Readable,
    /// The browser continues: it sends the request after a preflight, or follows a redirect.
    Passed,
    /// The script gets a network error.
    Blocked(BlockedReason),
}

macro_rules! blocked_reasons {
    ($($name:ident: $doc:literal,)*) => {
        /// Why a browser blocks a response, with Chrome's names: a fixed set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum BlockedReason {
            $(#[doc = $doc] $name,)*
        }

        impl BlockedReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Chrome's name for it: `Network.CorsError` of the
            /// [DevTools Protocol](https://chromedevtools.github.io/devtools-protocol/tot/Network/#type-CorsError).
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

blocked_reasons! {
    MissingAllowOriginHeader: "The response has no `Access-Control-Allow-Origin`.",
    MultipleAllowOriginValues: "The response has several `Access-Control-Allow-Origin` values.",
    InvalidAllowOriginValue: "Its `Access-Control-Allow-Origin` is not an origin.",
    AllowOriginMismatch: "Its `Access-Control-Allow-Origin` is another origin.",
    WildcardOriginNotAllowed: "Its `Access-Control-Allow-Origin` is `*`, but the request has credentials.",
    InvalidAllowCredentials: "It lacks `Access-Control-Allow-Credentials: true`, but the request has credentials.",
    PreflightDisallowedRedirect: "A preflight is redirected.",
    PreflightInvalidStatus: "A preflight's status is not 200 to 299.",
    PreflightMissingAllowOriginHeader: "A preflight's answer has no `Access-Control-Allow-Origin`.",
    PreflightMultipleAllowOriginValues: "It has several `Access-Control-Allow-Origin` values.",
    PreflightInvalidAllowOriginValue: "Its `Access-Control-Allow-Origin` is not an origin.",
    PreflightAllowOriginMismatch: "Its `Access-Control-Allow-Origin` is another origin.",
    InvalidAllowMethodsPreflightResponse: "Its `Access-Control-Allow-Methods` is not a list of tokens.",
    InvalidAllowHeadersPreflightResponse: "Its `Access-Control-Allow-Headers` is not a list of tokens.",
    MethodDisallowedByPreflightResponse: "Its `Access-Control-Allow-Methods` lacks the method.",
    HeaderDisallowedByPreflightResponse: "Its `Access-Control-Allow-Headers` lacks a requested header.",
}

impl AnswerVerdict {
    /// The number of verdicts.
    pub const COUNT: usize = 2 + BlockedReason::ALL.len();

    /// Every verdict, in the order of [`index`](Self::index).
    pub fn all() -> impl Iterator<Item = Self> {
        let blocked = BlockedReason::ALL.iter().copied().map(Self::Blocked);
        [Self::Readable, Self::Passed].into_iter().chain(blocked)
    }

    /// Its index in a list of all verdicts.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Readable => 0,
            Self::Passed => 1,
            Self::Blocked(reason) => 2 + reason as usize,
        }
    }

    /// The verdict's name in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Readable => "readable",
            Self::Passed => "passed",
            Self::Blocked(_) => "blocked",
        }
    }

    /// Why the response is blocked, if it is.
    #[must_use]
    pub fn blocked(self) -> Option<BlockedReason> {
        match self {
            Self::Readable | Self::Passed => None,
            Self::Blocked(reason) => Some(reason),
        }
    }
}

/// The parts of a request that the verdict on its response depends on.
#[derive(Clone, Copy, Debug)]
pub struct AnsweredRequest<'r> {
    /// `Origin`.
    pub origin: &'r [u8],
    /// Whether the request has credentials.
    pub has_credentials: bool,
    /// What a preflight asks for; `None`: the request is not a preflight.
    pub preflight: Option<RequestedPermission<'r>>,
}

/// What a preflight asks for.
#[derive(Clone, Copy, Debug)]
pub struct RequestedPermission<'r> {
    /// `Access-Control-Request-Method`.
    pub method: &'r [u8],
    /// `Access-Control-Request-Headers`; empty if absent.
    pub headers: &'r [u8],
}

impl AnsweredRequest<'_> {
    /// The verdict on a response to this request; `fields` are the response's, in order. `None`: it
    /// depends on more than this response. For a 304 without CORS fields, the browser uses the
    /// cached ones; a 101 begins another protocol.
    #[must_use]
    pub fn judge<'f, I>(&self, status: StatusCode, fields: impl Fn() -> I) -> Option<AnswerVerdict>
    where
        I: Iterator<Item = (&'f str, &'f [u8])>,
    {
        if status.is_informational() {
            return None;
        }
        let mut allow_origin = FieldLines::default();
        let mut allow_credentials = FieldLines::default();
        let mut has_location = false;
        for (name, value) in fields() {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            match name.len() {
                8 if is("location") => has_location = true,
                27 if is("access-control-allow-origin") => allow_origin.add(value),
                32 if is("access-control-allow-credentials") => allow_credentials.add(value),
                _ => {}
            }
        }
        let is_redirect = has_location && is_redirect_status(status);
        let checked = self.check_origin(&allow_origin, &allow_credentials);
        let Some(asked) = &self.preflight else {
            return match checked {
                Err(CheckFailure::Missing) if status == StatusCode::NOT_MODIFIED => None,
                Err(failure) => Some(AnswerVerdict::Blocked(failure.of_response())),
                Ok(()) if is_redirect => Some(AnswerVerdict::Passed),
                Ok(()) => Some(AnswerVerdict::Readable),
            };
        };
        let verdict = if is_redirect {
            Err(BlockedReason::PreflightDisallowedRedirect)
        } else if let Err(failure) = checked {
            Err(failure.of_preflight())
        } else if !status.is_success() {
            Err(BlockedReason::PreflightInvalidStatus)
        } else {
            asked.check(fields)
        };
        Some(verdict.map_or_else(AnswerVerdict::Blocked, |()| AnswerVerdict::Passed))
    }

    /// Browsers send preflights without credentials, and do not announce whether the actual request
    /// has some.
    fn includes_credentials(&self) -> bool {
        self.has_credentials && self.preflight.is_none()
    }

    /// The [CORS check](https://fetch.spec.whatwg.org/#concept-cors-check).
    fn check_origin(
        &self,
        allow_origin: &FieldLines<'_>,
        allow_credentials: &FieldLines<'_>,
    ) -> Result<(), CheckFailure> {
        let value = match *allow_origin {
            FieldLines::Absent => return Err(CheckFailure::Missing),
            // Joined with commas, they are not an origin.
            FieldLines::Several => return Err(CheckFailure::Multiple),
            FieldLines::One(value) => value,
        };
        if value == b"*" {
            return match self.includes_credentials() {
                true => Err(CheckFailure::Wildcard),
                false => Ok(()),
            };
        }
        if value != self.origin {
            let name = origin_error(&String::from_utf8_lossy(value));
            return Err(match name {
                "MultipleAllowOriginValues" => CheckFailure::Multiple,
                "AllowOriginMismatch" => CheckFailure::Mismatch,
                _ => CheckFailure::Invalid,
            });
        }
        match *allow_credentials {
            FieldLines::One(b"true") => Ok(()),
            _ if self.includes_credentials() => Err(CheckFailure::Credentials),
            _ => Ok(()),
        }
    }
}

impl RequestedPermission<'_> {
    /// [«CORS-preflight fetch»](https://fetch.spec.whatwg.org/#cors-preflight-fetch), step 7, without
    /// credentials: browsers send preflights without them.
    fn check<'f, I>(&self, fields: impl Fn() -> I) -> Result<(), BlockedReason>
    where
        I: Iterator<Item = (&'f str, &'f [u8])>,
    {
        let methods = || elements(fields(), "access-control-allow-methods");
        let headers = || elements(fields(), "access-control-allow-headers");
        if !methods().all(is_token_bytes) {
            return Err(BlockedReason::InvalidAllowMethodsPreflightResponse);
        }
        if !headers().all(is_token_bytes) {
            return Err(BlockedReason::InvalidAllowHeadersPreflightResponse);
        }
        let is_safelisted = std::str::from_utf8(self.method).is_ok_and(is_safelisted_method);
        if !is_safelisted && !methods().any(|listed| listed == self.method || listed == b"*") {
            return Err(BlockedReason::MethodDisallowedByPreflightResponse);
        }
        match self.allows_headers(headers) {
            true => Ok(()),
            false => Err(BlockedReason::HeaderDisallowedByPreflightResponse),
        }
    }

    /// Whether each requested header is listed. Many headers are looked up in a sorted list:
    /// comparing each with each could take seconds if the upstream repeats what a client asks for.
    fn allows_headers<'f, I>(&self, listed: impl Fn() -> I) -> bool
    where
        I: Iterator<Item = &'f [u8]>,
    {
        if list(self.headers).nth(FEW_HEADERS).is_none() {
            let is_listed = |name: &[u8]| {
                listed().any(|listed| listed == b"*" || listed.eq_ignore_ascii_case(name))
            };
            return list(self.headers).all(is_listed);
        }
        let lower = |name: &[u8]| name.to_ascii_lowercase();
        let listed: BTreeSet<Vec<u8>> = listed().map(lower).collect();
        listed.contains(&b"*"[..]) || list(self.headers).all(|name| listed.contains(&lower(name)))
    }
}

/// Up to this many requested headers are compared without an allocation.
const FEW_HEADERS: usize = 16;

/// How the CORS check fails.
#[derive(Clone, Copy, Debug)]
enum CheckFailure {
    Missing,
    Multiple,
    Invalid,
    Mismatch,
    Wildcard,
    Credentials,
}

impl CheckFailure {
    fn of_response(self) -> BlockedReason {
        match self {
            Self::Missing => BlockedReason::MissingAllowOriginHeader,
            Self::Multiple => BlockedReason::MultipleAllowOriginValues,
            Self::Invalid => BlockedReason::InvalidAllowOriginValue,
            Self::Mismatch => BlockedReason::AllowOriginMismatch,
            Self::Wildcard => BlockedReason::WildcardOriginNotAllowed,
            Self::Credentials => BlockedReason::InvalidAllowCredentials,
        }
    }

    /// For a preflight, which is judged without credentials.
    fn of_preflight(self) -> BlockedReason {
        match self {
            Self::Missing => BlockedReason::PreflightMissingAllowOriginHeader,
            Self::Multiple => BlockedReason::PreflightMultipleAllowOriginValues,
            Self::Invalid => BlockedReason::PreflightInvalidAllowOriginValue,
            Self::Mismatch | Self::Wildcard | Self::Credentials => {
                BlockedReason::PreflightAllowOriginMismatch
            }
        }
    }
}

/// The lines of a field, without the whitespace around them.
#[derive(Clone, Copy, Debug, Default)]
enum FieldLines<'f> {
    #[default]
    Absent,
    One(&'f [u8]),
    Several,
}

impl<'f> FieldLines<'f> {
    fn add(&mut self, value: &'f [u8]) {
        *self = match self {
            Self::Absent => Self::One(trimmed(value)),
            Self::One(_) | Self::Several => Self::Several,
        };
    }
}

/// The elements of a list field over all its lines, without empty ones.
fn elements<'f>(
    fields: impl Iterator<Item = (&'f str, &'f [u8])>,
    name: &'static str,
) -> impl Iterator<Item = &'f [u8]> {
    fields
        .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
        .flat_map(|(_, value)| list(value))
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(trimmed)
        .filter(|element| !element.is_empty())
}

fn trimmed(value: &[u8]) -> &[u8] {
    let is_space = |byte: &&u8| matches!(**byte, b' ' | b'\t');
    let before = value.iter().take_while(is_space).count();
    let value = value.get(before..).unwrap_or_default();
    let after = value.iter().rev().take_while(is_space).count();
    value.get(..value.len() - after).unwrap_or_default()
}

fn is_token_bytes(element: &[u8]) -> bool {
    std::str::from_utf8(element).is_ok_and(is_token)
}

/// Whether a browser applies CORS to a request with an `Origin`, judging by its head. Pages also
/// send `Origin` with other requests: from forms, for WebSockets, with `no-cors`, and with anything
/// but GET to their own origin.
///
/// `mode` and `site` are `Sec-Fetch-Mode` and `Sec-Fetch-Site`, which browsers send to https and
/// localhost; `authority` is the host and port of the request.
#[must_use]
pub fn applies_cors(
    origin: &[u8],
    authority: &[u8],
    mode: Option<&[u8]>,
    site: Option<&[u8]>,
) -> bool {
    match (mode, site) {
        (Some(mode), _) if mode != b"cors" => false,
        (_, Some(site)) => site != b"same-origin",
        (_, None) => !names_host(origin, authority),
    }
}

/// Whether an origin has this host, regardless of the scheme, because TLS may end at another proxy
/// in front.
fn names_host(origin: &[u8], authority: &[u8]) -> bool {
    let Some(start) = origin.windows(3).position(|part| part == b"://") else {
        return false;
    };
    let of_origin = origin.get(start + 3..).unwrap_or_default();
    without_default_port(of_origin).eq_ignore_ascii_case(without_default_port(authority))
}

fn without_default_port(authority: &[u8]) -> &[u8] {
    let ports = [&b":443"[..], b":80"];
    let mut without = ports
        .iter()
        .filter_map(|port| authority.strip_suffix(*port));
    without.next().unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::super::{
        Answers, Credentials, Engine, Exchange, Mode, Response, ScriptRequest, Step, judge,
    };
    use super::*;

    const ORIGIN: &str = "https://app.example";

    fn verdict(request: &AnsweredRequest<'_>, response: &Response) -> Option<AnswerVerdict> {
        let fields = || {
            let fields = response.headers.iter();
            fields.map(|(name, value)| (name.as_str(), value.as_bytes()))
        };
        request.judge(response.status, fields)
    }

    /// What [`judge`] says about the same response; `None`: Chromium differs from the other
    /// engines.
    fn expected(
        method: &str,
        headers: &[&str],
        credentials: Credentials,
        answers: Answers,
        at: Step,
    ) -> Option<AnswerVerdict> {
        let headers = headers.iter().map(|name| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_static("1"))
        });
        let is_redirect = answers.response.as_ref().is_some_and(|response| {
            response.status.is_redirection()
                && response.status != StatusCode::NOT_MODIFIED
                && response.headers.contains_key("location")
        });
        let judged = judge(&Exchange {
            request: ScriptRequest {
                origin: ORIGIN.to_owned(),
                url: "https://s3.example/b/k".to_owned(),
                method: method.to_owned(),
                headers: headers.collect(),
                credentials,
                mode: Mode::Cors,
            },
            answers,
            redirected: Vec::new(),
        });
        if judged
            .differs
            .iter()
            .any(|(engine, _)| *engine == Engine::Chromium)
        {
            return None;
        }
        let error = judged.error.filter(|_| {
            judged
                .failure
                .as_ref()
                .is_some_and(|failure| failure.step == at)
        });
        Some(match error {
            Some(error) => {
                let reason = BlockedReason::ALL
                    .iter()
                    .find(|reason| reason.as_str() == error.name);
                AnswerVerdict::Blocked(*reason.unwrap())
            }
            None if at == Step::Preflight || is_redirect => AnswerVerdict::Passed,
            None => AnswerVerdict::Readable,
        })
    }

    fn field(name: &'static str, values: &'static [&'static str]) -> BoxedStrategy<HeaderMap> {
        proptest::collection::vec(proptest::sample::select(values), 0..3)
            .prop_map(move |values| {
                let mut map = HeaderMap::new();
                for value in values {
                    map.append(name, HeaderValue::from_str(value).unwrap());
                }
                map
            })
            .boxed()
    }

    fn response() -> impl Strategy<Value = Response> {
        let origins = &[
            "*",
            ORIGIN,
            ORIGIN,
            " https://app.example\t",
            "null",
            "https://other.example",
            "nonsense",
            "https://app.example, *",
            "",
            "https://app.example/",
            "http://[",
            "HTTPS://APP.EXAMPLE",
        ];
        let lists = &[
            "*",
            "PUT",
            "put, DELETE",
            "x-a, X-B",
            "a b",
            ",,",
            "authorization",
            "PUT\u{9},x-a",
        ];
        let fields = (
            field("access-control-allow-origin", origins),
            field(
                "access-control-allow-credentials",
                &["true", " true ", "TRUE", ""],
            ),
            field("access-control-allow-methods", lists),
            field("access-control-allow-headers", lists),
            field("location", &["https://s3.example/other"]),
            proptest::sample::select(
                &[200_u16, 204, 206, 301, 307, 304, 400, 403, 404, 500, 503][..],
            ),
        );
        fields.prop_map(
            |(origin, credentials, methods, headers, location, status)| {
                let mut all = origin;
                for more in [credentials, methods, headers, location] {
                    for (name, value) in &more {
                        all.append(name, value.clone());
                    }
                }
                Response {
                    status: StatusCode::from_u16(status).unwrap(),
                    headers: all,
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn responses_are_judged_like_in_browsers(response in response(), includes: bool) {
            let request = AnsweredRequest {
                origin: ORIGIN.as_bytes(),
                has_credentials: includes,
                preflight: None,
            };
            let credentials = if includes { Credentials::Include } else { Credentials::SameOrigin };
            let got = verdict(&request, &response);
            let answers = Answers { preflight: None, response: Some(response.clone()) };
            let Some(expected) = expected("GET", &[], credentials, answers, Step::Response) else {
                return Ok(());
            };
            if got.is_none() {
                prop_assert_eq!(response.status, StatusCode::NOT_MODIFIED);
                return Ok(());
            }
            prop_assert_eq!(got, Some(expected));
        }

        #[test]
        fn preflight_responses_are_judged_like_in_browsers(
            response in response(),
            method in proptest::sample::select(&["GET", "POST", "PUT", "DELETE"][..]),
            headers in proptest::sample::subsequence(vec!["authorization", "x-a", "x-b"], 1..3),
        ) {
            let list = headers.join(", ");
            let request = AnsweredRequest {
                origin: ORIGIN.as_bytes(),
                has_credentials: false,
                preflight: Some(RequestedPermission {
                    method: method.as_bytes(),
                    headers: list.as_bytes(),
                }),
            };
            let got = verdict(&request, &response);
            let answers = Answers { preflight: Some(response), response: None };
            if let Some(expected) = expected(method, &headers, Credentials::SameOrigin, answers, Step::Preflight) {
                prop_assert_eq!(got, Some(expected));
            }
        }
    }

    proptest! {
        #[test]
        fn many_requested_headers_are_judged_like_few(
            names in proptest::collection::vec("[xX]-[ab]{1,2}|\\*", 1..(3 * FEW_HEADERS)),
            listed in proptest::collection::vec("[xX]-[ab]{1,2}|\\*", 0..6),
        ) {
            let allows = |names: &[String]| {
                let headers = names.join(", ");
                let asked = RequestedPermission { method: b"PUT", headers: headers.as_bytes() };
                asked.allows_headers(|| listed.iter().map(String::as_bytes))
            };
            let one_by_one = names.iter().all(|name| allows(std::slice::from_ref(name)));
            prop_assert_eq!(allows(&names), one_by_one);
        }
    }

    #[test]
    fn the_number_of_reads_does_not_depend_on_requested_headers() {
        for count in [1, FEW_HEADERS, FEW_HEADERS + 1, 15_000] {
            let names: Vec<String> = (0..count).map(|number| format!("x{number}")).collect();
            let names = names.join(",");
            let read = Cell::new(0);
            let fields = || {
                read.set(read.get() + 1);
                [
                    ("access-control-allow-origin", ORIGIN.as_bytes()),
                    ("access-control-allow-methods", b"PUT"),
                    ("access-control-allow-headers", names.as_bytes()),
                ]
                .into_iter()
            };
            let request = AnsweredRequest {
                origin: ORIGIN.as_bytes(),
                has_credentials: false,
                preflight: Some(RequestedPermission {
                    method: b"PUT",
                    headers: names.as_bytes(),
                }),
            };
            let verdict = request.judge(StatusCode::NO_CONTENT, fields);
            assert_eq!(verdict, Some(AnswerVerdict::Passed), "{count}");
            assert!(read.get() <= FEW_HEADERS + 8, "{count}: {}", read.get());
        }
    }

    #[test]
    fn every_verdict_has_its_own_index_and_name() {
        let all: Vec<_> = AnswerVerdict::all().collect();
        assert_eq!(all.len(), AnswerVerdict::COUNT);
        for (place, verdict) in all.iter().enumerate() {
            assert_eq!(verdict.index(), place);
        }
        let mut names: Vec<_> = BlockedReason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), BlockedReason::ALL.len());
    }

    #[test]
    fn responses_that_depend_on_more_have_no_verdict() {
        let request = AnsweredRequest {
            origin: ORIGIN.as_bytes(),
            has_credentials: false,
            preflight: None,
        };
        for status in [101, 103, 304] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(request.judge(status, std::iter::empty), None, "{status}");
        }
        let other = [("access-control-allow-origin", &b"https://other.example"[..])];
        assert_eq!(
            request.judge(StatusCode::NOT_MODIFIED, || other.into_iter()),
            Some(AnswerVerdict::Blocked(BlockedReason::AllowOriginMismatch)),
        );
    }

    #[test]
    fn some_requests_with_an_origin_are_not_cors_requests() {
        let cases = [
            // A page of the same host, regardless of the port's spelling and the scheme.
            (
                "https://photos.example",
                "photos.example",
                None,
                None,
                false,
            ),
            (
                "https://photos.example",
                "PHOTOS.example:443",
                None,
                None,
                false,
            ),
            (
                "http://photos.example:8080",
                "photos.example:8080",
                None,
                None,
                false,
            ),
            (
                "http://photos.example:8080",
                "photos.example",
                None,
                None,
                true,
            ),
            (
                "https://photos.example.evil.example",
                "photos.example",
                None,
                None,
                true,
            ),
            ("null", "photos.example", None, None, true),
            // The browser's own statement takes precedence.
            (
                "https://photos.example",
                "photos.example",
                Some("cors"),
                Some("same-site"),
                true,
            ),
            (
                "https://app.example",
                "photos.example",
                Some("cors"),
                Some("same-origin"),
                false,
            ),
            (
                "https://app.example",
                "photos.example",
                Some("cors"),
                Some("cross-site"),
                true,
            ),
            (
                "https://app.example",
                "photos.example",
                Some("navigate"),
                Some("cross-site"),
                false,
            ),
            (
                "https://app.example",
                "photos.example",
                Some("no-cors"),
                Some("cross-site"),
                false,
            ),
            (
                "https://app.example",
                "photos.example",
                Some("websocket"),
                None,
                false,
            ),
        ];
        for (origin, authority, mode, site, expected) in cases {
            let applies = applies_cors(
                origin.as_bytes(),
                authority.as_bytes(),
                mode.map(str::as_bytes),
                site.map(str::as_bytes),
            );
            assert_eq!(applies, expected, "{origin} {authority} {mode:?} {site:?}");
        }
    }
}
