//! The TOML as written: tables, keys and typed values with their places.
//!
//! Does not know the meaning of keys. A caller takes each key of a [`Table`] that it knows; keys
//! left over are reported as unknown.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Diagnostic;
use super::report::{Report, SYNTAX};
use super::shape::Shape;
use super::source::SourceFile;
use super::unclosed;

/// A file that is being read, with its diagnostics so far.
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
    /// Reports an error at a place of the file.
    pub(super) fn error(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
    ) {
        self.push(Diagnostic::error(code, message), span);
    }

    /// Reports a diagnostic at a place of the file.
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

/// Parses as much of the TOML as possible; reports every syntax error.
pub(super) fn parse<'t>(text: &'t str, reader: &mut Reader<'_>) -> Spanned<DeTable<'t>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let unclosed = unclosed::bracket(text).filter(|_| !errors.is_empty());
    if let Some(span) = &unclosed {
        reader.error(SYNTAX, span.clone(), "this `[` is never closed");
    }
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        // Ignores errors that only follow from the open bracket.
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
