//! Reinstates an ejected upstream once a connection to it succeeds.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::endpoint::Upstream;
use super::stream::UpstreamStream;

/// Time between attempts to connect to an ejected upstream.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// Reinstates an upstream after the ejection time, as soon as a connection to it succeeds.
pub(crate) fn reinstate_after(ejection: Duration, upstream: &Arc<Upstream>) {
    // Weak: a reload may remove the upstream in the meantime.
    let upstream = Arc::downgrade(upstream);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(ejection).await;
        while let Some(upstream) = Weak::upgrade(&upstream) {
            if UpstreamStream::connect(&upstream).await.is_ok() {
                upstream.health.reinstate();
                tracing::info!(%upstream, "ejected upstream reinstated");
                return;
            }
            drop(upstream);
            tokio::time::sleep(RETRY).await;
        }
    });
}
