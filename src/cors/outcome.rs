//! A policy's decision on a request, in full.

use super::advice::Advice;
use super::decision::{Denial, Reason};
use super::origin::ClosestOrigin;
use super::rule::Condition;

/// The decision on a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is not a CORS request, and is forwarded.
    NotCors,
    /// A rule allows it.
    Allowed(Match),
    /// No rule allows it.
    Refused(Refusal),
}

/// The rule that allows a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The rule, counted from 0.
    pub rule: usize,
    /// The `AllowedOrigin` that matched.
    pub pattern: String,
    /// The index of that pattern ([`origin_patterns`](super::Policy::origin_patterns)).
    pub pattern_index: usize,
    /// Whether it is the lone `*`, which excludes credentials.
    pub any_origin: bool,
}

/// Why no rule allows a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The denial that the decision has.
    pub denial: Denial,
    /// The rule that a person would call the nearest, counted from 0.
    pub nearest: Option<usize>,
    /// What would allow the request.
    pub advice: Advice,
}

impl Refusal {
    /// The reason, for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.denial.reason()
    }
}

/// The result of one rule for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleAnswer {
    /// The rule's `ID`.
    pub id: Option<String>,
    /// The conditions that fail, in checking order; empty if the rule matches.
    pub failures: Vec<Failure>,
}

/// A condition of a rule that a request does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The condition.
    pub condition: Condition,
    /// The values in the rule.
    pub expected: Vec<String>,
    /// The values of the request that the rule lacks: one origin or method, or several headers.
    pub actual: Vec<String>,
    /// If the origin fails: the closest origin of the rule.
    pub closest: Option<ClosestOrigin>,
}
