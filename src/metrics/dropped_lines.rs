//! Lines of the process log that were dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that begins before there is a [`Metrics`](super::Metrics): the log starts first. Clones
/// share it.
#[derive(Clone, Debug, Default)]
pub struct DroppedLines(Arc<AtomicU64>);

impl DroppedLines {
    /// Counts lines that were dropped.
    pub fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }

    /// How many lines were dropped so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
