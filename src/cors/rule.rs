//! One rule, compiled, and the one predicate that decides.

use std::sync::Arc;

use super::configuration::CorsRule;
use super::grant::{Grant, Grants, patterns};
use super::pattern::Wildcard;
use super::request::{CorsRequest, MAX_REQUESTED_HEADERS, is_token};

/// A rule: its origins, and what they may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    id: Option<Box<str>>,
    origins: Box<[Wildcard]>,
    /// The index of the lone `*` among `origins`.
    any_origin: Option<usize>,
    /// The number of patterns in the rules before this one.
    pub(super) first_pattern: usize,
    pub(super) grant: Arc<Grant>,
}

/// The origin pattern of a rule that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OriginMatch {
    /// The index among the policy's patterns.
    pub(super) pattern: usize,
    /// Whether it is the lone `*`.
    pub(super) any: bool,
}

/// Why a rule does not match a request: its first condition that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch<'r> {
    /// No `AllowedOrigin` matches.
    Origin,
    /// The method is not among `AllowedMethod`.
    Method,
    /// This requested header matches no `AllowedHeader`.
    Header(&'r [u8]),
    /// This requested header is not a valid field name, so no rule can be checked; `None`: there
    /// are too many.
    MalformedHeader(Option<&'r [u8]>),
}

impl Mismatch<'_> {
    /// The condition that failed.
    pub(super) fn condition(&self) -> Condition {
        match self {
            Self::Origin => Condition::Origin,
            Self::Method => Condition::Method,
            Self::Header(_) | Self::MalformedHeader(_) => Condition::Header,
        }
    }
}

impl Rule {
    /// Compiles a rule of a checked configuration.
    pub(super) fn compile(rule: &CorsRule, first_pattern: usize, grants: &mut Grants) -> Self {
        let origins = patterns(&rule.allowed_origins);
        let any_origin = origins.iter().position(Wildcard::is_any);
        Self {
            id: rule.id.as_deref().map(Into::into),
            origins,
            any_origin,
            first_pattern,
            grant: grants.share(Grant::compile(rule, any_origin.is_none())),
        }
    }

    /// The rule in its document form.
    pub(super) fn written(&self) -> CorsRule {
        CorsRule {
            id: self.id.as_deref().map(Into::into),
            allowed_origins: self.origins.iter().map(ToString::to_string).collect(),
            ..self.grant.written()
        }
    }

    /// Its `ID`.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Its `AllowedOrigin`s.
    pub(super) fn origins(&self) -> impl Iterator<Item = &str> {
        self.origins.iter().map(Wildcard::as_str)
    }

    /// Why this rule does not match; `None` if it does.
    ///
    /// The one predicate for all uses: a decision takes the first rule without a mismatch, and an
    /// explanation lists the mismatches of all rules.
    pub(super) fn mismatch<'r>(&self, request: &CorsRequest<'r>) -> Option<Mismatch<'r>> {
        self.judge(request).err()
    }

    /// Like [`mismatch`](Self::mismatch); if the rule matches, returns the matching origin.
    pub(super) fn judge<'r>(&self, request: &CorsRequest<'r>) -> Result<OriginMatch, Mismatch<'r>> {
        let origin = self.origin(request.origin).ok_or(Mismatch::Origin)?;
        if !self.grant.allows_method(request.method) {
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
            if refused.is_none() && !self.grant.allows_header(name) {
                refused = Some(name);
            }
        }
        refused.map_or(Ok(origin), |name| Err(Mismatch::Header(name)))
    }

    /// A rule that lists the lone `*` among others answers with `*`, which grants less.
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

    /// Whether any origin matches both this rule and `other`.
    pub(super) fn shares_an_origin(&self, other: &Self) -> bool {
        let mut origins = self.origins.iter();
        origins.any(|left| other.origins.iter().any(|right| left.overlaps(right)))
    }
}

/// The three conditions of a rule, in checking order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Some `AllowedOrigin` matches the origin.
    Origin,
    /// `AllowedMethod` lists the method.
    Method,
    /// Each requested header matches some `AllowedHeader`.
    Header,
}
