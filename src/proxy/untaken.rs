//! A worker's budget for response data that waits for slow clients.
//!
//! Streaming bodies are read in large pieces. A client that stops reading leaves one of them in
//! memory, so large pieces are read only while few bytes wait.

use std::cell::Cell;
use std::rc::Rc;

/// Above this many waiting bytes, only small pieces are read.
const BUDGET: usize = 8 * 1024 * 1024;

/// The same for data that arrives with the heads of responses to HTTP/2 streams, of which a client
/// may have many.
const HEAD_BUDGET: usize = 1024 * 1024;

/// Counts the waiting bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct UntakenBudget(Rc<Cell<usize>>);

impl UntakenBudget {
    /// Counts bytes as waiting until the returned value is dropped.
    pub(crate) fn hold(&self, bytes: usize) -> HeldBytes {
        self.0.set(self.0.get() + bytes);
        HeldBytes {
            untaken: self.clone(),
            bytes,
        }
    }

    /// How much to read at once: `wanted` bytes within the budget, else `least`.
    pub(crate) fn piece(&self, wanted: usize, least: usize) -> usize {
        match self.0.get() > BUDGET {
            true => wanted.min(least),
            false => wanted,
        }
    }

    /// The same for data that is read with the head of a response.
    pub(crate) fn head_piece(&self, wanted: usize, least: usize) -> usize {
        match self.0.get() > HEAD_BUDGET {
            true => wanted.min(least),
            false => wanted,
        }
    }
}

/// Waiting bytes.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    untaken: UntakenBudget,
    bytes: usize,
}

impl HeldBytes {
    /// Changes how many bytes wait.
    pub(crate) fn set(&mut self, bytes: usize) {
        let left = &self.untaken.0;
        left.set(left.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        let left = &self.untaken.0;
        left.set(left.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_small_while_many_bytes_wait() {
        let untaken = UntakenBudget::default();
        let held = untaken.hold(BUDGET);
        assert_eq!(untaken.piece(256, 16), 256);
        let more = untaken.hold(1);
        assert_eq!((untaken.piece(256, 16), untaken.piece(8, 16)), (16, 8));
        drop(held);
        assert_eq!(untaken.piece(256, 16), 256);
        drop(more);
        assert_eq!(untaken.0.get(), 0);
        let mut held = untaken.hold(HEAD_BUDGET + 1);
        assert_eq!(untaken.head_piece(64, 16), 16);
        held.set(HEAD_BUDGET);
        assert_eq!(untaken.head_piece(64, 16), 64);
    }
}
