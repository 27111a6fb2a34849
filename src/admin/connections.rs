//! The admin listener's connections: bounded, but a health probe always gets in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinSet};

/// The maximum number of connections; beyond that, a new one replaces an old one.
const MAX_CONNECTIONS: usize = 100;

/// The maximum while clients use all descriptors except the reserve, which is also for reloads
/// and logs.
const MAX_IN_RESERVE: usize = 4;

/// The minimum interval between warnings about failures to accept.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// The connections, oldest first.
#[derive(Default)]
pub(super) struct Connections {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<Connection>,
}

struct Connection {
    task: AbortHandle,
    has_asked: HasAsked,
}

/// Whether a connection has sent a complete request head.
#[derive(Clone, Default)]
pub(super) struct HasAsked(Arc<AtomicBool>);

impl HasAsked {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Connections {
    /// Runs a connection. If there is no room, closes an older one: one that has not sent a
    /// request yet, or else the oldest.
    pub(super) async fn add<F>(&mut self, is_in_reserve: bool, serve: impl FnOnce(HasAsked) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let most = if is_in_reserve {
            MAX_IN_RESERVE
        } else {
            MAX_CONNECTIONS
        };
        self.forget_ended();
        while self.oldest_first.len() >= most {
            self.close_one().await;
        }
        let has_asked = HasAsked::default();
        let task = self.tasks.spawn(serve(has_asked.clone()));
        self.oldest_first.push_back(Connection { task, has_asked });
    }

    /// Closes a connection to make room. Returns false if there is none.
    pub(super) async fn close_one(&mut self) -> bool {
        self.forget_ended();
        let silent = self
            .oldest_first
            .iter()
            .position(|one| !one.has_asked.get());
        let Some(closed) = self.oldest_first.remove(silent.unwrap_or(0)) else {
            return false;
        };
        closed.task.abort();
        // Its descriptor is free once the task has ended.
        while !closed.task.is_finished() && self.tasks.join_next().await.is_some() {}
        true
    }

    /// Removes connections that have ended. Returns whether there were any.
    pub(super) fn forget_ended(&mut self) -> bool {
        let before = self.oldest_first.len();
        while self.tasks.try_join_next().is_some() {}
        self.oldest_first.retain(|one| !one.task.is_finished());
        self.oldest_first.len() < before
    }
}

/// Warns about failures to accept, at a limited rate.
#[derive(Default)]
pub(super) struct AcceptWarning {
    logged_at: Option<Instant>,
    unlogged: u64,
}

impl AcceptWarning {
    pub(super) fn failed(&mut self, error: &std::io::Error) {
        let is_due = |at: Instant| at.elapsed() >= WARNING_INTERVAL;
        if self.logged_at.is_none_or(is_due) {
            let unlogged = std::mem::take(&mut self.unlogged);
            tracing::warn!(%error, unlogged, "cannot accept a connection to the admin listener");
            self.logged_at = Some(Instant::now());
        } else {
            self.unlogged += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// Sends its number when it is dropped.
    struct Dropped(usize, mpsc::UnboundedSender<usize>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.1.send(self.0);
        }
    }

    /// Adds connections that never end; those in `asking` have sent a request.
    async fn add(
        connections: &mut Connections,
        numbers: std::ops::Range<usize>,
        asking: &[usize],
        is_in_reserve: bool,
        ended: &mpsc::UnboundedSender<usize>,
    ) {
        for number in numbers {
            let dropped = Dropped(number, ended.clone());
            let asks = asking.contains(&number);
            let serve = |has_asked: HasAsked| async move {
                let _dropped = dropped;
                if asks {
                    has_asked.set();
                }
                std::future::pending().await
            };
            connections.add(is_in_reserve, serve).await;
            tokio::task::yield_now().await;
        }
    }

    fn all(ended: &mut mpsc::UnboundedReceiver<usize>) -> Vec<usize> {
        std::iter::from_fn(|| ended.try_recv().ok()).collect()
    }

    #[tokio::test]
    async fn a_new_connection_takes_the_place_of_the_oldest_silent_one() {
        let (ended, mut of_ended) = mpsc::unbounded_channel();
        let mut connections = Connections::default();
        let asking = [0, 2];
        add(&mut connections, 0..MAX_CONNECTIONS, &asking, false, &ended).await;
        assert!(all(&mut of_ended).is_empty());
        let more = MAX_CONNECTIONS..MAX_CONNECTIONS + 3;
        add(&mut connections, more, &[], false, &ended).await;
        assert_eq!(all(&mut of_ended), [1, 3, 4]);
    }

    #[tokio::test]
    async fn if_all_have_sent_a_request_the_oldest_one_is_closed() {
        let (ended, mut of_ended) = mpsc::unbounded_channel();
        let mut connections = Connections::default();
        let asking: Vec<_> = (0..MAX_CONNECTIONS).collect();
        add(
            &mut connections,
            0..MAX_CONNECTIONS + 1,
            &asking,
            false,
            &ended,
        )
        .await;
        assert_eq!(all(&mut of_ended), [0]);
    }

    #[tokio::test]
    async fn in_the_reserve_of_descriptors_only_a_few_stay() {
        let (ended, mut of_ended) = mpsc::unbounded_channel();
        let mut connections = Connections::default();
        add(&mut connections, 0..10, &[], false, &ended).await;
        add(&mut connections, 10..11, &[], true, &ended).await;
        assert_eq!(all(&mut of_ended), [0, 1, 2, 3, 4, 5, 6]);
        assert!(connections.close_one().await);
    }

    #[tokio::test]
    async fn ended_connections_make_room() {
        let (ended, mut of_ended) = mpsc::unbounded_channel();
        let mut connections = Connections::default();
        for _ in 0..10 * MAX_CONNECTIONS {
            connections.add(false, |_| async {}).await;
            tokio::task::yield_now().await;
        }
        assert!(connections.oldest_first.len() < MAX_CONNECTIONS);
        add(&mut connections, 0..1, &[], false, &ended).await;
        assert!(all(&mut of_ended).is_empty());
    }
}
