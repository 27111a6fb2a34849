//! How much each connection's client may send before the upstream has taken it.
//!
//! A window is a promise of memory that cannot be taken back: an upstream that takes nothing leaves
//! all of it here. So a worker's connections share a budget, and those that open while most of it is
//! promised get smaller windows, down to the protocol's default ([RFC 9113 §6.9.2]).
//!
//! [RFC 9113 §6.9.2]: https://www.rfc-editor.org/rfc/rfc9113#section-6.9.2

use std::cell::Cell;
use std::rc::Rc;

/// What all windows of a worker may have in all, in bytes, besides [`LEAST`] for each connection.
const BUDGET: u32 = 256 * 1024 * 1024;

/// The largest window, in bytes.
const MOST: u32 = 1024 * 1024;

/// The smallest window, which the protocol gives every connection.
const LEAST: u32 = 65_535;

/// A connection gets at most this part of what is left, so that there is always something left.
const SHARE: u32 = 64;

/// What is left of a worker's budget.
#[derive(Clone, Debug)]
pub(super) struct ReceiveBudget(Rc<Cell<u32>>);

impl Default for ReceiveBudget {
    fn default() -> Self {
        Self(Rc::new(Cell::new(BUDGET)))
    }
}

impl ReceiveBudget {
    /// A new connection's window, which counts until it is dropped.
    pub(super) fn reserve(&self) -> ReceiveWindow {
        let left = self.0.get();
        let reserved = (left / SHARE).min(MOST - LEAST);
        self.0.set(left - reserved);
        ReceiveWindow {
            reserved,
            budget: self.clone(),
        }
    }
}

/// One connection's window: for each of its streams, and for all of them together.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    reserved: u32,
    budget: ReceiveBudget,
}

impl ReceiveWindow {
    pub(super) fn bytes(&self) -> u32 {
        LEAST + self.reserved
    }
}

impl Drop for ReceiveWindow {
    fn drop(&mut self) {
        let left = &self.budget.0;
        left.set(left.get() + self.reserved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_windows_together_are_bounded_and_come_back() {
        let budget = ReceiveBudget::default();
        let windows: Vec<_> = (0..100_000).map(|_| budget.reserve()).collect();
        let sizes = || windows.iter().map(ReceiveWindow::bytes);
        assert_eq!(sizes().take(100).min(), Some(MOST));
        assert!(sizes().is_sorted_by(|a, b| a >= b));
        assert!(sizes().all(|size| (LEAST..=MOST).contains(&size)));
        let least = u64::from(LEAST) * 100_000;
        let total: u64 = sizes().map(u64::from).sum();
        assert!(total <= least + u64::from(BUDGET), "{total}");
        drop(windows);
        assert_eq!(budget.0.get(), BUDGET);
        assert_eq!(budget.reserve().bytes(), MOST);
    }
}
