//! A CORS configuration, checked and compiled.

use http::header::ACCESS_CONTROL_REQUEST_METHOD;
use http::{HeaderMap, HeaderValue, Method};

use super::configuration::CorsConfiguration;
use super::decision::{
    Allowance, Cause, Decision, Denial, VARY_BY_ALL, VARY_BY_ORIGIN, merge_vary, remove_cors_fields,
};
use super::grant::Grants;
use super::options::{Options, Semantics};
use super::request::{CorsRequest, Kind, OriginField, RequestedHeaders};
use super::rule::{Condition, Mismatch, OriginMatch, Rule};
use super::unmatched::UnmatchedFields;
use super::validation;
use super::validation::{InvalidConfiguration, is_known_method};

/// A valid CORS configuration, compiled: decides about requests to a bucket.
#[derive(Debug, PartialEq, Eq)]
pub struct Policy {
    /// `None`: the bucket has no CORS configuration.
    rules: Option<Box<[Rule]>>,
    /// The fields beyond CORS for responses without a matching rule.
    pub(super) unmatched: Option<Box<UnmatchedFields>>,
    options: Options,
}

/// What a request asks a policy.
#[derive(Debug)]
pub(super) enum PolicyQuery<'r> {
    /// Nothing: it is not a CORS request.
    NotCors,
    /// Nothing that a rule could decide; with the cause.
    Nothing(Kind, Cause),
    /// To be decided by the rules; with the field that holds the request's origin.
    Rules(&'r HeaderValue, CorsRequest<'r>),
}

impl Policy {
    /// Checks a configuration with S3's rules and compiles it.
    ///
    /// # Errors
    ///
    /// Everything in it that S3 refuses.
    pub fn compile(
        configuration: &CorsConfiguration,
        options: Options,
    ) -> Result<Self, InvalidConfiguration> {
        Self::compile_sharing(configuration, options, &mut Grants::default())
    }

    /// Like [`compile`](Self::compile); rules share their equal parts with other policies through
    /// `grants`.
    ///
    /// # Errors
    ///
    /// Like [`compile`](Self::compile).
    pub(crate) fn compile_sharing(
        configuration: &CorsConfiguration,
        options: Options,
        grants: &mut Grants,
    ) -> Result<Self, InvalidConfiguration> {
        let errors = validation::errors(configuration, &options);
        if let Some(invalid) = InvalidConfiguration::new(errors) {
            return Err(invalid);
        }
        let mut patterns = 0;
        let rules = configuration.rules.iter().map(|rule| {
            let first_pattern = patterns;
            patterns += rule.allowed_origins.len();
            Rule::compile(rule, first_pattern, grants)
        });
        let rules: Box<[Rule]> = rules.collect();
        Ok(Self {
            unmatched: UnmatchedFields::of(&rules),
            rules: Some(rules),
            options,
        })
    }

    /// The policy of a bucket without a CORS configuration: every preflight is refused, and no
    /// response gets CORS fields.
    #[must_use]
    pub fn not_enabled(options: Options) -> Self {
        Self {
            rules: None,
            unmatched: None,
            options,
        }
    }

    /// Safe, or exactly like S3.
    #[must_use]
    pub fn semantics(&self) -> Semantics {
        self.options.semantics
    }

