//! A summary of what is in force: a hash to compare replicas, and the buckets without a policy.

use crate::routing::snapshot::{RoutePolicy, Snapshot};
use crate::tls::digest::{ContentHash, sha256};

use super::source::SourceFile;
use super::{Input, Source};

/// The number of hexadecimal digits shown: enough to compare, short enough for a label.
const DIGITS: usize = 16;

/// A hash of the config and the policies in force: equal for replicas that serve the same.
///
/// Certificates and keys are excluded: replicas may have their own.
pub(super) fn hash(input: &Input, text: Option<&SourceFile>, snapshot: &Snapshot) -> String {
    let mut parts = Vec::new();
    let mut add = |part: &[u8]| {
        parts.extend_from_slice(&sha256(part).0);
    };
    match (&input.source, text) {
        (_, Some(text)) => add(text.text().as_bytes()),
        (Source::Flags { upstreams, .. } | Source::Inline { upstreams, .. }, None) => {
            add(upstreams.join(" ").as_bytes());
        }
        (Source::File(_), None) => {}
    }
    for route in &snapshot.routes {
        add(route.name.as_bytes());
        let mut policy = |name: &str, policy: &RoutePolicy| {
            add(name.as_bytes());
            let ContentHash(contents) = policy.source.content_hash.unwrap_or(ContentHash([0; 32]));
            add(&contents);
        };
        if let Some(own) = &route.policies.route {
            policy("", own);
        }
        let buckets = route.policies.buckets.iter();
        let mut buckets: Vec<_> = buckets.flat_map(|buckets| &buckets.policies).collect();
        buckets.sort_by_key(|(name, _)| *name);
        for (name, bucket) in buckets {
            policy(name, bucket);
        }
    }
    let mut hash = sha256(&parts).to_string();
    hash.truncate(DIGITS);
    hash
}

/// By route: how many of its policies are the last good ones from the state folder.
pub(super) fn policies_from_state(snapshot: &Snapshot) -> Vec<(Box<str>, usize)> {
    let routes = snapshot.routes.iter().map(|route| {
        let buckets = route.policies.buckets.iter();
        let policies = buckets.flat_map(|buckets| buckets.policies.values());
        let policies = policies.chain(&route.policies.route);
        let restored = policies.filter(|policy| policy.source.from_state).count();
        (route.name.clone(), restored)
    });
    routes.collect()
}

/// By route: how many of its buckets are answered as buckets without CORS because their
/// file has been invalid from the start.
pub(super) fn buckets_without_policy(snapshot: &Snapshot) -> Vec<(Box<str>, usize)> {
    let is_without = |policy: &RoutePolicy| {
        policy.source.last_error.is_some() && policy.source.content_hash.is_none()
    };
    let routes = snapshot.routes.iter().map(|route| {
        let buckets = route.policies.buckets.iter();
        let policies = buckets.flat_map(|buckets| buckets.policies.values());
        let without = policies.filter(|policy| is_without(policy)).count();
        (route.name.clone(), without)
    });
    routes.collect()
}
