//! What would allow a refused request: a change of the configuration, of the route's settings, or
//! of the request.

use std::fmt;

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, HeaderValue, Method};

use super::change::SuggestedChange;
use super::decision::{Cause, Denial};
use super::origin::as_browsers_write;
use super::policy::Policy;
use super::request::{
    CorsRequest, Kind, MAX_REQUESTED_HEADERS, OriginField, RequestedHeaders, is_token,
};
use super::validation::S3_METHODS;

/// What would allow a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// A change of the configuration, or a new one if there is none.
    Change(SuggestedChange),
    /// S3 has no rules for the method. The route must allow it in `extra_methods`, and then the
    /// configuration must.
    ExtraMethod {
        /// The method.
        method: String,
        /// The change of the configuration, if one is needed.
        change: Option<SuggestedChange>,
    },
    /// A browser would not send this request.
    Request(RequestFix),
    /// No configuration could allow it.
    Nothing,
}

/// How a request must be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestFix {
    /// With an `Origin`.
    AddOrigin,
    /// With a single, valid `Origin`.
    OneOrigin,
    /// With this spelling of the origin.
    Origin(String),
    /// With an `Access-Control-Request-Method`.
    AddRequestMethod,
    /// With this spelling of the method.
    Method(String),
    /// With a method that browsers allow in scripts.
    ForbiddenMethod,
    /// Without this name in `Access-Control-Request-Headers`.
    HeaderName(String),
    /// Without this field, which belongs in responses.
    ResponseHeader(String),
    /// With fewer names in `Access-Control-Request-Headers`.
    FewerHeaders,
}

impl Advice {
    /// What would allow a request that `policy` refused.
    pub(super) fn on(
        policy: &Policy,
        denial: &Denial,
        method: &Method,
        fields: &HeaderMap,
    ) -> Self {
        if *denial.cause() == Cause::BucketNotFound {
            return Self::Nothing;
        }
        if let Some(fix) = RequestFix::of(method, fields) {
            return Self::Request(fix);
        }
        let OriginField::One(origin) = OriginField::of(fields) else {
            return Self::Request(RequestFix::OneOrigin);
        };
        let requested = fields.get(ACCESS_CONTROL_REQUEST_METHOD);
        let method = requested.map_or(method.as_str().as_bytes(), HeaderValue::as_bytes);
        let request = CorsRequest {
            kind: Kind::Preflight,
            origin: origin.as_bytes(),
            method,
            headers: RequestedHeaders::from_fields(fields),
        };
        if policy.knows_method(method) {
            return SuggestedChange::find(policy, &request).map_or(Self::Nothing, Self::Change);
        }
        let mut options = policy.options().clone();
        options.extra_methods.extend(Method::from_bytes(method));
        let extended = match policy.configuration() {
            Some(configuration) => Policy::compile(&configuration, options).ok(),
            None => Some(Policy::not_enabled(options)),
        };
        Self::ExtraMethod {
            method: String::from_utf8_lossy(method).into_owned(),
            change: extended.and_then(|policy| SuggestedChange::find(&policy, &request)),
        }
    }
}

impl RequestFix {
    /// Why a browser would not send this request.
    fn of(method: &Method, fields: &HeaderMap) -> Option<Self> {
        let origin = match OriginField::of(fields) {
            OriginField::Missing => return Some(Self::AddOrigin),
            OriginField::Malformed => return Some(Self::OneOrigin),
            OriginField::One(origin) => String::from_utf8_lossy(origin.as_bytes()),
        };
        // As an AllowedOrigin, it would be a pattern.
        if origin.contains('*') {
            return Some(Self::OneOrigin);
        }
        if let Some(written) = as_browsers_write(&origin) {
            return Some(Self::Origin(written));
        }
        let method = match fields.get(ACCESS_CONTROL_REQUEST_METHOD) {
            None if method == Method::OPTIONS => return Some(Self::AddRequestMethod),
            None => method.as_str().as_bytes(),
            Some(requested) => requested.as_bytes(),
        };
        let name = String::from_utf8_lossy(method);
        let upper = name.trim().to_ascii_uppercase();
        if S3_METHODS.contains(&&*upper) || upper == "PATCH" {
            if upper != *name {
                return Some(Self::Method(upper));
            }
        } else if name.is_empty() {
            return Some(Self::AddRequestMethod);
        } else if !is_token(method) || ["CONNECT", "TRACE", "TRACK"].contains(&&*upper) {
            return Some(Self::ForbiddenMethod);
        }
        let headers = RequestedHeaders::from_fields(fields);
        if headers.names().nth(MAX_REQUESTED_HEADERS).is_some() {
            return Some(Self::FewerHeaders);
        }
        let text = |name| String::from_utf8_lossy(name).into_owned();
        let mut names = headers.names();
        if let Some(name) = names.find(|name| !is_token(name) || name.contains(&b'*')) {
            return Some(Self::HeaderName(text(name)));
        }
        headers
            .names()
            .find(is_response_header)
            .map(|name| Self::ResponseHeader(text(name)))
    }

    /// Corrects `fields`; `None` if the correction is unknown.
    #[must_use]
    pub fn apply(&self, method: &Method, fields: &HeaderMap) -> Option<(Method, HeaderMap)> {
        let mut fields = fields.clone();
        let mut method = method.clone();
        match self {
            Self::Origin(origin) => {
                fields.insert(ORIGIN, origin.parse().ok()?);
            }
            Self::Method(name) if fields.contains_key(ACCESS_CONTROL_REQUEST_METHOD) => {
                fields.insert(ACCESS_CONTROL_REQUEST_METHOD, name.parse().ok()?);
            }
            Self::Method(name) => method = name.parse().ok()?,
            Self::ResponseHeader(_) => {
                let names = RequestedHeaders::from_fields(&fields);
                let rest: Vec<&[u8]> = names
                    .names()
                    .filter(|name| !is_response_header(name))
                    .collect();
                let rest = HeaderValue::from_bytes(&rest.join(&b", "[..])).ok()?;
                fields.insert(ACCESS_CONTROL_REQUEST_HEADERS, rest);
            }
            Self::AddOrigin
            | Self::OneOrigin
            | Self::AddRequestMethod
            | Self::ForbiddenMethod
            | Self::HeaderName(_)
            | Self::FewerHeaders => return None,
        }
        Some((method, fields))
    }
}

impl fmt::Display for RequestFix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddOrigin => f.write_str(
                "the request has no Origin: a browser sends one with every preflight and every \
                 request that needs CORS",
            ),
            Self::OneOrigin => f.write_str("the request must have a single, valid Origin"),
            Self::Origin(origin) => write!(f, "browsers send this origin as {origin}"),
            Self::AddRequestMethod => f.write_str(
                "a preflight must name the requested method in Access-Control-Request-Method",
            ),
            Self::Method(method) => {
                write!(
                    f,
                    "methods are case-sensitive: the script must use {method}"
                )
            }
            Self::ForbiddenMethod => f.write_str("browsers do not allow this method in scripts"),
            Self::HeaderName(name) => {
                write!(
                    f,
                    "`{name}` in Access-Control-Request-Headers is not a valid field name"
                )
            }
            Self::ResponseHeader(name) => {
                write!(f, "{name} is a response field: the script must not send it")
            }
            Self::FewerHeaders => write!(
                f,
                "Access-Control-Request-Headers has more than {MAX_REQUESTED_HEADERS} names"
            ),
        }
    }
}

/// Scripts often set the fields that they miss in the response.
fn is_response_header(name: &&[u8]) -> bool {
    let prefix = b"access-control-allow-";
    name.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}
