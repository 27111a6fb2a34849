//! What would let a refused request in: another configuration, another setting of the route, or
//! another request.

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

/// What would let a refused request in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// A change of the configuration, or where there is none, a whole one.
    Change(SuggestedChange),
    /// S3 has no rules for the method: the route has to allow it in its `extra_methods`, then
    /// the configuration.
    ExtraMethod {
        /// The method.
        method: String,
        /// The change of the configuration.
        change: Option<SuggestedChange>,
    },
    /// The request is not one that a browser would send.
    Request(RequestFix),
    /// Nothing that a configuration could say.
    Nothing,
}

/// How a request has to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestFix {
    /// With an `Origin`.
    AddOrigin,
    /// With one `Origin` that is an origin.
    OneOrigin,
    /// With the origin written like this.
    Origin(String),
    /// With an `Access-Control-Request-Method`.
    AddRequestMethod,
    /// With the method written like this.
    Method(String),
    /// With a method that browsers let scripts use.
    ForbiddenMethod,
    /// Without this name in `Access-Control-Request-Headers`.
    HeaderName(String),
    /// Without this field, which only responses have.
    ResponseHeader(String),
    /// With fewer names in `Access-Control-Request-Headers`.
    FewerHeaders,
}

impl Advice {
    /// What would let a request in that `policy` refused.
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
    /// What keeps a request from being one that a browser would send.
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

    /// Sends `fields` as they should have been; `None` where that is not known.
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
            Self::OneOrigin => f.write_str("the request has to have one Origin that is an origin"),
            Self::Origin(origin) => write!(f, "a browser sends this origin as {origin}"),
            Self::AddRequestMethod => f.write_str(
                "a preflight names the method that it asks for: Access-Control-Request-Method",
            ),
            Self::Method(method) => {
                write!(
                    f,
                    "methods are case-sensitive: the script has to say {method}"
                )
            }
            Self::ForbiddenMethod => f.write_str("no browser lets a script use this method"),
            Self::HeaderName(name) => {
                write!(
                    f,
                    "`{name}` in Access-Control-Request-Headers is no field name"
                )
            }
            Self::ResponseHeader(name) => write!(
                f,
                "{name} is a field of responses: the script must not send it"
            ),
            Self::FewerHeaders => write!(
                f,
                "Access-Control-Request-Headers has more than {MAX_REQUESTED_HEADERS} names"
            ),
        }
    }
}

/// Scripts like to set the fields that they miss in the response.
fn is_response_header(name: &&[u8]) -> bool {
    let prefix = b"access-control-allow-";
    name.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}
