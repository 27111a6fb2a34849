//! Prepares a start: copies the buckets of policies.

use tokio::task::LocalSet;

use crate::config::Loaded;
use crate::metrics::Metrics;

use super::output::Failure;

/// Reads each bucket of policies once. Returns whether there are any, because files have then
/// changed.
///
/// It uses connections of its own: those of a serving snapshot belong to its workers.
pub(super) fn policy_stores(loaded: &Loaded, keep_going: bool) -> Result<bool, Failure> {
    let metrics = Metrics::new(1);
    let Some(snapshot) = loaded.snapshot(&metrics, None, 0, keep_going) else {
        return Ok(false);
    };
    let apis = snapshot
        .routes
        .iter()
        .filter_map(|route| route.cors_api.as_ref());
    let mut preparing = apis.filter_map(|api| api.handler.prepare()).peekable();
    if preparing.peek().is_none() {
        return Ok(false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let prepared = LocalSet::new().block_on(&runtime, async {
        for prepared in preparing {
            prepared.await?;
        }
        Ok(())
    });
    runtime.shutdown_background();
    prepared.map_err(Failure::Usage)?;
    Ok(true)
}
