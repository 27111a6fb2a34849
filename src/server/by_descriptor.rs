//! A worker's client connections by file descriptor, so that those in the reserve can be closed when
//! the limit on open files is lowered.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::os::fd::RawFd;

use tokio::task::AbortHandle;

/// The connections, indexed by descriptor.
#[derive(Debug, Default)]
pub(super) struct ByDescriptor(RefCell<Vec<Option<Conn>>>);

#[derive(Debug)]
struct Conn {
    task: AbortHandle,
    /// Whether a request is under way.
    is_busy: Cell<bool>,
    /// Whether it ends after the current request.
    is_retired: Cell<bool>,
}

/// The number of connections whose descriptors are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Retired {
    /// Closed at once.
    pub(super) idle: usize,
    /// Will be closed after the current request.
    pub(super) busy: usize,
}

impl ByDescriptor {
    pub(super) fn add(&self, descriptor: RawFd, task: AbortHandle) {
        let Ok(index) = usize::try_from(descriptor) else {
            return;
        };
        let mut conns = self.0.borrow_mut();
        if conns.len() <= index {
            conns.resize_with(index + 1, || None);
        }
        if let Some(slot) = conns.get_mut(index) {
            *slot = Some(Conn {
                task,
                is_busy: Cell::new(false),
                is_retired: Cell::new(false),
            });
        }
    }

    /// Removes a connection that has ended.
    pub(super) fn remove(&self, descriptor: RawFd) {
        let index = usize::try_from(descriptor).unwrap_or(usize::MAX);
        if let Some(slot) = self.0.borrow_mut().get_mut(index) {
            *slot = None;
        }
    }

    /// Records whether a request is under way on a connection.
    pub(super) fn set_busy(&self, descriptor: RawFd, is_busy: bool) {
        self.with(descriptor, |conn| conn.is_busy.set(is_busy));
    }

    /// Whether a connection ends after the current request.
    pub(super) fn is_retired(&self, descriptor: RawFd) -> bool {
        let is_retired = self.with(descriptor, |conn| conn.is_retired.get());
        is_retired.unwrap_or_default()
    }

    fn with<T>(&self, descriptor: RawFd, with: impl FnOnce(&Conn) -> T) -> Option<T> {
        let index = usize::try_from(descriptor).ok()?;
        self.0.borrow().get(index)?.as_ref().map(with)
    }

    /// Closes the idle connections with descriptors in `range`; the others end after the current
    /// request.
    pub(super) fn retire(&self, range: Range<RawFd>) -> Retired {
        let index = |bound: RawFd| usize::try_from(bound).unwrap_or(0);
        let conns = self.0.borrow();
        let end = index(range.end).min(conns.len());
        let found = conns.get(index(range.start)..end).unwrap_or_default();
        let mut retired = Retired::default();
        for conn in found.iter().flatten() {
            if conn.is_retired.replace(true) {
                continue;
            }
            if conn.is_busy.get() {
                retired.busy += 1;
            } else {
                conn.task.abort();
                retired.idle += 1;
            }
        }
        retired
    }

    /// Keeps retired connections open whose descriptors are no longer in `range`.
    pub(super) fn keep_outside(&self, range: &Range<RawFd>) {
        let is_in = |index: usize| RawFd::try_from(index).is_ok_and(|index| range.contains(&index));
        for (index, conn) in self.0.borrow().iter().enumerate() {
            if let Some(conn) = conn.as_ref().filter(|_| !is_in(index)) {
                conn.is_retired.set(false);
            }
        }
    }

    /// Closes the remaining retired connections; returns how many there were.
    pub(super) fn close_retired(&self) -> usize {
        let conns = self.0.borrow();
        let left = conns.iter().flatten().filter(|conn| conn.is_retired.get());
        left.map(|conn| conn.task.abort()).count()
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn idle_connections_in_the_range_are_closed_and_others_get_time() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let (by_descriptor, mut tasks) = (ByDescriptor::default(), JoinSet::new());
            for descriptor in [3, 5, 6, 7, 8, 9] {
                let task = tasks.spawn_local(std::future::pending::<()>());
                by_descriptor.add(descriptor, task);
            }
            by_descriptor.remove(6);
            by_descriptor.remove(1000);
            by_descriptor.set_busy(8, true);
            by_descriptor.set_busy(1000, true);
            assert_eq!(by_descriptor.retire(0..0), Retired::default());
            assert_eq!(by_descriptor.retire(10..20), Retired::default());
            assert_eq!(by_descriptor.retire(5..9), Retired { idle: 2, busy: 1 });
            for _ in 0..2 {
                let ended = tasks.join_next().await.unwrap();
                assert!(ended.unwrap_err().is_cancelled());
            }
            assert_eq!(tasks.len(), 4);
            assert!(by_descriptor.is_retired(8) && !by_descriptor.is_retired(9));
            [5, 7]
                .into_iter()
                .for_each(|closed| by_descriptor.remove(closed));
            // With an even lower limit, connections that are already retired are not counted
            // again.
            assert_eq!(by_descriptor.retire(4..9), Retired::default());
            // With a higher limit, it may continue.
            by_descriptor.keep_outside(&(9..20));
            assert!(!by_descriptor.is_retired(8));
            assert_eq!(by_descriptor.close_retired(), 0);
            assert_eq!(by_descriptor.retire(5..9), Retired { idle: 0, busy: 1 });
            by_descriptor.keep_outside(&(8..20));
            assert_eq!(by_descriptor.close_retired(), 1);
            let ended = tasks.join_next().await.unwrap();
            assert!(ended.unwrap_err().is_cancelled());
            assert_eq!(tasks.len(), 3);
        });
    }
}
