//! What an import has to tell: what S3's rules cannot say, what they let in besides, and how
//! what can be read in two ways was read.

use std::ops::Range;

/// What becomes of something that the source says and S3's rules cannot say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The source allows it, the rules do not.
    Lost,
    /// The rules allow it, the source does not.
    Widened,
    /// The source can be read in two ways; the message says which was taken.
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

/// Something to tell of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What becomes of it.
    pub effect: Effect,
    /// Which of [`CODES`] it is.
    pub code: &'static str,
    /// What exactly.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
    /// The method, pattern or name that it is about, where it is about one.
    pub subject: Option<String>,
    /// Where, in bytes of the source.
    pub span: Range<usize>,
    /// Whether it is only worth knowing: nothing that a page could do is refused, and nothing is
    /// allowed besides.
    pub is_minor: bool,
}

impl Note {
    /// One of [`CODES`]: each has the effect that it has.
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

    /// The same, where no page loses or gains anything.
    pub(super) fn minor(self) -> Self {
        let is_minor = true;
        Self { is_minor, ..self }
    }

    /// How it is introduced.
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

/// Every code that a [`Note`] may have, and its effect.
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
