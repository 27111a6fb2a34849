//! The last log line of a start, and the check of each upstream that follows it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::routing::snapshot::Snapshot;
use crate::server::Bind;
use crate::upstream::endpoint::Upstream;
use crate::upstream::start_check::check_at_start;

/// Logs that requests are served, from which addresses (`urls`) and to which upstreams. Then
/// connects to each upstream once and warns about those that requests will not reach; `addresses`
/// are our own.
pub(super) async fn report(
    urls: Vec<String>,
    addresses: Vec<Bind>,
    admin: Option<Bind>,
    snapshot: Arc<Snapshot>,
) {
    let upstreams = upstreams(&snapshot);
    tracing::info!("{}", line(&urls, &upstreams, admin.as_ref()));
    let own: Vec<SocketAddr> = addresses
        .iter()
        .chain(&admin)
        .filter_map(|address| match address {
            Bind::Tcp(address) => Some(*address),
            Bind::Unix(_) | Bind::Systemd(_) => None,
        })
        .collect();
    // A reload may remove upstreams meanwhile.
    drop(snapshot);
    check_at_start(upstreams, own).await;
}

/// Each upstream, without duplicates.
fn upstreams(snapshot: &Snapshot) -> Vec<Arc<Upstream>> {
    let mut seen = HashSet::new();
    let upstreams = snapshot.routes.iter().flat_map(|route| &route.upstreams);
    let first = upstreams.filter(|upstream| seen.insert(Arc::as_ptr(upstream)));
    first.cloned().collect()
}

fn line(urls: &[String], upstreams: &[Arc<Upstream>], admin: Option<&Bind>) -> String {
    const MOST_SHOWN: usize = 3;
    let upstreams = if upstreams.len() > MOST_SHOWN {
        format!("{} upstreams", upstreams.len())
    } else {
        let urls: Vec<_> = upstreams.iter().map(|upstream| upstream.url()).collect();
        urls.join(", ")
    };
    let mut line = format!("ready: {} → {upstreams}", urls.join(", "));
    match admin {
        Some(Bind::Tcp(address)) => line.push_str(&format!(", console http://{address}/cors")),
        Some(address @ (Bind::Unix(_) | Bind::Systemd(_))) => {
            line.push_str(&format!(", console at /cors of {address}"));
        }
        None => {}
    }
    line
}
