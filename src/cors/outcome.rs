//! What a policy says of a request, in full.

use super::advice::Advice;
use super::decision::{Denial, Reason};
use super::origin::ClosestOrigin;
use super::rule::Condition;

/// What was decided of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is no CORS request, and is forwarded.
    NotCors,
    /// A rule allows it.
    Allowed(Match),
    /// Nothing allows it.
    Refused(Refusal),
}

/// The rule that allows a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The rule, counted from 0.
    pub rule: usize,
    /// The `AllowedOrigin` that matched.
    pub pattern: String,
    /// Which of the policy's patterns that is
    /// ([`origin_patterns`](super::Policy::origin_patterns)).
    pub pattern_index: usize,
    /// Whether it is the lone `*`, which excludes credentials.
    pub any_origin: bool,
}

/// Why nothing allows a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The cause, as the decision has it.
    pub denial: Denial,
    /// The rule that a person would say comes nearest, counted from 0.
    pub nearest: Option<usize>,
    /// What would let the request in.
    pub advice: Advice,
}

impl Refusal {
    /// The reason, as metrics and logs name it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.denial.reason()
    }
}

/// What one rule says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleAnswer {
    /// The rule's `ID`.
    pub id: Option<String>,
    /// The conditions that fail, in the order in which they are asked; none: the rule matches.
    pub failures: Vec<Failure>,
}

/// A condition of a rule that a request does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub condition: Condition,
    /// What the rule lists.
    pub expected: Vec<String>,
    /// What the request asks for and the rule does not have: one origin or method, or some
    /// headers.
    pub actual: Vec<String>,
    /// The rule's origin that comes closest, where the origin fails.
    pub closest: Option<ClosestOrigin>,
}
