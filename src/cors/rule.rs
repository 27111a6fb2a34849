//! One rule, compiled, and the one predicate that decides.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderName, HeaderValue};

use super::configuration::CorsRule;
use super::decision::{Condition, TRUE};
use super::pattern::Wildcard;
use super::request::{CorsRequest, MAX_REQUESTED_HEADERS, is_token};

/// One rule, with the response values that follow from it.
#[derive(Debug)]
pub(super) struct Rule {
    origins: Box<[Wildcard]>,
    /// Where the lone `*` stands among `origins`.
    any_origin: Option<usize>,
    /// How many patterns the rules before this one have.
    pub(super) first_pattern: usize,
    methods: Box<[Box<str>]>,
    headers: Box<[Wildcard]>,
    pub(super) allow_methods: HeaderValue,
    pub(super) expose_headers: Option<HeaderValue>,
    pub(super) max_age: Option<HeaderValue>,
    pub(super) wire: Wire,
}

/// What a rule's allowances say, whoever asks: whole field lines, `Vary` apart.
#[derive(Debug)]
pub(super) struct Wire {
    /// The end of `Access-Control-Allow-Origin`'s line, and `Access-Control-Allow-Methods`.
    pub(super) methods: Box<[u8]>,
    /// What comes after `Access-Control-Allow-Headers`.
    pub(super) rest: Box<[u8]>,
}

/// The origin pattern of a rule that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OriginMatch {
    /// Which of the policy's patterns.
    pub(super) pattern: usize,
    /// Whether it is the lone `*`.
    pub(super) any: bool,
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

/// The lines of the fields that have a value.
fn lines<'v>(
    start: &str,
    fields: impl IntoIterator<Item = (HeaderName, Option<&'v HeaderValue>)>,
) -> Box<[u8]> {
    let mut bytes = start.as_bytes().to_vec();
    for (name, value) in fields {
        if let Some(value) = value {
            let parts: [&[u8]; 4] = [name.as_ref(), b": ", value.as_bytes(), b"\r\n"];
            parts
                .into_iter()
                .for_each(|part| bytes.extend_from_slice(part));
        }
    }
    bytes.into()
}

impl Rule {
    pub(super) fn compile(rule: &CorsRule, first_pattern: usize) -> Self {
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
        let any_origin = origins.iter().position(Wildcard::is_any);
        let allow_methods = value(&methods);
        let expose_headers = (!exposed.is_empty()).then(|| value(&exposed));
        let max_age = rule.max_age_seconds.map(HeaderValue::from);
        Self {
            wire: Wire {
                methods: lines(
                    "\r\n",
                    [(ACCESS_CONTROL_ALLOW_METHODS, Some(&allow_methods))],
                ),
                rest: lines(
                    "",
                    [
                        (ACCESS_CONTROL_EXPOSE_HEADERS, expose_headers.as_ref()),
                        (ACCESS_CONTROL_MAX_AGE, max_age.as_ref()),
                        (
                            ACCESS_CONTROL_ALLOW_CREDENTIALS,
                            any_origin.is_none().then_some(&TRUE),
                        ),
                    ],
                ),
            },
            any_origin,
            origins,
            first_pattern,
            allow_methods,
            methods: methods.into_iter().map(Into::into).collect(),
            headers: patterns(&rule.allowed_headers),
            expose_headers,
            max_age,
        }
    }

    /// Why this rule does not match; `None` where it does.
    ///
    /// The one predicate: the decision takes the first rule without a mismatch, the explanation
    /// lists them all.
    pub(super) fn mismatch<'r>(&self, request: &CorsRequest<'r>) -> Option<Mismatch<'r>> {
        self.judge(request).err()
    }

    /// As [`mismatch`](Self::mismatch), and where the rule matches, by which origin.
    pub(super) fn judge<'r>(&self, request: &CorsRequest<'r>) -> Result<OriginMatch, Mismatch<'r>> {
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

    /// Whether some origin matches both this rule and `other`.
    pub(super) fn shares_an_origin(&self, other: &Self) -> bool {
        let mut origins = self.origins.iter();
        origins.any(|left| other.origins.iter().any(|right| left.overlaps(right)))
    }

    /// Whether some method is listed by both this rule and `other`.
    pub(super) fn shares_a_method(&self, other: &Self) -> bool {
        let mut methods = self.methods.iter();
        methods.any(|method| other.allows_method(method.as_bytes()))
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
