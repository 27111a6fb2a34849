//! What a browser does with a policy's answers: whether the script gets what it wants.

use crate::cors::fetch::{Outcome, Verdict};
use crate::cors::{CorsRule, Edit};

/// What browsers do with a policy's answers.
#[derive(Clone, Debug)]
pub struct Browser {
    /// The browsers' verdict.
    pub verdict: Verdict,
    /// The fields that the script wants to read but cannot.
    pub unreadable: Vec<String>,
    /// The change that would give the script what it wants, if the policy allows the request.
    pub remedy: Option<Remedy>,
}

/// A change of a policy that allows a request but withholds something from the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Expose fields: edits of the matching rule.
    Expose(Vec<Edit>),
    /// A rule to add before the one that matches with a bare `*`, which never allows credentials.
    NameOrigin {
        /// The index of the matching rule, counted from 0.
        before: usize,
        /// The new rule.
        rule: Box<CorsRule>,
    },
    /// No policy can give it.
    Never,
}

impl Browser {
    /// Whether the script gets what it wants.
    #[must_use]
    pub fn is_satisfied(&self) -> bool {
        self.verdict.outcome == Outcome::Readable && self.unreadable.is_empty()
    }
}
