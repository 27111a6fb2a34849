//! Gives an ejected upstream requests again once a connection to it can be made.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::endpoint::Upstream;
use super::stream::Stream;

/// Between two tries to connect to an ejected upstream.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// Reinstates an upstream after a time, as soon as a connection to it can be made.
pub(crate) fn reinstate_after(ejection: Duration, upstream: &Arc<Upstream>) {
    // Weak: a reload may remove it meanwhile.
    let upstream = Arc::downgrade(upstream);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(ejection).await;
        while let Some(upstream) = Weak::upgrade(&upstream) {
            if Stream::connect(&upstream).await.is_ok() {
                upstream.health.reinstate();
                tracing::info!(%upstream, "an upstream can be connected to again");
                return;
            }
            drop(upstream);
            tokio::time::sleep(RETRY).await;
        }
    });
}
