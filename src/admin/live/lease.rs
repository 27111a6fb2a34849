//! The time limit of an admin connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// A connection's time limit: fixed, or for a viewer, until it is disconnected.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    is_extended: AtomicBool,
    cut: Notify,
}

impl Lease {
    /// Marks the connection as a viewer's.
    pub(super) fn extend(&self) {
        self.is_extended.store(true, Ordering::Relaxed);
    }

    /// Ends the connection now.
    pub(super) fn cut(&self) {
        self.cut.notify_one();
    }

    /// Waits for the end of the connection's time.
    pub(crate) async fn ended(&self, time: Duration) {
        tokio::select! {
            () = self.cut.notified() => {}
            () = async {
                tokio::time::sleep(time).await;
                if self.is_extended.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
            } => {}
        }
    }
}
