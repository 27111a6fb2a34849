//! A CORS configuration, checked and compiled, and the one predicate that decides.

use http::header::ACCESS_CONTROL_REQUEST_METHOD;
use http::{HeaderMap, HeaderValue, Method};
use thiserror::Error;

use super::configuration::{CorsConfiguration, CorsRule, Element, ElementPath};
use super::decision::{
    self, Allowance, Cause, Condition, Decision, Denial, merge_vary, remove_cors_fields,
};
use super::pattern::Wildcard;
use super::request::{
    CorsRequest, Kind, MAX_REQUESTED_HEADERS, OriginField, RequestedHeaders, is_token,
};

/// The methods that S3 knows rules for.
pub const S3_METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

/// The most rules that S3 takes.
pub const MAX_RULES: usize = 100;

/// The longest `ID`, in characters.
pub const MAX_ID: usize = 255;

/// Where S3's own behaviour is a trap for whoever stands behind a cache or is no bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Semantics {
    /// `Vary: Origin` on every response, so that no cache keeps one without CORS fields for a
    /// page that needs them; `OPTIONS` that is no preflight is forwarded.
    #[default]
    Safe,
    /// As Amazon S3: no `Vary` where no rule matched, and every `OPTIONS` is a preflight.
    S3Exact,
}

/// What a policy is compiled with, besides the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Safe, or exactly as S3.
    pub semantics: Semantics,
    /// Methods beyond [`S3_METHODS`] that rules may allow, for upstreams that are not S3.
    pub extra_methods: Vec<Method>,
}

/// A CORS configuration that S3 would accept, compiled: it answers for a bucket.
#[derive(Debug)]
pub struct Policy {
    /// `None`: the bucket has no CORS configuration.
    rules: Option<Box<[Rule]>>,
    options: Options,
    /// Every rule's origins, one after the other.
    origin_patterns: Box<[Box<str>]>,
    /// What it was compiled from, for people.
    configuration: Option<CorsConfiguration>,
}

/// One rule, with the response values that follow from it.
#[derive(Debug)]
pub(super) struct Rule {
    origins: Box<[Wildcard]>,
    /// Where the lone `*` stands among `origins`.
    any_origin: Option<usize>,
    /// How many patterns the rules before this one have.
    first_pattern: usize,
    methods: Box<[Box<str>]>,
    headers: Box<[Wildcard]>,
    pub(super) allow_methods: HeaderValue,
    pub(super) expose_headers: Option<HeaderValue>,
    pub(super) max_age: Option<HeaderValue>,
}

/// What a request asks of a policy.
#[derive(Debug)]
pub(super) enum Asked<'r> {
    /// Nothing: it is no CORS request.
    NotCors,
    /// Nothing that a rule could answer, for this cause.
    Nothing(Kind, Cause),
    /// The rules; the origin is the field that the request borrows its origin from.
    Rules(&'r HeaderValue, CorsRequest<'r>),
}

/// The origin pattern of a rule that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OriginMatch {
    pattern: usize,
    any: bool,
}

/// Why a rule does not match a request: the first of its conditions that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch<'r> {
    /// No `AllowedOrigin` matches.
    Origin,
    /// The method is not among `AllowedMethod`.
    Method,
    /// This requested header matches no `AllowedHeader`.
    Header(&'r [u8]),
    /// This requested header is no field name, so that no rule can be asked for it; `None`:
    /// there are too many.
    MalformedHeader(Option<&'r [u8]>),
}

impl Mismatch<'_> {
    /// The condition that failed.
    #[must_use]
    pub fn condition(&self) -> Condition {
        match self {
            Self::Origin => Condition::Origin,
            Self::Method => Condition::Method,
            Self::Header(_) | Self::MalformedHeader(_) => Condition::Header,
        }
    }
}

/// A value that S3 refuses, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Where.
    pub path: ElementPath,
    /// What is wrong.
    pub kind: RuleErrorKind,
}

