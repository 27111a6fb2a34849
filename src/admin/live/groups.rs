//! Groups refused requests; the number of groups is bounded.

use std::collections::HashMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::admin::answer::time;
use crate::telemetry::live::{GroupKey, LiveEvent};

/// The maximum number of groups; the one with the oldest last request is replaced.
const MAX_GROUPS: usize = 200;

/// Refused requests, grouped by their common properties.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<GroupKey, Group>,
    next_id: u64,
    pub(super) forgotten: u64,
}

#[derive(Debug)]
struct Group {
    id: u64,
    count: u64,
    first_seen: SystemTime,
    last_seen: SystemTime,
    /// The last request's event.
    last: Vec<u8>,
}

impl Groups {
    /// Counts a refused request.
    pub(super) fn add(&mut self, event: &LiveEvent) {
        let Some(key) = &event.group else { return };
        if let Some(group) = self.groups.get_mut(key) {
            group.count += 1;
            group.first_seen = group.first_seen.min(event.time);
            if event.time >= group.last_seen {
                group.last_seen = event.time;
                group.last.clone_from(&event.json);
            }
            return;
        }
        if self.groups.len() >= MAX_GROUPS {
            let oldest = self.groups.iter().min_by_key(|(_, group)| group.last_seen);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.groups.remove(&oldest);
                self.forgotten += 1;
            }
        }
        let group = Group {
            id: self.next_id,
            count: 1,
            first_seen: event.time,
            last_seen: event.time,
            last: event.json.clone(),
        };
        self.next_id += 1;
        self.groups.insert(key.clone(), group);
    }

    /// All groups, most recent first.
    pub(super) fn to_json(&self) -> Vec<Value> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by(|(_, a), (_, b)| b.last_seen.cmp(&a.last_seen).then(b.id.cmp(&a.id)));
        let shown = groups.into_iter().map(|(key, group)| {
            json!({
                "id": group.id,
                "origin": key.origin,
                "route": key.route,
                "bucket": key.bucket,
                "request": key.request,
                "by": key.by,
                "reason": key.reason,
                "count": group.count,
                "first_seen": time(group.first_seen),
                "last_seen": time(group.last_seen),
                "last": serde_json::from_slice::<Value>(&group.last).unwrap_or_default(),
            })
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(origin: &str, second: u64) -> LiveEvent {
        LiveEvent {
            json: format!("{{\"origin\":\"{origin}\",\"second\":{second}}}").into_bytes(),
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            group: Some(GroupKey {
                origin: origin.into(),
                route: Some("photos".into()),
                bucket: None,
                request: "actual",
                by: "policy",
                reason: "origin",
            }),
        }
    }

    #[test]
    fn similar_requests_form_one_group_with_the_last_event() {
        let mut groups = Groups::default();
        for (origin, second) in [("a", 1), ("b", 2), ("a", 4), ("a", 3)] {
            groups.add(&event(origin, second));
        }
        groups.add(&LiveEvent {
            group: None,
            ..event("c", 9)
        });
        let shown = groups.to_json();
        assert_eq!(shown.len(), 2);
        assert_eq!(
            (&shown[0]["origin"], &shown[0]["count"]),
            (&json!("a"), &json!(3))
        );
        assert_eq!(shown[0]["first_seen"], "1970-01-01T00:00:01.000Z");
        assert_eq!(shown[0]["last_seen"], "1970-01-01T00:00:04.000Z");
        assert_eq!(shown[0]["last"], json!({"origin": "a", "second": 4}));
        assert_eq!(shown[1]["origin"], "b");
    }

    #[test]
    fn new_origins_replace_the_oldest_groups_and_memory_stays_bounded() {
        let mut groups = Groups::default();
        for number in 0..10_000 {
            groups.add(&event(&number.to_string(), number));
            // Stays, because it is seen repeatedly.
            groups.add(&event("always", number));
        }
        let shown = groups.to_json();
        assert_eq!(shown.len(), MAX_GROUPS);
        assert_eq!(groups.forgotten, 10_001 - MAX_GROUPS as u64);
        let always = shown
            .iter()
            .find(|group| group["origin"] == "always")
            .unwrap();
        assert_eq!(always["count"], 10_000);
    }
}
