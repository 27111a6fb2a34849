//! What a browser does with the answers of a policy: whether the script gets what it wants.

use crate::cors::fetch::{Outcome, Verdict};
use crate::cors::{CorsRule, Edit};

/// What browsers do with a policy's answers.
#[derive(Clone, Debug)]
pub struct Browser {
    /// Their verdict.
    pub verdict: Verdict,
    /// Fields that the script wants to read, and may not.
    pub unreadable: Vec<String>,
    /// What would let the script have what it wants, where the policy allows the request.
    pub remedy: Option<Remedy>,
}

/// A change of a policy that allows a request, but not all that the script wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Expose fields: edits of the rule that matches.
    Expose(Vec<Edit>),
    /// A rule to put before the one that matches with a bare `*`, which never allows credentials.
    NameOrigin {
        /// The rule that matches, counted from 0.
        before: usize,
        /// The new rule.
        rule: Box<CorsRule>,
    },
    /// No policy gives it.
    Never,
}

impl Browser {
    /// Whether the script gets what it wants.
    #[must_use]
    pub fn is_satisfied(&self) -> bool {
        self.verdict.outcome == Outcome::Readable && self.unreadable.is_empty()
    }
}