/// What S3 refuses in a configuration. `Display` is S3's own message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleErrorKind {
    /// No rule at all.
    #[error("{MALFORMED_XML}")]
    NoRules,
    /// A rule lacks an element that each must have.
    #[error("{MALFORMED_XML}")]
    Missing(Element),
    /// More than [`MAX_RULES`].
    #[error("The number of CORS rules should not exceed allowed limit of 100 rules.")]
    TooManyRules,
    /// An `ID` above [`MAX_ID`] characters.
    #[error("The ID of a CORS rule must not be longer than 255 characters.")]
    IdTooLong,
    /// A method that rules cannot name.
    #[error("Found unsupported HTTP method in CORS config. Unsupported method is {0}")]
    UnsupportedMethod(String),
    /// More than one `*`.
    #[error("{0} \"{1}\" can not have more than one wildcard.")]
    TooManyWildcards(Element, String),
    /// A `*` in `ExposeHeader`.
    #[error(
        "ExposeHeader \"{0}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
    )]
    ExposeWildcard(String),
    /// A field name with a character that no field name has. S3 says `AllowedHeader` for
    /// `ExposeHeader` too.
    #[error("AllowedHeader \"{1}\" contains invalid character.")]
    InvalidCharacter(Element, String),
}

/// S3's message for a document that is no CORS configuration.
pub const MALFORMED_XML: &str =
    "The XML you provided was not well-formed or did not validate against our published schema";

impl RuleErrorKind {
    /// S3's error code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoRules | Self::Missing(_) => "MalformedXML",
            Self::TooManyRules
            | Self::IdTooLong
            | Self::UnsupportedMethod(_)
            | Self::TooManyWildcards(..)
            | Self::ExposeWildcard(_)
            | Self::InvalidCharacter(..) => "InvalidRequest",
        }
    }
}

impl Policy {
    /// Checks a configuration as S3 does and compiles it.
    ///
    /// # Errors
    ///
    /// Everything in it that S3 refuses, in the order in which S3 looks: structure, number of
    /// rules, then rule by rule.
    pub fn compile(
        configuration: &CorsConfiguration,
        options: Options,
    ) -> Result<Self, Vec<RuleError>> {
        let errors = errors(configuration, &options);
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut origin_patterns = Vec::new();
        let rules = configuration
            .rules
            .iter()
            .map(|rule| {
                let first_pattern = origin_patterns.len();
                origin_patterns
                    .extend(rule.allowed_origins.iter().map(|text| text.as_str().into()));
                Rule::compile(rule, first_pattern)
            })
            .collect();
        Ok(Self {
            rules: Some(rules),
            options,
            origin_patterns: origin_patterns.into(),
            configuration: Some(configuration.clone()),
        })
    }

    /// The policy of a bucket without a CORS configuration: every preflight is refused, no
    /// response gets CORS fields.
    #[must_use]
    pub fn not_enabled(options: Options) -> Self {
        Self {
            rules: None,
            options,
            origin_patterns: Box::default(),
            configuration: None,
        }
    }

    /// Safe, or exactly as S3.
    #[must_use]
    pub fn semantics(&self) -> Semantics {
        self.options.semantics
    }

