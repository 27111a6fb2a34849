//! A script's request under a policy, as its browser sends it: the preflight, then the request.

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use thiserror::Error;

use crate::cors::fetch::{Credentials, RequestHeader, is_safelisted_method, normalized_method};
use crate::cors::{
    Decision, Explanation, Outcome, Policy, ResourceType, S3Error, as_browsers_write,
};
use crate::routing::bucket::Ambiguity;
use crate::text::visible::visible;

use super::browser::Browser;
use super::fetch::{self, PreflightReason};

/// A request that a script might make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hypothetical {
    /// The URL that it requests: `http://HOST/PATH`.
    pub url: String,
    /// The origin of the script's page.
    pub origin: String,
    /// Its method.
    pub method: String,
    /// The fields that the script sets: names, or `name: value`.
    pub headers: Vec<String>,
    /// Whether it has credentials, such as cookies.
    pub credentials: Credentials,
    /// The response fields that the script wants to read: names, or lists of names.
    pub read: Vec<String>,
}

impl Hypothetical {
    /// The fields that the script sets, one by one.
    pub(super) fn header_texts(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().flat_map(|text| names_in(text))
    }

    /// The names of the fields that it wants to read.
    pub(super) fn read_names(&self) -> impl Iterator<Item = HeaderName> {
        let names = self
            .read
            .iter()
            .flat_map(|list| list.split(',').map(str::trim));
        names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
    }
}

/// Why no browser can make a request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidHypothetical {
    /// The URL does not parse, or its scheme is not HTTP.
    #[error("`{}` is not an HTTP URL with a host: write http://HOST/PATH", visible(.0))]
    Url(String),
    /// The origin is missing or cannot be a field's value.
    #[error("`{}` is not an origin: write SCHEME://HOST, with the port unless it is the scheme's default", visible(.0))]
    Origin(String),
    /// The method is not a token.
    #[error("`{}` is not a method: methods are words such as GET, without spaces", visible(.0))]
    Method(String),
    /// The name of a header is not a token.
    #[error("`{}` is not a header name: write NAME or `NAME: VALUE`", visible(.0))]
    Header(String),
}

/// A browser's requests and a policy's answers.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The method, as the browser sends it.
    pub method: Method,
    /// The origin, as the browser sends it.
    pub origin: HeaderValue,
    /// The origin as written, if browsers send it differently.
    pub written_origin: Option<String>,
    /// Why the browser sends a preflight; empty if it does not.
    pub preflight_reasons: Vec<PreflightReason>,
    /// The names in `Access-Control-Request-Headers`.
    pub requested_headers: Vec<String>,
    /// Fields that the preflight does not list.
    pub safelisted_headers: Vec<String>,
    /// Fields that no script can set.
    pub forbidden_headers: Vec<String>,
    /// The policy's decision about the preflight, even if the browser sends none.
    pub preflight: Explanation,
    /// The status of the preflight's answer.
    pub preflight_status: StatusCode,
    /// S3's error in the preflight's answer: code and message.
    pub preflight_error: Option<(String, String)>,
    /// The policy's decision about the request itself.
    pub actual: Explanation,
    /// Why no policy applies: storage servers could read different buckets from the request.
    pub ambiguity: Option<Ambiguity>,
    /// The browsers' verdict on these answers; `None` before it is computed.
    pub browser: Option<Browser>,
}

impl Exchange {
    /// The answers of `policy` to a request for a `resource`.
    ///
    /// # Errors
    ///
    /// [`InvalidHypothetical`] if no browser could send the request. The URL is not checked.
    pub fn new(
        policy: &Policy,
        request: &Hypothetical,
        resource: ResourceType,
    ) -> Result<Self, InvalidHypothetical> {
        let Asked {
            method,
            origin,
            written_origin,
            reasons,
            asked,
            safelisted,
            forbidden,
        } = Asked::new(request)?;
        let fields = preflight_fields(&origin, &method, &asked);
        let denial = match policy.decide(&Method::OPTIONS, &fields) {
            Decision::Preflight(Err(denial)) => Some(denial),
            Decision::NotCors | Decision::Preflight(Ok(_)) | Decision::Actual(_) => None,
        };
        let error = denial.as_ref().map(|denial| {
            let error = S3Error::of(denial, resource);
            (error.code.to_owned(), error.message.into_owned())
        });
        let preflight = policy.explain(&Method::OPTIONS, &fields);
        let actual = HeaderMap::from_iter([(ORIGIN, origin.clone())]);
        let actual = policy.explain(&method, &actual);
        Ok(Self {
            method,
            origin,
            written_origin,
            preflight_reasons: reasons,
            requested_headers: asked,
            safelisted_headers: safelisted,
            forbidden_headers: forbidden,
            preflight,
            preflight_status: denial.map_or(StatusCode::OK, |denial| denial.status()),
            preflight_error: error,
            actual,
            ambiguity: None,
            browser: None,
        })
    }

