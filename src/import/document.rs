//! A parsed source, whatever its syntax: scalars, lists and maps with their places.

use std::ops::Range;

use super::Unreadable;

/// The maximum nesting of values; real sources do not reach ten.
pub(super) const MAX_DEPTH: usize = 64;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    /// In bytes of the source.
    pub(super) span: Range<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A null of YAML or JSON.
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// In XML, a name may occur several times.
    Map(Vec<Entry>),
}

/// An entry of a map.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Word,
    pub(super) node: Node,
}

/// A text and its place.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

impl Node {
    pub(super) fn map(entries: Vec<Entry>, span: Range<usize>) -> Self {
        let value = Value::Map(entries);
        Self { value, span }
    }

    /// Renames some of its keys.
    pub(super) fn with_keys(&self, names: &[(&str, &str)]) -> Self {
        let entries = self.entries().iter();
        Self::map(
            entries.map(|entry| entry.renamed(names)).collect(),
            self.span.clone(),
        )
    }

    /// Whether two values are equal, wherever they stand.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Null, Value::Null) => true,
            (Value::Scalar(one), Value::Scalar(other)) => one == other,
            (Value::List(one), Value::List(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.is_same(b))
            }
            (Value::Map(one), Value::Map(other)) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .zip(other)
                        .all(|(a, b)| a.key.text == b.key.text && a.node.is_same(&b.node))
            }
            _ => false,
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let mut entries = self.entries().iter();
        entries
            .find(|entry| entry.key.text == key)
            .map(|entry| &entry.node)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn word(&self) -> Option<Word> {
        match &self.value {
            Value::Scalar(text) => Some(Word {
                text: text.clone(),
                span: self.span.clone(),
            }),
            _ => None,
        }
    }

    /// The value of a key, if present.
    ///
    /// # Errors
    ///
    /// It is not a scalar.
    pub(super) fn scalar(&self, key: &str) -> Result<Option<Word>, Unreadable> {
        self.get(key).map_or(Ok(None), Self::only_word)
    }

    /// Its word; `None` if it is null.
    ///
    /// # Errors
    ///
    /// It is not a scalar.
    pub(super) fn only_word(&self) -> Result<Option<Word>, Unreadable> {
        match self.value {
            Value::Null => Ok(None),
            Value::Scalar(_) => Ok(self.word()),
            Value::List(_) | Value::Map(_) => Err(self.should_be_text()),
        }
    }

    fn should_be_text(&self) -> Unreadable {
        Unreadable::at(self.span.clone(), "expected text here")
    }

    /// The words of a list; a single scalar is a list of one.
    ///
    /// # Errors
    ///
    /// It contains something other than words.
    pub(super) fn words(&self) -> Result<Vec<Word>, Unreadable> {
        match &self.value {
            Value::Null => Ok(Vec::new()),
            Value::Scalar(_) => Ok(self.word().into_iter().collect()),
            Value::List(items) => {
                let words = items.iter();
                words
                    .map(|item| item.word().ok_or_else(|| item.should_be_text()))
                    .collect()
            }
            Value::Map(_) => Err(self.should_be_text()),
        }
    }
}

impl Entry {
    /// Renames its key from another system's name, if `names` has it.
    pub(super) fn renamed(&self, names: &[(&str, &str)]) -> Self {
        let name = names.iter().find(|(name, _)| *name == self.key.text);
        let text = name.map_or_else(|| self.key.text.clone(), |(_, name)| (*name).to_owned());
        Self {
            key: Word {
                text,
                span: self.key.span.clone(),
            },
            node: self.node.clone(),
        }
    }
}

impl Word {
    /// The comma-separated parts, without surrounding whitespace.
    pub(super) fn split(&self, source: &str) -> Vec<Self> {
        // Skips quotes and the like around the text.
        let written = source.get(self.span.clone()).unwrap_or_default();
        let before = written.find(&self.text);
        let mut at = 0;
        let parts = self.text.split(',').map(|part| {
            let start = at + (part.len() - part.trim_start().len());
            at += part.len() + 1;
            let part = part.trim();
            let span = match before {
                Some(before) => {
                    let start = self.span.start + before + start;
                    start..start + part.len()
                }
                // The text differs from its source: it has escapes or several lines.
                None => self.span.clone(),
            };
            Self {
                text: part.to_owned(),
                span,
            }
        });
        parts.collect()
    }

    pub(super) fn trimmed(&self) -> &str {
        self.text.trim()
    }
}