    /// What it was compiled with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether there is a CORS configuration at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.rules.is_some()
    }

    /// What it was compiled from; `None` where there is no CORS configuration.
    #[must_use]
    pub fn configuration(&self) -> Option<&CorsConfiguration> {
        self.configuration.as_ref()
    }

    /// Every `AllowedOrigin`, in document order; [`Allowance::pattern`] is an index into it.
    #[must_use]
    pub fn origin_patterns(&self) -> &[Box<str>] {
        &self.origin_patterns
    }

    pub(super) fn rules(&self) -> &[Rule] {
        self.rules.as_deref().unwrap_or_default()
    }

    /// Decides on a request by its head. The order of the checks is S3's
    /// (Origin, configuration, method, rules).
    #[must_use]
    pub fn decide(&self, method: &Method, fields: &HeaderMap) -> Decision<'_> {
        let (kind, decision) = match self.ask(method, fields) {
            Asked::NotCors => return Decision::NotCors,
            Asked::Nothing(kind, cause) => (kind, Err((cause, None))),
            Asked::Rules(origin, request) => (request.kind, self.evaluate(origin, &request)),
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

    /// What a request asks the rules, if it asks them anything.
    pub(super) fn ask<'r>(&self, method: &'r Method, fields: &'r HeaderMap) -> Asked<'r> {
        let origin = OriginField::of(fields);
        let missing = matches!(origin, OriginField::Missing);
        let options = method == Method::OPTIONS;
        if missing && !(options && self.options.semantics == Semantics::S3Exact) {
            return Asked::NotCors;
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
            return Asked::Nothing(kind, Cause::MissingOrigin);
        }
        if !self.is_enabled() {
            return Asked::Nothing(kind, Cause::NotEnabled);
        }
        if preflight && requested.is_none_or(|method| !self.knows_method(method.as_bytes())) {
            return Asked::Nothing(kind, Cause::InvalidMethod);
        }
        let OriginField::One(origin) = origin else {
            return Asked::Nothing(kind, Cause::MalformedOrigin);
        };
        let request = CorsRequest {
            kind,
            origin: origin.as_bytes(),
            // S3 judges an actual request that carries Access-Control-Request-Method by that
            // method, as if it were the preflight (ceph/s3-tests, test_cors_origin_response).
            method: requested.map_or(method.as_str().as_bytes(), HeaderValue::as_bytes),
            headers: RequestedHeaders::from_fields(fields),
        };
        Asked::Rules(origin, request)
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

    /// The first rule without a mismatch, or how far the nearest one went.
    fn first_match(
        &self,
        request: &CorsRequest<'_>,
    ) -> Result<(&Rule, OriginMatch), (Cause, usize)> {
        let mut nearest = (Condition::Origin, 0);
        for (index, rule) in self.rules().iter().enumerate() {
            match rule.judge(request) {
                Ok(matched) => return Ok((rule, matched)),
                // No later rule could be asked for it either.
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
    pub(super) fn knows_method(&self, method: &[u8]) -> bool {
        is_known_method(method, &self.options)
    }

    /// Marks a response: the upstream's CORS fields go, the decision's come, `Vary` is merged.
    ///
    /// Every response to a request that this policy decided on goes through here, whatever its
    /// status and whoever made it; interim responses (1xx) do not.
    pub fn mark(&self, decision: Decision<'_>, fields: &mut HeaderMap) {
        remove_cors_fields(fields);
        let preflight = matches!(decision, Decision::Preflight(_));
        match decision {
            Decision::Preflight(Ok(allowance)) | Decision::Actual(Ok(allowance)) => {
                allowance.insert_into(fields);
                merge_vary(fields, decision::VARY);
            }
            Decision::NotCors | Decision::Preflight(Err(_)) | Decision::Actual(Err(_)) => {
                match self.options.semantics {
                    Semantics::S3Exact => {}
                    Semantics::Safe if preflight => merge_vary(fields, decision::VARY),
                    Semantics::Safe => merge_vary(fields, "Origin"),
                }
            }
        }
    }
}

impl Rule {
    fn compile(rule: &CorsRule, first_pattern: usize) -> Self {
        const CHECKED: &str = "the configuration was checked";
        let patterns = |texts: &[String]| -> Box<[Wildcard]> {
            texts
                .iter()
                .map(|text| Wildcard::parse(text).expect(CHECKED))
                .collect()
        };
        let value = |names: &[&str]| HeaderValue::from_str(&names.join(", ")).expect(CHECKED);
        let methods: Vec<&str> = rule.allowed_methods.iter().map(String::as_str).collect();
        let exposed: Vec<&str> = rule
            .expose_headers
            .iter()
            .map(String::as_str)
            .filter(|name| !name.is_empty())
            .collect();
        let origins = patterns(&rule.allowed_origins);
        Self {
            any_origin: origins.iter().position(Wildcard::is_any),
            origins,
            first_pattern,
            allow_methods: value(&methods),
            methods: methods.into_iter().map(Into::into).collect(),
            headers: patterns(&rule.allowed_headers),
            expose_headers: (!exposed.is_empty()).then(|| value(&exposed)),
            max_age: rule.max_age_seconds.map(HeaderValue::from),
        }
    }

    /// Why this rule does not match; `None` where it does.
    ///
    /// The one predicate: the decision takes the first rule without a mismatch, the explanation
    /// lists them all.
    pub(super) fn mismatch<'r>(&self, request: &CorsRequest<'r>) -> Option<Mismatch<'r>> {
        self.judge(request).err()
    }

    fn judge<'r>(&self, request: &CorsRequest<'r>) -> Result<OriginMatch, Mismatch<'r>> {
        let origin = self.origin(request.origin).ok_or(Mismatch::Origin)?;
        if !self.allows_method(request.method) {
            return Err(Mismatch::Method);
        }
        let mut refused = None;
        for (count, name) in request.headers.names().enumerate() {
            if count == MAX_REQUESTED_HEADERS {
                return Err(Mismatch::MalformedHeader(None));
            }
            if !is_token(name) {
                return Err(Mismatch::MalformedHeader(Some(name)));
            }
            if refused.is_none() && !self.allows_header(name) {
                refused = Some(name);
            }
        }
        refused.map_or(Ok(origin), |name| Err(Mismatch::Header(name)))
    }

    /// A rule that lists the lone `*` beside others answers `*`: it grants less.
    fn origin(&self, origin: &[u8]) -> Option<OriginMatch> {
        let (index, any) = match self.any_origin {
            Some(index) => (index, true),
            None => (
                self.origins
                    .iter()
                    .position(|pattern| pattern.matches(origin))?,
                false,
            ),
        };
        Some(OriginMatch {
            pattern: self.first_pattern + index,
            any,
        })
    }

    /// Whether some `AllowedOrigin` matches `origin`.
    pub(super) fn allows_origin(&self, origin: &[u8]) -> bool {
        self.origin(origin).is_some()
    }

    /// Whether `AllowedMethod` lists `method`.
    pub(super) fn allows_method(&self, method: &[u8]) -> bool {
        self.methods.iter().any(|known| known.as_bytes() == method)
    }

    /// Whether some `AllowedHeader` matches `name`.
    pub(super) fn allows_header(&self, name: &[u8]) -> bool {
        self.headers
            .iter()
            .any(|pattern| pattern.matches_ignore_ascii_case(name))
    }
}

