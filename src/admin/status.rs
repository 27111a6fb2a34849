//! `/status`: what is in force, and what is not and why.

use serde_json::{Map, Value, json};

use crate::routing::bucket::Addressing;
use crate::routing::cors_api::{ApiStatus, StoreStatus};
use crate::routing::snapshot::{Buckets, Route, RoutePolicy, SERVICE_ROOT, Snapshot};
use crate::upstream::endpoint::Upstream;

use super::State;
use super::answer::{MAX_LISTED, time};

/// Everything in force; with `route`, only that route.
pub(super) fn status(state: &State, route: Option<&str>) -> Value {
    let snapshot = state.current.get();
    let routes: Vec<_> = snapshot
        .routes
        .iter()
        .filter(|there| route.is_none_or(|wanted| *there.name == *wanted))
        .take(MAX_LISTED)
        .map(|route| route_status(route))
        .collect();
    let files = state.reloads.state();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "phase": state.health.phase().as_str(),
        "generation": snapshot.generation,
        "config_hash": files.hash,
        "last_reload": state.reloads.last(),
        "out_of_date": files.out_of_date(),
        "out_of_date_count": files.out_of_date.len(),
        "restart_needed_for": files.restart_needed_for,
        "problems": problems(&snapshot),
        "route_count": snapshot.routes.len(),
        "routes": routes,
    })
}

/// Every policy whose newest file is not in force.
fn problems(snapshot: &Snapshot) -> Vec<Value> {
    let of_policy = |route: &Route, bucket: Option<&str>, policy: &RoutePolicy| {
        let error = policy.source.last_error.as_deref()?;
        Some(json!({
            "route": route.name,
            "bucket": bucket,
            "file": file(policy),
            "error": error,
        }))
    };
    let of_route = |route: &Route| {
        let own = route.policies.route.as_deref();
        let mut problems: Vec<_> = own
            .and_then(|policy| of_policy(route, None, policy))
            .into_iter()
            .collect();
        for (name, policy) in sorted(route.policies.buckets.as_ref()) {
            let name = Some(name).filter(|name| *name != SERVICE_ROOT);
            problems.extend(of_policy(route, name, policy));
        }
        problems
    };
    let routes = snapshot.routes.iter();
    routes
        .flat_map(|route| of_route(route))
        .take(MAX_LISTED)
        .collect()
}

fn route_status(route: &Route) -> Value {
    let policies = &route.policies;
    let own = policies.route.as_deref();
    let hosts: Vec<_> = route.hosts.iter().map(ToString::to_string).collect();
    let upstreams: Vec<_> = route
        .upstreams
        .iter()
        .map(|upstream| upstream.to_string())
        .collect();
    let health: Vec<_> = route
        .upstreams
        .iter()
        .map(|upstream| upstream_health(upstream))
        .collect();
    let denied = route.metrics.denied_origins().into_iter();
    let denied: Vec<_> = denied
        .map(|(origin, count)| json!({ "origin": origin, "count": count }))
        .collect();
    let transparent = policies.route.is_none() && policies.not_enabled.is_none();
    json!({
        "name": route.name,
        "hosts": hosts,
        "upstreams": upstreams,
        "upstream_health": health,
        "transparent": transparent && policies.buckets.is_none(),
        "policy": own.map(policy_status),
        "buckets": policies.buckets.as_ref().map(buckets_status),
        "denied_origins": denied,
        "cors_api": route.cors_api.as_ref().map(|api| api_status(&api.handler.status())),
    })
}

pub(super) fn upstream_health(upstream: &Upstream) -> Value {
    let condition = upstream.condition();
    json!({
        "upstream": upstream.url(),
        "healthy": condition.is_healthy,
        "consecutive_failures": condition.failures,
        "ejected_until": condition.ejected_until.map(time),
        "failing_checks": condition.fails_checks,
        "failed_check": condition.failed_check.as_deref(),
    })
}

fn api_status(status: &ApiStatus) -> Value {
    let upstreams = status.upstreams.iter().map(|asked| {
        json!({
            "upstream": asked.upstream,
            "state": match asked.is_on {
                Some(true) => "on",
                Some(false) => "off",
                None => "unknown",
            },
            "reason": asked.reason,
            "since": asked.since.map(time),
        })
    });
    json!({
        "authorize": status.authorize,
        "upstreams": upstreams.collect::<Vec<_>>(),
        "store": status.store.as_ref().map(store_status),
    })
}

fn store_status(store: &StoreStatus) -> Value {
    let invalid: Map<_, _> = store
        .invalid
        .iter()
        .map(|(bucket, error)| (bucket.clone(), json!(error)))
        .collect();
    json!({
        "bucket": store.bucket,
        "policies": store.policies,
        "polled_at": store.polled_at.map(time),
        "out_of_date_since": store.out_of_date_since.map(time),
        "error": store.error,
        "invalid": invalid,
    })
}

fn buckets_status(buckets: &Buckets) -> Value {
    let policies: Map<_, _> = sorted(Some(buckets))
        .into_iter()
        .filter(|(name, _)| *name != SERVICE_ROOT)
        .take(MAX_LISTED)
        .map(|(name, policy)| (name.to_owned(), policy_status(policy)))
        .collect();
    let root = buckets.policies.get(SERVICE_ROOT);
    json!({
        "address": addressing(buckets.addressing),
        "root": root.map(|root| policy_status(root)),
        "count": buckets.policies.len() - usize::from(root.is_some()),
        "policies": policies,
    })
}

pub(super) fn policy_status(policy: &RoutePolicy) -> Value {
    let source = &policy.source;
    json!({
        "file": file(policy),
        "content_hash": source.content_hash.map(|hash| hash.to_string()).unwrap_or_default(),
        "loaded_at": source.loaded_at.map(time),
        "last_error": source.last_error,
        "from_state": source.from_state,
        "rules": policy.policy.rule_count(),
    })
}

pub(super) fn file(policy: &RoutePolicy) -> Option<String> {
    let file = policy.source.file.as_ref()?;
    Some(file.display().to_string())
}

pub(super) fn sorted(buckets: Option<&Buckets>) -> Vec<(&str, &RoutePolicy)> {
    let policies = buckets.into_iter().flat_map(|buckets| &buckets.policies);
    let mut policies: Vec<_> = policies
        .map(|(name, policy)| (&**name, &**policy))
        .collect();
    policies.sort_by_key(|(name, _)| *name);
    policies
}

/// Adds members to an object.
pub(super) fn with<const N: usize>(mut object: Value, members: [(&str, Value); N]) -> Value {
    if let Value::Object(object) = &mut object {
        object.extend(members.map(|(name, value)| (name.to_owned(), value)));
    }
    object
}

fn addressing(addressing: Addressing) -> &'static str {
    match addressing {
        Addressing::Path => "path",
        Addressing::Host => "host",
        Addressing::Both => "both",
    }
}
