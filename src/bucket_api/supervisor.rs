//! Runs the background work of a snapshot's APIs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::net::abort_on_drop::AbortOnDrop;
use crate::routing::snapshot::Current;

/// How soon a new API is started.
const LOOK: Duration = Duration::from_millis(250);

/// Runs every API that is in force, and stops those that no longer are. Never returns.
pub async fn supervise(current: Arc<Current>) {
    let mut running: HashMap<usize, AbortOnDrop> = HashMap::new();
    let mut seen = None;
    loop {
        let snapshot = current.get();
        if seen
            .as_ref()
            .is_none_or(|seen| !Arc::ptr_eq(seen, &snapshot))
        {
            let apis = snapshot
                .routes
                .iter()
                .filter_map(|route| route.cors_api.as_ref());
            let apis: HashMap<_, _> = apis
                .map(|api| (Arc::as_ptr(&api.handler).addr(), &api.handler))
                .collect();
            running.retain(|address, _| apis.contains_key(address));
            for (address, handler) in apis {
                running.entry(address).or_insert_with(|| {
                    let running = Arc::clone(handler).run();
                    AbortOnDrop::from(tokio::task::spawn_local(running))
                });
            }
            seen = Some(snapshot);
        }
        tokio::time::sleep(LOOK).await;
    }
}