/// `Access-Control-Allow-Headers`: the requested names in lower case, in request order.
fn allow_headers(requested: RequestedHeaders<'_>) -> Option<HeaderValue> {
    if requested.is_empty() {
        return None;
    }
    let mut list = Vec::with_capacity(128);
    for name in requested.names() {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend(name.iter().map(u8::to_ascii_lowercase));
    }
    Some(HeaderValue::try_from(list).expect("tokens make a field value"))
}

/// Everything that S3 refuses in `configuration`.
fn errors(configuration: &CorsConfiguration, options: &Options) -> Vec<RuleError> {
    let rules = &configuration.rules;
    let mut errors = Vec::new();
    let mut error = |path, kind| errors.push(RuleError { path, kind });
    if rules.is_empty() {
        error(ElementPath::Root, RuleErrorKind::NoRules);
    }
    for (index, rule) in rules.iter().enumerate() {
        for (values, element) in [
            (&rule.allowed_origins, Element::AllowedOrigin),
            (&rule.allowed_methods, Element::AllowedMethod),
        ] {
            if values.is_empty() {
                error(ElementPath::Rule(index), RuleErrorKind::Missing(element));
            }
        }
    }
    if rules.len() > MAX_RULES {
        error(ElementPath::Rule(MAX_RULES), RuleErrorKind::TooManyRules);
    }
    for (index, rule) in rules.iter().enumerate() {
        let mut each =
            |element, values: &[String], check: &dyn Fn(&str) -> Option<RuleErrorKind>| {
                for (place, value) in values.iter().enumerate() {
                    if let Some(kind) = check(value) {
                        let path = ElementPath::Value {
                            rule: index,
                            element,
                            index: place,
                        };
                        error(path, kind);
                    }
                }
            };
        each(Element::Id, rule.id.as_slice(), &|id| {
            (id.chars().count() > MAX_ID).then_some(RuleErrorKind::IdTooLong)
        });
        each(Element::AllowedOrigin, &rule.allowed_origins, &|origin| {
            Wildcard::parse(origin)
                .is_err()
                .then(|| RuleErrorKind::TooManyWildcards(Element::AllowedOrigin, origin.into()))
        });
        each(Element::AllowedMethod, &rule.allowed_methods, &|method| {
            (!is_known_method(method.as_bytes(), options))
                .then(|| RuleErrorKind::UnsupportedMethod(method.into()))
        });
        each(Element::AllowedHeader, &rule.allowed_headers, &|name| {
            if Wildcard::parse(name).is_err() {
                let kind = RuleErrorKind::TooManyWildcards(Element::AllowedHeader, name.into());
                return Some(kind);
            }
            (!name.is_empty() && !is_token(name.as_bytes()))
                .then(|| RuleErrorKind::InvalidCharacter(Element::AllowedHeader, name.into()))
        });
        each(Element::ExposeHeader, &rule.expose_headers, &|name| {
            if name.contains('*') {
                return Some(RuleErrorKind::ExposeWildcard(name.into()));
            }
            (!name.is_empty() && !is_token(name.as_bytes()))
                .then(|| RuleErrorKind::InvalidCharacter(Element::ExposeHeader, name.into()))
        });
    }
    errors
}

fn is_known_method(method: &[u8], options: &Options) -> bool {
    S3_METHODS.iter().any(|known| known.as_bytes() == method)
        || options
            .extra_methods
            .iter()
            .any(|known| known.as_str().as_bytes() == method)
}
