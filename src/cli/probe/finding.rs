//! The probe's findings besides the verdict.

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Scripts fail.
    Error,
    /// Scripts fail sometimes, or the settings are unsafe.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Its identifier for programs.
    pub(super) id: &'static str,
    pub(super) severity: Severity,
    pub(super) text: String,
}

impl Finding {
    pub(super) fn error(id: &'static str, text: impl Into<String>) -> Self {
        Self::new(id, Severity::Error, text)
    }

    pub(super) fn warning(id: &'static str, text: impl Into<String>) -> Self {
        Self::new(id, Severity::Warning, text)
    }

    pub(super) fn note(id: &'static str, text: impl Into<String>) -> Self {
        Self::new(id, Severity::Note, text)
    }

    fn new(id: &'static str, severity: Severity, text: impl Into<String>) -> Self {
        Self {
            id,
            severity,
            text: text.into(),
        }
    }
}
