//! Access keys, and the buckets that each may configure.

use std::collections::HashMap;
use std::fmt;

use crate::cors::Wildcard;

/// Every access key, by its id.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys(HashMap<Box<str>, Key>);

/// An access key.
#[derive(PartialEq, Eq)]
pub struct Key {
    secret: Box<str>,
    /// Names, each with at most one `*`.
    buckets: Box<[Wildcard]>,
}

/// Without the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("buckets", &self.buckets)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Adds a key; `false` if the id is taken.
    pub fn add(&mut self, id: &str, key: Key) -> bool {
        let is_new = !self.0.contains_key(id);
        if is_new {
            self.0.insert(id.into(), key);
        }
        is_new
    }

    pub(super) fn get(&self, id: &str) -> Option<&Key> {
        self.0.get(id)
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Key {
    /// A key that may configure these buckets.
    #[must_use]
    pub fn new(secret: &str, buckets: impl IntoIterator<Item = Wildcard>) -> Self {
        Self {
            secret: secret.into(),
            buckets: buckets.into_iter().collect(),
        }
    }

    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// Whether it may configure a bucket.
    pub(super) fn may_configure(&self, bucket: &str) -> bool {
        let bucket = bucket.as_bytes();
        self.buckets.iter().any(|pattern| pattern.matches(bucket))
    }
}
