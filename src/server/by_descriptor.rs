//! A worker's client connections by file descriptor, so that those in the reserve can be closed when
//! the limit on open files is lowered.

use std::cell::RefCell;
use std::ops::Range;
use std::os::fd::RawFd;

use tokio::task::AbortHandle;

/// The tasks of connections, at the index of their descriptor.
#[derive(Debug, Default)]
pub(super) struct ByDescriptor(RefCell<Vec<Option<AbortHandle>>>);

impl ByDescriptor {
    pub(super) fn add(&self, descriptor: RawFd, task: AbortHandle) {
        let Ok(index) = usize::try_from(descriptor) else {
            return;
        };
        let mut tasks = self.0.borrow_mut();
        if tasks.len() <= index {
            tasks.resize(index + 1, None);
        }
        if let Some(slot) = tasks.get_mut(index) {
            *slot = Some(task);
        }
    }

    /// A connection has ended.
    pub(super) fn remove(&self, descriptor: RawFd) {
        let index = usize::try_from(descriptor).unwrap_or(usize::MAX);
        if let Some(slot) = self.0.borrow_mut().get_mut(index) {
            *slot = None;
        }
    }

    /// Closes the connections whose descriptors are in `range`; how many there were.
    pub(super) fn close(&self, range: Range<RawFd>) -> usize {
        let index = |bound: RawFd| usize::try_from(bound).unwrap_or(0);
        let tasks = self.0.borrow();
        let end = index(range.end).min(tasks.len());
        let found = tasks.get(index(range.start)..end).unwrap_or_default();
        let tasks = found.iter().flatten();
        tasks.map(AbortHandle::abort).count()
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[test]
    fn only_connections_in_the_range_are_closed() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let (by_descriptor, mut tasks) = (ByDescriptor::default(), JoinSet::new());
            for descriptor in [3, 5, 6, 7, 9] {
                let task = tasks.spawn_local(std::future::pending::<()>());
                by_descriptor.add(descriptor, task);
            }
            by_descriptor.remove(6);
            by_descriptor.remove(1000);
            assert_eq!(by_descriptor.close(0..0), 0);
            assert_eq!(by_descriptor.close(10..20), 0);
            assert_eq!(by_descriptor.close(5..9), 2);
            for _ in 0..2 {
                let ended = tasks.join_next().await.unwrap();
                assert!(ended.unwrap_err().is_cancelled());
            }
            assert_eq!(tasks.len(), 3);
        });
    }
}
