//! How many connections clients have, over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of open connections over all workers and listeners, and its limit.
///
/// Shared by workers, because the system spreads connections unevenly over them: with a share for each,
/// one would refuse clients while others have room. It costs one atomic operation for each connection.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    open: AtomicUsize,
    most: usize,
}

/// One connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct CountedConnection(Arc<ConnectionLimit>);

impl ConnectionLimit {
    /// Allows `most` connections.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            most,
        })
    }

    /// Counts one more; `None` at the limit.
    pub(super) fn count(self: &Arc<Self>) -> Option<CountedConnection> {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let one_more = |open| (open < self.most).then_some(open + 1);
        let counted = self.open.fetch_update(success, failure, one_more);
        counted.ok().map(|_| CountedConnection(Arc::clone(self)))
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn workers_that_compete_admit_exactly_as_many_as_there_may_be() {
        for most in [0, 1, 7, 100] {
            let limit = ConnectionLimit::new(most);
            let admit = || -> Vec<_> { (0..100).filter_map(|_| limit.count()).collect() };
            let admitted: Vec<_> = thread::scope(|scope| {
                let workers: Vec<_> = (0..4).map(|_| scope.spawn(admit)).collect();
                let admitted = workers
                    .into_iter()
                    .flat_map(|worker| worker.join().unwrap());
                admitted.collect()
            });
            assert_eq!(admitted.len(), most);
            assert!(limit.count().is_none());
            drop(admitted);
            assert_eq!(limit.open.load(Ordering::Relaxed), 0);
        }
    }
}
