//! Counts dropped lines of the process log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that exists before [`Metrics`](super::Metrics), because the log starts first. Clones
/// share it.
#[derive(Clone, Debug, Default)]
pub struct DroppedLines(Arc<AtomicU64>);

impl DroppedLines {
    /// Adds dropped lines.
    pub fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }

    /// How many lines have been dropped.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
