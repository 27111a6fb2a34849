//! A list without duplicates.

use std::collections::HashSet;

/// Unique values.
#[derive(Default)]
pub(super) struct Distinct {
    pub(super) values: Vec<String>,
    seen: HashSet<String>,
}

impl Distinct {
    pub(super) fn add(&mut self, value: &str) {
        if self.seen.insert(value.to_owned()) {
            self.values.push(value.to_owned());
        }
    }
}
