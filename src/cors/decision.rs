//! The decision on a request, and the response fields that tell the browser about it.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::grant::TRUE;
use super::request::{Kind, RequestedHeaders};
use super::rule::{Condition, Rule};

/// The value of `Vary` on responses that a rule allowed; S3 sends the same.
pub const VARY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// [`VARY`] as a field value, built once.
pub(super) static VARY_BY_ALL: HeaderValue = HeaderValue::from_static(VARY);

/// The value of `Vary` on responses that no rule allowed, under safe semantics.
pub(super) static VARY_BY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");

/// A policy's decision on a request.
#[derive(Debug)]
pub enum Decision<'p> {
    /// Not a CORS request: forward it.
    NotCors,
    /// A preflight: answer it, allowed or denied; it is never forwarded.
    Preflight(Result<Allowance<'p>, Denial>),
    /// An actual CORS request: forward it in any case; the decision only affects the response's
    /// fields.
    Actual(Result<Allowance<'p>, Denial>),
}

impl<'p> Decision<'p> {
    /// The allowance, if a rule allowed the request.
    #[must_use]
    pub fn allowance(&self) -> Option<&Allowance<'p>> {
        match self {
            Self::Preflight(Ok(allowance)) | Self::Actual(Ok(allowance)) => Some(allowance),
            Self::NotCors | Self::Preflight(Err(_)) | Self::Actual(Err(_)) => None,
        }
    }

    /// The denial, if the request was refused.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Preflight(Err(denial)) | Self::Actual(Err(denial)) => Some(denial),
            Self::NotCors | Self::Preflight(Ok(_)) | Self::Actual(Ok(_)) => None,
        }
    }

    /// The outcome for metrics and logs; `None` if it is not a CORS request.
    #[must_use]
    pub fn outcome(&self) -> Option<(Kind, Result<(), Reason>)> {
        let (kind, outcome) = match self {
            Self::NotCors => return None,
            Self::Preflight(outcome) => (Kind::Preflight, outcome),
            Self::Actual(outcome) => (Kind::Actual, outcome),
        };
        Some((kind, outcome.as_ref().map(|_| ()).map_err(Denial::reason)))
    }
}

/// A rule allowed the request: holds the fields for the response.
#[derive(Debug)]
pub struct Allowance<'p> {
    pub(super) rule: &'p Rule,
    /// The request's origin, or `*`.
    pub(super) allow_origin: HeaderValue,
    /// Whether the lone `*` matched, which excludes credentials.
    pub(super) any_origin: bool,
    /// The requested names, if any.
    pub(super) allow_headers: Option<HeaderValue>,
    /// Which of the policy's patterns matched.
    pub(super) pattern: usize,
}

impl Allowance<'_> {
    /// The pattern that matched, as an index into
    /// [`Policy::origin_patterns`](super::Policy::origin_patterns).
    #[must_use]
    pub fn pattern(&self) -> usize {
        self.pattern
    }

    /// Whether the lone `*` matched, so that `Access-Control-Allow-Origin` is `*`.
    #[must_use]
    pub fn is_any_origin(&self) -> bool {
        self.any_origin
    }

    /// Adds the fields in S3's order, without `Vary`. Responses to actual requests also get the
    /// fields of the rule's extension elements.
    pub(super) fn insert_into(self, kind: Kind, fields: &mut HeaderMap) {
        let extension = self.rule.grant.extension.as_ref();
        let extension = extension
            .filter(|_| kind == Kind::Actual)
            .map(|extension| (extension, self.allow_origin.clone()));
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.allow_origin);
        fields.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            self.rule.grant.allow_methods.clone(),
        );
        if let Some(names) = self.allow_headers {
            fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        if let Some(names) = &self.rule.grant.expose_headers {
            fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, names.clone());
        }
        if let Some(seconds) = &self.rule.grant.max_age {
            fields.insert(ACCESS_CONTROL_MAX_AGE, seconds.clone());
        }
        if !self.any_origin {
            fields.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE.clone());
        }
        if let Some((extension, allow_origin)) = extension {
            extension.insert_into(&allow_origin, fields);
        }
    }
}

/// Why a CORS request is refused.
///
/// A refused preflight is answered with [`status`](Self::status) and S3's error document
/// ([`s3_error`](super::S3Error)); the response to a refused actual request just has no CORS
/// fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub(super) cause: Cause,
    /// `Access-Control-Request-Method`, if the request has one.
    pub(super) requested_method: Option<HeaderValue>,
    /// The nearest rule, counted from 0.
    pub(super) nearest: Option<usize>,
}

/// The cause of a [`Denial`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// `OPTIONS` without `Origin`.
    MissingOrigin,
    /// No bucket is served under this host.
    BucketNotFound,
    /// The bucket has no CORS configuration.
    NotEnabled,
    /// `Access-Control-Request-Method` is missing, or not a method that a rule could allow.
    InvalidMethod,
    /// `Access-Control-Request-Headers` has an invalid field name, or too many names.
    InvalidHeaders(Option<HeaderValue>),
    /// `Origin` is repeated or invalid.
    MalformedOrigin,
    /// No rule allows it; the condition at which the nearest rule failed.
    NoRule(Condition),
}

/// Why a request was refused, for metrics and logs: a fixed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No rule has the origin.
    Origin,
    /// A rule has the origin but not the method, or no rule could list the method.
    Method,
    /// A rule has the origin and the method, but not every header.
    Header,
    /// The bucket or host has no CORS configuration.
    NoCors,
    /// The request's CORS fields are invalid, so no rule can be checked.
    Malformed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Origin,
        Self::Method,
        Self::Header,
        Self::NoCors,
        Self::Malformed,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Method => "method",
            Self::Header => "header",
            Self::NoCors => "no_cors",
            Self::Malformed => "malformed",
        }
    }
}

