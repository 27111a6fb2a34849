//! A table of the config: each key is taken once, and leftover keys are errors.

use std::ops::Range;
use std::sync::LazyLock;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cors;

use super::diagnostic::{Diagnostic, with_help};
use super::file::Reader;
use super::shape::{Kind, ROOT};
use super::values::{chosen, names, string, strings};

/// A table whose keys are taken one by one.
#[derive(Debug)]
pub(crate) struct Table<'t> {
    table: &'t DeTable<'t>,
    /// The table's start.
    span: Range<usize>,
    known: Vec<&'static str>,
    /// Its number in the recorded shape, if one is recorded.
    shape: usize,
}

/// Stands for a missing table while the shape of the config is recorded.
static EMPTY: LazyLock<DeTable<'static>> = LazyLock::new(DeTable::new);

impl<'t> Table<'t> {
    pub(crate) fn new(table: &'t DeTable<'t>, span: Range<usize>) -> Self {
        Self {
            table,
            span,
            known: Vec::with_capacity(16),
            shape: ROOT,
        }
    }

    fn below(table: &'t DeTable<'t>, span: Range<usize>, shape: usize) -> Self {
        Self {
            shape,
            ..Self::new(table, span)
        }
    }

    /// The table's start.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The place of a key, if it exists.
    pub(crate) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        let (key, _) = self.table.get_key_value(key)?;
        Some(key.span())
    }

    /// Whether a key's value is a table.
    pub(crate) fn is_table(&self, key: &str) -> bool {
        self.table
            .get(key)
            .is_some_and(|value| value.get_ref().is_table())
    }

    pub(super) fn value(
        &mut self,
        key: &'static str,
        kind: impl FnOnce() -> Kind,
        reader: &mut Reader<'_>,
    ) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        if let Some(shape) = &mut reader.shape {
            shape.note(self.shape, key, kind());
        }
        self.table.get(key)
    }

    /// Reports a required key that is missing.
    pub(crate) fn require(
        &self,
        key: &'static str,
        message: impl Into<String>,
        help: Option<&str>,
        reader: &mut Reader<'_>,
    ) {
        if let Some(shape) = &mut reader.shape {
            shape.require(self.shape, key);
        }
        if self.key_span(key).is_none() {
            let diagnostic = Diagnostic::error("missing-key", message);
            let diagnostic = with_help(diagnostic, help.map(str::to_owned));
            reader.push(diagnostic, self.span());
        }
    }

    /// Reports a list of values that must not be empty but is.
    pub(crate) fn fill(
        &self,
        key: &'static str,
        values: Option<&Spanned<Vec<Spanned<&str>>>>,
        problem: Diagnostic,
        reader: &mut Reader<'_>,
    ) {
        if let Some(shape) = &mut reader.shape {
            shape.fill(self.shape, key);
        }
        if let Some(values) = values.filter(|values| values.get_ref().is_empty()) {
            reader.push(problem, values.span());
        }
    }

    /// A string.
    pub(crate) fn string(
        &mut self,
        key: &'static str,
        reader: &mut Reader<'_>,
    ) -> Option<Spanned<&'t str>> {
        let value = self.value(key, || Kind::Text, reader)?;
        string(key, "a string", value, reader)
    }

    /// A string that matches a regular expression, which the caller checks.
    pub(crate) fn pattern(
        &mut self,
        key: &'static str,
        pattern: &'static str,
        reader: &mut Reader<'_>,
    ) -> Option<Spanned<&'t str>> {
        let value = self.value(key, || Kind::Pattern(pattern), reader)?;
        string(key, "a string", value, reader)
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        reader: &mut Reader<'_>,
    ) -> Option<Spanned<T>> {
        let value = self.value(key, || Kind::Choice(names(choices)), reader)?;
        let value = string(key, "a string", value, reader)?;
        chosen(key, &value, choices, reader)
    }

    /// One or more of several words, each with its meaning.
    pub(crate) fn choices<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        reader: &mut Reader<'_>,
    ) -> Option<Vec<Spanned<T>>> {
        let value = self.value(key, || Kind::Choices(names(choices)), reader)?;
        let values = strings(key, value, reader)?.into_inner();
        let chosen = values
            .iter()
            .filter_map(|value| chosen(key, value, choices, reader));
        Some(chosen.collect())
    }

    /// `true` or `false`.
    pub(crate) fn boolean(
        &mut self,
        key: &'static str,
        reader: &mut Reader<'_>,
    ) -> Option<Spanned<bool>> {
        let value = self.value(key, || Kind::Boolean, reader)?;
        let Some(boolean) = value.get_ref().as_bool() else {
            reader.wrong_type(key, "true or false", value);
            return None;
        };
        Some(Spanned::new(value.span(), boolean))
    }

    /// One text or integer, or several, as written.
    pub(crate) fn texts(
        &mut self,
        key: &'static str,
        reader: &mut Reader<'_>,
    ) -> Option<Vec<Spanned<String>>> {
        let value = self.value(key, || Kind::TextsOrIntegers, reader)?;
        let one = std::slice::from_ref(value);
        let several = value.get_ref().as_array().map(|array| &**array);
        let mut texts = Vec::new();
        for value in several.unwrap_or(one) {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(written) => written.as_str().to_owned(),
                _ => {
                    reader.wrong_type(key, "a string or an integer, or a list of these", value);
                    return None;
                }
            };
            texts.push(Spanned::new(value.span(), text));
        }
        if texts.is_empty() {
            let message = format!("`{key}` needs at least one value");
            reader.error("invalid-value", value.span(), message);
            return None;
        }
        Some(texts)
    }

    /// Strings; a single one may be written without brackets.
    pub(crate) fn strings(
        &mut self,
        key: &'static str,
        reader: &mut Reader<'_>,
    ) -> Option<Spanned<Vec<Spanned<&'t str>>>> {
        let value = self.value(key, || Kind::Texts, reader)?;
        strings(key, value, reader)
    }

    /// A subtable.
    pub(crate) fn table(&mut self, key: &'static str, reader: &mut Reader<'_>) -> Option<Self> {
        self.known.push(key);
        let shape = &mut reader.shape;
        let below = shape
            .as_mut()
            .map(|shape| shape.below(self.shape, key, false));
        let Some(value) = self.table.get(key) else {
            return Some(Self::below(&EMPTY, 0..0, below?));
        };
        let span = self.key_span(key).unwrap_or_else(|| value.span());
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::below(table, span, below.unwrap_or(ROOT))),
            DeValue::Array(array) if array.iter().all(|value| value.get_ref().is_table()) => {
                let diagnostic =
                    Diagnostic::error("wrong-type", format!("there can be only one `{key}`"));
                reader.push(diagnostic.help(format!("write [{key}]")), span);
                None
            }
            _ => {
                reader.wrong_type(key, "a table", value);
                None
            }
        }
    }

    /// Tables, written as `[[key]]`.
    pub(crate) fn tables(&mut self, key: &'static str, reader: &mut Reader<'_>) -> Vec<Self> {
        self.known.push(key);
        let shape = &mut reader.shape;
        let below = shape
            .as_mut()
            .map(|shape| shape.below(self.shape, key, true));
        let Some(value) = self.table.get(key) else {
            let empty = below.map(|below| Self::below(&EMPTY, 0..0, below));
            return empty.into_iter().collect();
        };
        match value.get_ref() {
            DeValue::Array(array) => array
                .iter()
                .filter_map(|value| match value.get_ref() {
                    DeValue::Table(table) => {
                        let shape = below.unwrap_or(ROOT);
                        Some(Self::below(table, value.span(), shape))
                    }
                    _ => {
                        reader.wrong_type(key, "an array of tables", value);
                        None
                    }
                })
                .collect(),
            DeValue::Table(_) => {
                let diagnostic =
                    Diagnostic::error("wrong-type", format!("there can be several `{key}`"));
                let span = self.key_span(key).unwrap_or_else(|| value.span());
                reader.push(diagnostic.help(format!("write [[{key}]]")), span);
                Vec::new()
            }
            _ => {
                reader.wrong_type(key, "an array of tables", value);
                Vec::new()
            }
        }
    }

    /// Reports every key that was not taken as unknown.
    pub(crate) fn finish(self, reader: &mut Reader<'_>) {
        for key in self.table.keys() {
            let name = &**key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let mut message = format!("unknown key `{name}`");
            let mut help = match cors::nearest(name, &self.known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys: {}", self.known.join(", ")),
            };
            if let Some(newer) = &reader.newer {
                message = format!("{message}: {newer}");
                help = format!("upgrade s3cors, or remove `{name}`; {help}");
            }
            let diagnostic = Diagnostic::error("unknown-key", message);
            reader.push(diagnostic.help(help), key.span());
        }
    }
}
