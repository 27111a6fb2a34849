//! Flow control: how much a connection's client may send before the upstream has taken it.
//!
//! A window promises memory and cannot be reduced: if an upstream reads nothing, all of it is
//! buffered here. So a worker's connections share a budget, and connections that open while most
//! of it is promised get smaller windows, down to the protocol's default ([RFC 9113 §6.9.2]).
//!
//! A connection moves at most one window per round trip. So the window of a client that uploads
//! much keeps doubling while the budget has room.
//!
//! [RFC 9113 §6.9.2]: https://www.rfc-editor.org/rfc/rfc9113#section-6.9.2

use std::cell::Cell;
use std::rc::Rc;

/// The budget of a worker's windows together, in bytes, besides [`LEAST`] for each connection.
const BUDGET: u32 = 256 * 1024 * 1024;

/// The largest window of a new connection, in bytes.
const INITIAL: u32 = 1024 * 1024;

/// The largest window, in bytes.
const MOST: u32 = 16 * 1024 * 1024;

/// A window grows after it has been filled this many times.
const FILLED: u64 = 2;

/// The smallest window, in bytes: the protocol's default.
const LEAST: u32 = 65_535;

/// The share of the remaining budget that a connection gets at most, so that some always remains.
const SHARE: u32 = 64;

/// The share of the remaining budget that a window grows by at most.
const GROWTH_SHARE: u32 = 8;

/// The remaining budget of a worker.
#[derive(Clone, Debug)]
pub(super) struct ReceiveBudget(Rc<Cell<u32>>);

impl Default for ReceiveBudget {
    fn default() -> Self {
        Self(Rc::new(Cell::new(BUDGET)))
    }
}

impl ReceiveBudget {
    /// A new connection's window; it counts until dropped.
    pub(super) fn reserve(&self) -> ReceiveWindow {
        let left = self.0.get();
        let reserved = (left / SHARE).min(INITIAL - LEAST);
        self.0.set(left - reserved);
        ReceiveWindow {
            reserved,
            received: 0,
            budget: self.clone(),
        }
    }
}

/// A connection's window: for each of its streams, and for all of them together.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    reserved: u32,
    /// How much had been received when it last grew, in bytes.
    received: u64,
    budget: ReceiveBudget,
}

impl ReceiveWindow {
    pub(super) fn bytes(&self) -> u32 {
        LEAST + self.reserved
    }

    /// Doubles the window if enough was `received` since it last grew and the budget has room.
    /// Returns whether it did.
    pub(super) fn grow(&mut self, received: u64) -> bool {
        let bytes = self.bytes();
        if bytes >= MOST || received - self.received < FILLED * u64::from(bytes) {
            return false;
        }
        self.received = received;
        let left = self.budget.0.get();
        let more = bytes.min(MOST - bytes);
        if more > left / GROWTH_SHARE {
            return false;
        }
        self.budget.0.set(left - more);
        self.reserved += more;
        true
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
    fn all_windows_together_are_bounded_and_returned() {
        let budget = ReceiveBudget::default();
        let windows: Vec<_> = (0..100_000).map(|_| budget.reserve()).collect();
        let sizes = || windows.iter().map(ReceiveWindow::bytes);
        assert_eq!(sizes().take(100).min(), Some(INITIAL));
        assert!(sizes().is_sorted_by(|a, b| a >= b));
        assert!(sizes().all(|size| (LEAST..=INITIAL).contains(&size)));
        let least = u64::from(LEAST) * 100_000;
        let total: u64 = sizes().map(u64::from).sum();
        assert!(total <= least + u64::from(BUDGET), "{total}");
        drop(windows);
        assert_eq!(budget.0.get(), BUDGET);
        assert_eq!(budget.reserve().bytes(), INITIAL);
    }

    #[test]
    fn a_window_doubles_when_it_was_filled_twice_up_to_a_limit() {
        let budget = ReceiveBudget::default();
        let mut window = budget.reserve();
        let (mut received, mut sizes) = (0, vec![window.bytes()]);
        for _ in 0..1000 {
            received += u64::from(INITIAL) / 2;
            if window.grow(received) {
                sizes.push(window.bytes());
            }
        }
        let mib: Vec<_> = sizes.iter().map(|size| size / 1024 / 1024).collect();
        assert_eq!(mib, [1, 2, 4, 8, 16]);
        assert!(!window.grow(received));
        drop(window);
        assert_eq!(budget.0.get(), BUDGET);
    }

    #[test]
    fn windows_that_grow_stay_within_the_budget() {
        let budget = ReceiveBudget::default();
        let mut windows: Vec<_> = (0..1000).map(|_| budget.reserve()).collect();
        for round in 1..=20 {
            for window in &mut windows {
                window.grow(round * 4 * u64::from(MOST));
            }
        }
        let total: u64 = windows.iter().map(|window| u64::from(window.bytes())).sum();
        let least = u64::from(LEAST) * 1000;
        assert!(total <= least + u64::from(BUDGET), "{total}");
        // New connections still get a window larger than the smallest.
        assert!(budget.reserve().bytes() > LEAST);
        windows.clear();
        assert_eq!(budget.0.get(), BUDGET);
    }
}
