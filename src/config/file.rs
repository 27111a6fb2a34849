//! The TOML as it was written: tables, keys and typed values, each with its place.
//!
//! Knows nothing of what a key means. Whoever reads a [`Table`] asks for each key that it may
//! have; what is left over in the end is unknown, and said to be.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Diagnostic;
use super::report::{Report, SYNTAX};
use super::shape::Shape;
use super::source::SourceFile;
use super::unclosed;

/// A file that is read, and what was found wrong with it so far.
#[derive(Debug)]
pub(super) struct Reader<'r> {
    pub(super) file: &'r Arc<SourceFile>,
    pub(super) report: &'r mut Report,
    /// Records what the parser asks for; `None` where a config is only read.
    pub(super) shape: Option<&'r mut Shape>,
    /// What errors about unknown keys and choices add: that the config is for a newer s3cors.
    pub(super) newer: Option<Box<str>>,
}

impl Reader<'_> {
    /// An error at a place of the file.
    pub(super) fn error(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
    ) {
        self.push(Diagnostic::error(code, message), span);
    }

    /// A diagnostic at a place of the file.
    pub(super) fn push(&mut self, diagnostic: Diagnostic, span: Range<usize>) {
        self.report.push(diagnostic.at(self.file, span));
    }

    pub(crate) fn wrong_type(&mut self, key: &str, expected: &str, found: &Spanned<DeValue<'_>>) {
        let type_name = match found.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let message = format!("`{key}` is {expected}, not {type_name}");
        self.error("wrong-type", found.span(), message);
    }
}

/// Reads TOML as far as it can be read; every error of syntax is reported.
pub(super) fn parse<'t>(text: &'t str, reader: &mut Reader<'_>) -> Spanned<DeTable<'t>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let unclosed = unclosed::bracket(text).filter(|_| !errors.is_empty());
    if let Some(span) = &unclosed {
        reader.error(SYNTAX, span.clone(), "this `[` is never closed");
    }
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        // What follows from the bracket is not the file's fault.
        if unclosed
            .as_ref()
            .is_some_and(|open| span.start >= open.start)
        {
            continue;
        }
        let mut message = error.message().trim_end().replace('\n', ", ");
        if message == "duplicate key"
            && let Some(key) = text.get(span.clone())
        {
            message = format!("{message} `{key}`");
        }
        reader.error(SYNTAX, span, message);
    }
    document
}
