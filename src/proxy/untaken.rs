//! How much of all responses waits for clients that do not take it: one worker's budget.
//!
//! Bodies that flow are read in large pieces. A client that stops reading leaves one of them here,
//! so large pieces are read only while few bytes wait.

use std::cell::Cell;

/// With more bytes than this waiting, only small pieces are read.
const BUDGET: usize = 8 * 1024 * 1024;

/// The bytes that wait.
#[derive(Debug, Default)]
pub(crate) struct Untaken(Cell<usize>);

impl Untaken {
    /// Counts bytes that wait, until it is dropped.
    pub(crate) fn hold(&self, bytes: usize) -> Held<'_> {
        self.0.set(self.0.get() + bytes);
        Held {
            untaken: self,
            bytes,
        }
    }

    /// How much is read at once where `wanted` bytes are worth it, and `least` always are.
    pub(crate) fn piece(&self, wanted: usize, least: usize) -> usize {
        match self.0.get() > BUDGET {
            true => wanted.min(least),
            false => wanted,
        }
    }
}

/// Bytes that wait.
pub(crate) struct Held<'u> {
    untaken: &'u Untaken,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let left = &self.untaken.0;
        left.set(left.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_small_while_much_waits() {
        let untaken = Untaken::default();
        let held = untaken.hold(BUDGET);
        assert_eq!(untaken.piece(256, 16), 256);
        let more = untaken.hold(1);
        assert_eq!((untaken.piece(256, 16), untaken.piece(8, 16)), (16, 8));
        drop(held);
        assert_eq!(untaken.piece(256, 16), 256);
        drop(more);
        assert_eq!(untaken.0.get(), 0);
    }
}
