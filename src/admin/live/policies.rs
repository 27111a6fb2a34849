//! The policies in force, and the origins that they allowed.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::admin::status;
use crate::cors::{Options, check_document};
use crate::routing::snapshot::{RoutePolicy, Snapshot};

/// The maximum number of listed policies, upstreams and allowed origins.
pub(super) const MAX_LISTED: usize = 200;

/// The maximum text of a policy, and of all policies together, in bytes.
const MAX_TEXT: usize = 16 * 1024;
const MAX_TEXTS: usize = 256 * 1024;

/// The maximum number of places listed for an allowed origin.
const MAX_PLACES: usize = 10;

/// The lists for one snapshot, built once.
#[derive(Debug, Default)]
pub(super) struct PolicyList {
    pub(super) generation: u64,
    listed: Vec<(Value, Option<SystemTime>)>,
    pub(super) count: usize,
    /// Where an origin is allowed, by route and origin.
    places: HashMap<(Box<str>, Box<str>), Vec<Value>>,
}

impl PolicyList {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let mut list = Self {
            generation: snapshot.generation,
            ..Self::default()
        };
        let mut texts = 0;
        for route in &snapshot.routes {
            let own = route.policies.route.as_deref().map(|policy| (None, policy));
            let buckets = status::sorted(route.policies.buckets.as_ref());
            let buckets = buckets
                .into_iter()
                .map(|(name, policy)| (Some(name), policy));
            for (bucket, policy) in own.into_iter().chain(buckets) {
                list.count += 1;
                if list.count <= MAX_LISTED {
                    let shown = one(&route.name, bucket, policy, &mut texts);
                    list.listed.push((shown, policy.source.loaded_at));
                    list.add_places(&route.name, bucket, policy);
                }
            }
        }
        list
    }

    /// The places of each origin of a policy.
    fn add_places(&mut self, route: &str, bucket: Option<&str>, policy: &RoutePolicy) {
        for (index, pattern) in policy.policy.origin_patterns().enumerate() {
            let key = (route.into(), pattern.into());
            let places = self.places.entry(key).or_default();
            if places.len() < MAX_PLACES {
                let rule = policy.policy.rule_of_pattern(index);
                places.push(json!({
                    "bucket": bucket,
                    "policy": status::file(policy),
                    "rule": rule.map(|rule| rule + 1),
                    "rule_id": rule.and_then(|rule| policy.policy.rule_id(rule)),
                }));
            }
        }
    }

    /// The policies, with their age.
    pub(super) fn to_json(&self, now: SystemTime) -> Vec<Value> {
        let policies = self.listed.iter().map(|(policy, loaded_at)| {
            let age = loaded_at.and_then(|loaded_at| now.duration_since(loaded_at).ok());
            let age = age.map(|age| age.as_secs());
            status::with(policy.clone(), [("age_seconds", age.into())])
        });
        policies.collect()
    }

    /// The origins that were allowed, most frequent first.
    pub(super) fn allowed(&self, snapshot: &Snapshot) -> Vec<Value> {
        let mut counts = BTreeMap::new();
        for route in &snapshot.routes {
            for (origin, count) in route.metrics.allowed_counts() {
                counts.insert((&*route.name, origin), count);
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let shown = counts.into_iter().take(MAX_LISTED);
        let shown = shown.map(|((route, origin), count)| {
            let key = (Box::from(route), Box::from(&*origin));
            let rules = self.places.get(&key).cloned().unwrap_or_default();
            json!({ "route": route, "origin": origin, "count": count, "rules": rules })
        });
        shown.collect()
    }
}

fn one(route: &str, bucket: Option<&str>, policy: &RoutePolicy, texts: &mut usize) -> Value {
    let text = policy
        .policy
        .configuration()
        .map(|written| written.to_xml());
    let warnings = text
        .as_deref()
        .map_or_else(Vec::new, |text| warnings(text, policy));
    let text = text.filter(|text| text.len() <= MAX_TEXT && *texts + text.len() <= MAX_TEXTS);
    *texts += text.as_ref().map_or(0, String::len);
    let members = [
        ("route", route.into()),
        ("bucket", bucket.into()),
        ("warnings", warnings.into()),
        ("text", text.into()),
    ];
    status::with(status::policy_status(policy), members)
}

/// The warnings of `s3cors check`.
fn warnings(text: &str, policy: &RoutePolicy) -> Vec<String> {
    let options: Options = policy.policy.options().clone();
    let problems = check_document(text.as_bytes(), options).problems;
    let texts = problems
        .into_iter()
        .take(MAX_WARNINGS)
        .map(|problem| match problem.hint {
            Some(hint) => format!("{}; {hint}", problem.message),
            None => problem.message,
        });
    texts.collect()
}

/// The maximum number of warnings per policy.
const MAX_WARNINGS: usize = 20;
