//! What an event says about the decision, beyond the access log.

use crate::cors::Condition;
use crate::routing::snapshot::{RoutePolicy, Snapshot};
use crate::telemetry::denial::DenialRecord;
use crate::telemetry::denial_text::{Why, nearest};

/// The decision on a request, for its event. Created only if a viewer or a ring takes it.
#[derive(Debug, Default)]
pub(crate) struct LiveNote {
    pub(crate) bucket: Option<String>,
    pub(crate) generation: u64,
    /// The rule that matched or is nearest, counted from 0.
    pub(crate) rule: Option<usize>,
    pub(crate) rule_id: Option<String>,
    /// The `AllowedOrigin` that matched.
    pub(crate) pattern: Option<String>,
    pub(crate) policy: Option<String>,
    pub(crate) why: Option<String>,
    /// The requested headers that the nearest rule does not allow.
    pub(crate) missing: Vec<String>,
}

impl LiveNote {
    /// The note for a refused request.
    pub(crate) fn denied(refusal: &DenialRecord<'_>) -> Box<Self> {
        let rule = refusal.denial.nearest_rule();
        let missing = refusal
            .policy
            .and_then(|policy| nearest(policy, &refusal.denied));
        let missing = missing.map(|(_, failures)| failures).unwrap_or_default();
        let missing = missing
            .into_iter()
            .filter(|failure| failure.condition == Condition::Header)
            .flat_map(|failure| failure.actual);
        let denied = &refusal.denied;
        let mut note = Self::of(
            refusal.snapshot,
            refusal.policy,
            denied.host,
            denied.path,
            rule,
        );
        note.why = Some(Why(refusal).to_string());
        note.missing = missing.take(MAX_MISSING).collect();
        Box::new(note)
    }

    /// The note for an allowed request; `pattern` is the index of the pattern that matched.
    pub(crate) fn allowed(
        snapshot: &Snapshot,
        policy: &RoutePolicy,
        host: &[u8],
        path: &str,
        pattern: usize,
    ) -> Box<Self> {
        let rule = policy.policy.rule_of_pattern(pattern);
        let mut note = Self::of(Some(snapshot), Some(policy), host, path, rule);
        let matched = policy.policy.origin_patterns().nth(pattern);
        note.pattern = matched.map(str::to_owned);
        Box::new(note)
    }

    fn of(
        snapshot: Option<&Snapshot>,
        policy: Option<&RoutePolicy>,
        host: &[u8],
        path: &str,
        rule: Option<usize>,
    ) -> Self {
        let bucket = snapshot.and_then(|snapshot| snapshot.bucket(host, path).ok()?);
        let file = policy.and_then(|policy| policy.source.file.as_ref());
        let rule_id = policy
            .zip(rule)
            .and_then(|(policy, rule)| policy.policy.rule_id(rule));
        Self {
            bucket,
            generation: snapshot.map_or(0, |snapshot| snapshot.generation),
            rule,
            rule_id: rule_id.map(str::to_owned),
            policy: file.map(|file| file.display().to_string()),
            ..Self::default()
        }
    }
}

/// The most headers listed.
const MAX_MISSING: usize = 16;
