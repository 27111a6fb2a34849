//! Notes of an import: what S3's rules cannot express, what they additionally allow, and how
//! ambiguous settings were read.

use std::ops::Range;

/// The effect of a difference between the source and S3's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The source allows it, the rules do not.
    Lost,
    /// The rules allow it, the source does not.
    Widened,
    /// The source is ambiguous; the message says how it was read.
    Ambiguous,
}

impl Effect {
    /// Its stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Widened => "widened",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// A note of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The effect.
    pub effect: Effect,
    /// Its code, one of [`CODES`].
    pub code: &'static str,
    /// The message.
    pub message: String,
    /// The advice, if there is any.
    pub hint: Option<String>,
    /// The method, pattern or name concerned, if there is one.
    pub subject: Option<String>,
    /// The place, in bytes of the source.
    pub span: Range<usize>,
    /// Whether it is only informational: nothing that a page could do is refused, and nothing
    /// more is allowed.
    pub is_minor: bool,
}

impl Note {
    /// A note with one of [`CODES`], which determines its effect.
    pub(super) fn new(
        code: &'static str,
        span: Range<usize>,
        subject: Option<&str>,
        message: impl Into<String>,
    ) -> Self {
        let known = CODES.iter().find(|(name, _)| *name == code);
        Self {
            effect: known.map_or(Effect::Lost, |(_, effect)| *effect),
            code,
            message: message.into(),
            hint: None,
            subject: subject.map(str::to_owned),
            span,
            is_minor: false,
        }
    }

    /// Marks it as informational: no page loses or gains anything.
    pub(super) fn minor(self) -> Self {
        let is_minor = true;
        Self { is_minor, ..self }
    }

    /// Its kind in messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.is_minor {
            true => "note",
            false => self.effect.as_str(),
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into());
        Self { hint, ..self }
    }
}

/// All codes of [`Note`]s, and their effects.
pub const CODES: [(&str, Effect); 27] = [
    ("annotation-refused", Effect::Ambiguous),
    ("any-method", Effect::Lost),
    ("credentials-added", Effect::Widened),
    ("credentials-with-any-origin", Effect::Lost),
    ("empty-value", Effect::Ambiguous),
    ("expose-wildcard", Effect::Lost),
    ("header-authorization", Effect::Widened),
    ("header-malformed", Effect::Lost),
    ("header-pattern", Effect::Ambiguous),
    ("header-two-wildcards", Effect::Lost),
    ("id-unusable", Effect::Lost),
    ("max-age-unusable", Effect::Lost),
    ("method-case", Effect::Ambiguous),
    ("method-unsupported", Effect::Lost),
    ("next-rule-asked", Effect::Widened),
    ("origin-malformed", Effect::Lost),
    ("origin-pattern-wider", Effect::Widened),
    ("origin-star-literal", Effect::Ambiguous),
    ("origin-two-wildcards", Effect::Lost),
    ("other-setting", Effect::Lost),
    ("rule-choice", Effect::Widened),
    ("rule-empty", Effect::Ambiguous),
    ("safelisted-method", Effect::Ambiguous),
    ("unknown-key", Effect::Lost),
    ("variable", Effect::Lost),
    ("variable-default", Effect::Ambiguous),
    ("white-space", Effect::Ambiguous),
];