    /// The options that it was compiled with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether there is a CORS configuration.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.rules.is_some()
    }

    /// The configuration that it was compiled from, rebuilt at each call. `None` without a CORS
    /// configuration.
    #[must_use]
    pub fn configuration(&self) -> Option<CorsConfiguration> {
        let rules = self.rules.as_ref()?;
        Some(CorsConfiguration {
            rules: rules.iter().map(Rule::written).collect(),
        })
    }

    /// The number of rules; `None` without a CORS configuration.
    #[must_use]
    pub fn rule_count(&self) -> Option<usize> {
        self.rules.as_ref().map(|rules| rules.len())
    }

    /// The `ID` of a rule, counted from 0, if it has one.
    #[must_use]
    pub fn rule_id(&self, index: usize) -> Option<&str> {
        self.rules().get(index)?.id()
    }

    /// Every `AllowedOrigin`, in document order; [`Allowance::pattern`] is an index into this list.
    pub fn origin_patterns(&self) -> impl Iterator<Item = &str> {
        self.rules().iter().flat_map(Rule::origins)
    }

    /// The rule, counted from 0, that lists one of [`origin_patterns`](Self::origin_patterns).
    #[must_use]
    pub fn rule_of_pattern(&self, pattern: usize) -> Option<usize> {
        let mut patterns = 0;
        self.rules().iter().position(|rule| {
            patterns += rule.origins().count();
            pattern < patterns
        })
    }

    pub(super) fn rules(&self) -> &[Rule] {
        self.rules.as_deref().unwrap_or_default()
    }

    /// Decides about a request by its head. The checks follow S3's order: Origin, configuration,
    /// method, rules.
    #[must_use]
    pub fn decide(&self, method: &Method, fields: &HeaderMap) -> Decision<'_> {
        let (kind, decision) = match self.query(method, fields) {
            PolicyQuery::NotCors => return Decision::NotCors,
            PolicyQuery::Nothing(kind, cause) => (kind, Err((cause, None))),
            PolicyQuery::Rules(origin, request) => (request.kind, self.evaluate(origin, &request)),
        };
        let decision = decision.map_err(|(cause, nearest)| Denial {
            cause,
            requested_method: fields.get(ACCESS_CONTROL_REQUEST_METHOD).cloned(),
            nearest,
        });
        match kind {
            Kind::Preflight => Decision::Preflight(decision),
            Kind::Actual => Decision::Actual(decision),
        }
    }

    /// What a request asks the rules.
    pub(super) fn query<'r>(&self, method: &'r Method, fields: &'r HeaderMap) -> PolicyQuery<'r> {
        let origin = OriginField::of(fields);
        let missing = matches!(origin, OriginField::Missing);
        let options = method == Method::OPTIONS;
        if missing && !(options && self.options.semantics == Semantics::S3Exact) {
            return PolicyQuery::NotCors;
        }
        let requested = fields.get(ACCESS_CONTROL_REQUEST_METHOD);
        let preflight =
            options && (requested.is_some() || self.options.semantics == Semantics::S3Exact);
        let kind = if preflight {
            Kind::Preflight
        } else {
            Kind::Actual
        };

        if missing {
            return PolicyQuery::Nothing(kind, Cause::MissingOrigin);
        }
        if let Some(cause) = self.refuse_early(kind, requested.map(HeaderValue::as_bytes)) {
            return PolicyQuery::Nothing(kind, cause);
        }
        let OriginField::One(origin) = origin else {
            return PolicyQuery::Nothing(kind, Cause::MalformedOrigin);
        };
        let request = CorsRequest {
            kind,
            origin: origin.as_bytes(),
            // S3 judges an actual request that carries Access-Control-Request-Method by that
            // method, as if it were the preflight (ceph/s3-tests, test_cors_origin_response).
            method: requested.map_or(method.as_str().as_bytes(), HeaderValue::as_bytes),
            headers: RequestedHeaders::from_fields(fields),
        };
        PolicyQuery::Rules(origin, request)
    }

    /// Refuses a request before any rule is checked.
    pub(super) fn refuse_early(&self, kind: Kind, requested: Option<&[u8]>) -> Option<Cause> {
        if !self.is_enabled() {
            Some(Cause::NotEnabled)
        } else if kind == Kind::Preflight
            && requested.is_none_or(|method| !self.knows_method(method))
        {
            Some(Cause::InvalidMethod)
        } else {
            None
        }
    }

    fn evaluate(
        &self,
        origin: &HeaderValue,
        request: &CorsRequest<'_>,
    ) -> Result<Allowance<'_>, (Cause, Option<usize>)> {
        let (rule, matched) = self
            .first_match(request)
            .map_err(|(cause, nearest)| (cause, Some(nearest)))?;
        Ok(Allowance {
            rule,
            allow_origin: if matched.any {
                HeaderValue::from_static("*")
            } else {
                origin.clone()
            },
            any_origin: matched.any,
            allow_headers: allow_headers(request.headers),
            pattern: matched.pattern,
        })
    }

    /// The first matching rule, or the condition at which the nearest rule failed.
    pub(super) fn first_match(
        &self,
        request: &CorsRequest<'_>,
    ) -> Result<(&Rule, OriginMatch), (Cause, usize)> {
        let mut nearest = (Condition::Origin, 0);
        for (index, rule) in self.rules().iter().enumerate() {
            match rule.judge(request) {
                Ok(matched) => return Ok((rule, matched)),
                // The same name would be malformed for every later rule.
                Err(Mismatch::MalformedHeader(name)) => {
                    let name = name.and_then(|name| HeaderValue::from_bytes(name).ok());
                    return Err((Cause::InvalidHeaders(name), index));
                }
                Err(mismatch) if mismatch.condition() > nearest.0 => {
                    nearest = (mismatch.condition(), index);
                }
                Err(_) => {}
            }
        }
        Err((Cause::NoRule(nearest.0), nearest.1))
    }

    /// Whether a rule may name `method`.
    pub(crate) fn knows_method(&self, method: &[u8]) -> bool {
        is_known_method(method, &self.options.extra_methods)
    }

    /// Marks a response: removes the upstream's CORS fields, adds the decision's, and merges
    /// `Vary`. The fields of a policy's extension elements replace the upstream's.
    ///
    /// Every response to a request that this policy decided must pass through here, whatever its
    /// status and origin, except interim responses (1xx).
    pub fn mark(&self, decision: Decision<'_>, fields: &mut HeaderMap) {
        remove_cors_fields(fields);
        let (kind, allowance) = match decision {
            Decision::NotCors => (Kind::Actual, None),
            Decision::Preflight(outcome) => (Kind::Preflight, outcome.ok()),
            Decision::Actual(outcome) => (Kind::Actual, outcome.ok()),
        };
        let vary = self.vary(kind, allowance.is_some());
        match (kind, allowance) {
            (Kind::Actual, None) => {
                if let Some(unmatched) = &self.unmatched {
                    unmatched.insert_into(fields);
                }
            }
            (Kind::Preflight, None) => {}
            (kind, Some(allowance)) => allowance.insert_into(kind, fields),
        }
        if let Some(names) = vary {
            merge_vary(fields, names);
        }
    }

    /// The field names that the response's `Vary` must list. A request that is not a CORS request
    /// counts as an actual one that no rule allowed.
    pub(crate) fn vary(&self, kind: Kind, is_allowed: bool) -> Option<&'static HeaderValue> {
        match (is_allowed, self.options.semantics, kind) {
            (true, _, _) | (false, Semantics::Safe, Kind::Preflight) => Some(&VARY_BY_ALL),
            (false, Semantics::Safe, Kind::Actual) => Some(&VARY_BY_ORIGIN),
            (false, Semantics::S3Exact, _) => None,
        }
    }
}

/// `Access-Control-Allow-Headers`: the requested names in lower case, in request order.
fn allow_headers(requested: RequestedHeaders<'_>) -> Option<HeaderValue> {
    if requested.is_empty() {
        return None;
    }
    // Has the exact length, so that the field value can reuse the buffer.
    let length: usize = requested.names().map(|name| name.len() + ", ".len()).sum();
    let mut list = Vec::with_capacity(length - ", ".len());
    write_allow_headers(requested, &mut list);
    Some(HeaderValue::try_from(list).expect("tokens make a field value"))
}

/// The value of `Access-Control-Allow-Headers`: the requested names in lower case, in request
/// order.
pub(super) fn write_allow_headers(requested: RequestedHeaders<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    for name in requested.names() {
        if out.len() > start {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(name);
    }
    if let Some(list) = out.get_mut(start..) {
        list.make_ascii_lowercase();
    }
}
