//! `event: snapshot`: the complete state.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::admin::State;
use crate::admin::answer::time;
use crate::admin::status;
use crate::routing::snapshot::Snapshot;

use super::groups::Groups;
use super::minutes::Minutes;
use super::policies::{MAX_LISTED, PolicyList};

/// The state of the collector.
pub(super) struct Known<'c> {
    pub(super) groups: &'c Groups,
    pub(super) minutes: &'c Minutes,
    pub(super) policies: &'c PolicyList,
    pub(super) dropped: u64,
    pub(super) viewers: usize,
}

/// The complete state, as a viewer's first event.
pub(super) fn to_json(state: &State, snapshot: &Snapshot, known: &Known<'_>) -> Value {
    let now = SystemTime::now();
    let files = state.reloads.state();
    let upstreams = snapshot.routes.iter().flat_map(|route| {
        let name = &route.name;
        route.upstreams.iter().map(move |upstream| {
            let route = [("route", (**name).into())];
            status::with(status::upstream_health(upstream), route)
        })
    });
    let upstreams_count = snapshot.routes.iter().map(|route| route.upstreams.len());
    json!({
        "time": time(now),
        "started": time(state.metrics.started()),
        "version": env!("CARGO_PKG_VERSION"),
        "phase": state.health.phase().as_str(),
        "generation": snapshot.generation,
        "dropped_events": known.dropped,
        "viewers": known.viewers,
        "minutes": known.minutes.to_json(),
        "refused": known.groups.to_json(),
        "refused_groups_forgotten": known.groups.forgotten,
        "allowed": known.policies.allowed(snapshot),
        "policies": known.policies.to_json(now),
        "policies_count": known.policies.count,
        "out_of_date": files.out_of_date(),
        "restart_needed_for": files.restart_needed_for,
        "last_reload": state.reloads.last(),
        "upstreams": upstreams.take(MAX_LISTED).collect::<Vec<_>>(),
        "upstreams_count": upstreams_count.sum::<usize>(),
    })
}