impl Denial {
    /// The refusal of a preflight to a host that is not served.
    #[must_use]
    pub fn bucket_not_found() -> Self {
        Self {
            cause: Cause::BucketNotFound,
            requested_method: None,
            nearest: None,
        }
    }

    /// The cause of the refusal.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The rule nearest to allowing the request, counted from 0.
    #[must_use]
    pub fn nearest_rule(&self) -> Option<usize> {
        self.nearest
    }

    /// The reason, for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match &self.cause {
            Cause::BucketNotFound | Cause::NotEnabled => Reason::NoCors,
            Cause::NoRule(Condition::Origin) => Reason::Origin,
            Cause::NoRule(Condition::Method) => Reason::Method,
            // `PATCH` is a method, although no rule of this policy could list it.
            Cause::InvalidMethod if self.requests_a_method() => Reason::Method,
            Cause::NoRule(Condition::Header) => Reason::Header,
            Cause::MissingOrigin
            | Cause::InvalidMethod
            | Cause::InvalidHeaders(_)
            | Cause::MalformedOrigin => Reason::Malformed,
        }
    }

    /// Whether the requested method is a valid token ([RFC 9110 §9.1]).
    ///
    /// [RFC 9110 §9.1]: https://www.rfc-editor.org/rfc/rfc9110#section-9.1
    fn requests_a_method(&self) -> bool {
        let method = self.requested_method.as_ref();
        method.is_some_and(|method| Method::from_bytes(method.as_bytes()).is_ok())
    }

    /// The status of a preflight that is refused for this reason.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match &self.cause {
            Cause::MissingOrigin | Cause::InvalidMethod | Cause::InvalidHeaders(_) => {
                StatusCode::BAD_REQUEST
            }
            Cause::BucketNotFound
            | Cause::NotEnabled
            | Cause::MalformedOrigin
            | Cause::NoRule(_) => StatusCode::FORBIDDEN,
        }
    }
}

/// Removes the response's CORS fields, because the policy sets them instead of the upstream.
pub(super) fn remove_cors_fields(fields: &mut HeaderMap) {
    let is_cors = |name: &&HeaderName| is_cors_field(name.as_str());
    // Upstreams rarely send any; the list is then empty and allocates nothing.
    let names: Vec<HeaderName> = fields.keys().filter(is_cors).cloned().collect();
    for name in names {
        fields.remove(name);
    }
}

/// The response field that explains why a request was refused.
pub(crate) const REASON_FIELD: &str = "x-s3cors-reason";

/// Whether a response field is about CORS, ignoring letter case.
pub(crate) fn is_cors_field(name: &str) -> bool {
    if name.len() == REASON_FIELD.len() && name.eq_ignore_ascii_case(REASON_FIELD) {
        return true;
    }
    const PREFIX: &[u8] = b"access-control-";
    let start = name.as_bytes().get(..PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Adds `names` to `Vary`: existing names stay, none is listed twice, and a `*` covers all ([RFC
/// 9110 §12.5.5]).
///
/// [RFC 9110 §12.5.5]: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.5
pub(super) fn merge_vary(fields: &mut HeaderMap, names: &HeaderValue) {
    use http::header::VARY;
    if !fields.contains_key(VARY) {
        fields.insert(VARY, names.clone());
        return;
    }
    let lines = fields.get_all(VARY).iter().chain([names]);
    let merged = HeaderValue::try_from(merged_vary(lines.map(HeaderValue::as_bytes)))
        .expect("parts of valid field values form a valid field value");
    fields.insert(VARY, merged);
}

/// Merges several values of `Vary`.
pub(crate) fn merged_vary<'v>(lines: impl Iterator<Item = &'v [u8]>) -> Vec<u8> {
    let mut listed: Vec<&[u8]> = Vec::new();
    for name in lines.flat_map(|line| RequestedHeaders::from_value(line).names()) {
        if name == b"*" {
            return b"*".to_vec();
        }
        if !listed.iter().any(|old| old.eq_ignore_ascii_case(name)) {
            listed.push(name);
        }
    }
    listed.join(&b", "[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(upstream: &[&str], names: &str) -> Vec<String> {
        let mut fields = HeaderMap::new();
        for line in upstream {
            fields.append(http::header::VARY, line.parse().unwrap());
        }
        merge_vary(&mut fields, &names.parse().unwrap());
        fields
            .get_all(http::header::VARY)
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn names_are_added_to_vary_once() {
        assert_eq!(merged(&[], "Origin"), ["Origin"]);
        assert_eq!(
            merged(&["Accept-Encoding"], "Origin"),
            ["Accept-Encoding, Origin"]
        );
        assert_eq!(
            merged(&["origin", "Origin, Cookie"], "Origin"),
            ["origin, Cookie"]
        );
        assert_eq!(merged(&["Cookie", "*"], "Origin"), ["*"]);
        assert_eq!(
            merged(&["Access-Control-Request-Method"], VARY),
            ["Access-Control-Request-Method, Origin, Access-Control-Request-Headers"]
        );
    }

    #[test]
    fn every_cors_field_of_the_upstream_is_removed() {
        let mut fields = HeaderMap::new();
        for name in [
            "access-control-allow-origin",
            "access-control-max-age",
            "etag",
        ] {
            fields.append(name, HeaderValue::from_static("a"));
            fields.append(name, HeaderValue::from_static("b"));
        }
        fields.append(
            "access-control-allow-private-network",
            HeaderValue::from_static("true"),
        );
        remove_cors_fields(&mut fields);
        assert_eq!(fields.keys_len(), 1);
        assert_eq!(fields.len(), 2);
    }
}
