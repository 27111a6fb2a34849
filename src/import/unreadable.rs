//! Why a source cannot be read.

use std::ops::Range;

/// A source that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The place, in bytes of the source.
    pub span: Option<Range<usize>>,
    /// The problem.
    pub message: String,
    /// The advice.
    pub hint: Option<String>,
}

impl Unreadable {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            span: None,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        let span = Some(span);
        Self {
            span,
            ..Self::new(message)
        }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into());
        Self { hint, ..self }
    }
}