    /// Whether the browser sends a preflight.
    #[must_use]
    pub fn needs_preflight(&self) -> bool {
        !self.preflight_reasons.is_empty()
    }

    /// Whether the script gets what it wants.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.is_allowed_by_policy() && self.browser.as_ref().is_none_or(Browser::is_satisfied)
    }

    /// Whether the policy allows the request.
    pub(super) fn is_allowed_by_policy(&self) -> bool {
        let allowed =
            |explanation: &Explanation| matches!(explanation.outcome, Outcome::Allowed(_));
        allowed(&self.actual) && (!self.needs_preflight() || allowed(&self.preflight))
    }

    /// The answer that decides: the preflight's if it stops the request, else the request's own.
    #[must_use]
    pub fn deciding(&self) -> &Explanation {
        let is_refused = matches!(self.preflight.outcome, Outcome::Refused(_));
        if self.needs_preflight() && is_refused {
            &self.preflight
        } else {
            &self.actual
        }
    }
}

/// A request as the script passes it to the browser.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) origin: HeaderValue,
    written_origin: Option<String>,
    pub(crate) reasons: Vec<PreflightReason>,
    pub(crate) asked: Vec<String>,
    safelisted: Vec<String>,
    forbidden: Vec<String>,
}

impl Asked {
    pub(super) fn new(request: &Hypothetical) -> Result<Self, InvalidHypothetical> {
        let method = normalized_method(request.method.trim());
        let parsed = Method::from_bytes(method.as_bytes())
            .map_err(|_| InvalidHypothetical::Method(method.clone()))?;
        let written = request.origin.trim();
        let sent = as_browsers_write(written);
        let origin = HeaderValue::from_str(sent.as_deref().unwrap_or(written))
            .ok()
            .filter(|origin| !origin.is_empty())
            .ok_or_else(|| InvalidHypothetical::Origin(request.origin.clone()))?;
        let mut this = Self {
            reasons: Vec::new(),
            asked: Vec::new(),
            safelisted: Vec::new(),
            forbidden: Vec::new(),
            method: parsed,
            origin,
            written_origin: sent.map(|_| written.to_owned()),
        };
        if !is_safelisted_method(&method) {
            this.reasons.push(PreflightReason::Method(method));
        }
        for name in request
            .read
            .iter()
            .flat_map(|list| list.split(',').map(str::trim))
        {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(InvalidHypothetical::Header(name.to_owned()));
            }
        }
        for header in request.header_texts() {
            let (name, value) =
                fetch::field(header).map_err(|_| InvalidHypothetical::Header(header.to_owned()))?;
            if value.is_none() && fetch::depends_on_its_value(&name) {
                this.reasons
                    .push(PreflightReason::Unvalued(name.to_string()));
            }
            match RequestHeader::of(&name, value) {
                RequestHeader::Unsafe(name) => this.asked.push(name),
                RequestHeader::Safelisted(name) => this.safelisted.push(name),
                RequestHeader::Forbidden(name) => this.forbidden.push(name),
            }
        }
        // Browsers sort the names and list each once.
        this.asked.sort();
        this.asked.dedup();
        for name in &this.asked {
            let unvalued = PreflightReason::Unvalued(name.clone());
            if !this.reasons.contains(&unvalued) {
                this.reasons.push(PreflightReason::Header(name.clone()));
            }
        }
        Ok(this)
    }
}

/// Splits a list of names. A field with a value is not split, because the value may contain
/// commas.
fn names_in(text: &str) -> Vec<&str> {
    match text.contains(':') {
        true => vec![text],
        false => text.split(',').map(str::trim).collect(),
    }
}

fn preflight_fields(origin: &HeaderValue, method: &Method, asked: &[String]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(ORIGIN, origin.clone());
    let method = HeaderValue::from_str(method.as_str()).expect("a method is a token");
    fields.insert(ACCESS_CONTROL_REQUEST_METHOD, method);
    if !asked.is_empty() {
        let names = HeaderValue::from_str(&asked.join(",")).expect("names are tokens");
        fields.insert(ACCESS_CONTROL_REQUEST_HEADERS, names);
    }
    fields
}
