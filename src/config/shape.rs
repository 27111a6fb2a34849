//! Records the keys that the parser takes, and what each accepts.
//!
//! The parser itself is the only list of keys: `schema` runs it over an empty config and reads the
//! record, so the JSON Schema cannot disagree with it.

/// The tables of a config with their keys, in the order of the parser.
#[derive(Debug)]
pub(super) struct Shape {
    tables: Vec<TableShape>,
}

/// One table's keys.
#[derive(Debug, Default)]
pub(super) struct TableShape {
    pub(super) keys: Vec<KeyShape>,
}

/// One key of a table.
#[derive(Debug)]
pub(super) struct KeyShape {
    pub(super) name: &'static str,
    /// What it accepts: one kind, or several alternatives.
    pub(super) kinds: Vec<Kind>,
    pub(super) is_required: bool,
    /// Whether a list of values must not be empty.
    pub(super) is_filled: bool,
}

/// What a key accepts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    /// A text that matches a regular expression.
    Pattern(&'static str),
    Choice(Vec<Box<str>>),
    Boolean,
    Integer {
        least: u64,
        most: u64,
    },
    Number {
        least: f64,
        most: f64,
    },
    /// A text, or a list of texts.
    Texts,
    /// One of a few words, or a list of them.
    Choices(Vec<Box<str>>),
    /// A text or an integer, or a list of these.
    TextsOrIntegers,
    /// A table: its number.
    Table(usize),
    /// A list of tables: the number of their shape.
    Tables(usize),
}

/// The table at the top of the config.
pub(super) const ROOT: usize = 0;

impl Default for Shape {
    fn default() -> Self {
        Self {
            tables: vec![TableShape::default()],
        }
    }
}

impl Shape {
    /// The keys of a table.
    pub(super) fn table(&self, number: usize) -> Option<&TableShape> {
        self.tables.get(number)
    }

    /// Records what a key accepts.
    pub(super) fn note(&mut self, table: usize, name: &'static str, kind: Kind) {
        if let Some(key) = self.key(table, name)
            && !key.kinds.contains(&kind)
        {
            key.kinds.push(kind);
        }
    }

    /// Records a key that holds a table, or several; returns the number of their shape.
    pub(super) fn below(&mut self, table: usize, name: &'static str, are_several: bool) -> usize {
        let next = self.tables.len();
        let Some(key) = self.key(table, name) else {
            return table;
        };
        let known = key.kinds.iter().find_map(|kind| match kind {
            Kind::Table(number) | Kind::Tables(number) => Some(*number),
            _ => None,
        });
        if let Some(number) = known {
            return number;
        }
        key.kinds.push(if are_several {
            Kind::Tables(next)
        } else {
            Kind::Table(next)
        });
        self.tables.push(TableShape::default());
        next
    }

    /// Records that a key is required.
    pub(super) fn require(&mut self, table: usize, name: &'static str) {
        if let Some(key) = self.key(table, name) {
            key.is_required = true;
        }
    }

    /// Records that a key's list must not be empty.
    pub(super) fn fill(&mut self, table: usize, name: &'static str) {
        if let Some(key) = self.key(table, name) {
            key.is_filled = true;
        }
    }

    fn key(&mut self, table: usize, name: &'static str) -> Option<&mut KeyShape> {
        let keys = &mut self.tables.get_mut(table)?.keys;
        let at = keys.iter().position(|key| key.name == name);
        let at = at.unwrap_or_else(|| {
            keys.push(KeyShape {
                name,
                kinds: Vec::new(),
                is_required: false,
                is_filled: false,
            });
            keys.len() - 1
        });
        keys.get_mut(at)
    }
}
