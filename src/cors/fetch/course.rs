//! The course of an exchange in a browser, up to where it ended.

use super::failure::{Failure, Reason, Step};
use super::redirect::RedirectedRequest;

/// The course of a request under one engine's rules.
#[derive(Clone, Debug)]
pub(super) struct Course {
    pub(super) preflight_sent: bool,
    /// How long the passed preflights are cached: the shortest time among them.
    pub(super) cache_seconds: Option<u64>,
    pub(super) outcome: Outcome,
    pub(super) readable: Vec<String>,
    pub(super) failure: Option<Failure>,
    /// The request in its final state.
    pub(super) request: RedirectedRequest,
}

impl Course {
    /// What the page and the server can observe.
    pub(super) fn result(&self) -> (bool, Outcome, &[String]) {
        (self.preflight_sent, self.outcome, &self.readable)
    }

    pub(super) fn blocked(mut self, step: Step, reason: Reason) -> Self {
        self.outcome = Outcome::Blocked;
        self.failure = Some(Failure { step, reason });
        self
    }
}

/// What a script gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The response.
    Readable,
    /// A response that the script cannot inspect.
    Opaque,
    /// An error.
    Blocked,
}

impl Outcome {
    /// Its name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Readable => "readable",
            Self::Opaque => "opaque",
            Self::Blocked => "blocked",
        }
    }
}
