//! S3's own JSON: the array that its console shows, and what `aws s3api get-bucket-cors` prints.

use crate::cors::CorsRule;

use super::Unreadable;
use super::document::{Node, Value};
use super::draft::{Draft, Stars};

const KEYS: [&str; 6] = [
    "ID",
    "AllowedOrigins",
    "AllowedMethods",
    "AllowedHeaders",
    "ExposeHeaders",
    "MaxAgeSeconds",
];

pub(super) fn is_rule(node: &Node) -> bool {
    node.has("AllowedOrigins") || node.has("AllowedMethods")
}

pub(super) fn import(document: &Node, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    let rules = document.get("CORSRules").unwrap_or(document);
    let Value::List(rules) = &rules.value else {
        let message = "S3's JSON is a list of rules, or an object with one under `CORSRules`";
        return Err(Unreadable::at(rules.span.clone(), message));
    };
    for rule in rules {
        if draft.is_full(rule.span.clone()) {
            break;
        }
        if !matches!(rule.value, Value::Map(_)) {
            return Err(Unreadable::at(rule.span.clone(), "a rule is an object"));
        }
        draft.unknown_keys(rule, &KEYS);
        let words = |key| rule.get(key).map_or_else(|| Ok(Vec::new()), Node::words);
        let converted = CorsRule {
            id: rule.scalar("ID")?.and_then(|id| draft.id(&id)),
            allowed_origins: draft.origins(&words("AllowedOrigins")?, Stars::AnyRun),
            allowed_methods: draft.methods(&words("AllowedMethods")?),
            allowed_headers: draft.headers(&words("AllowedHeaders")?),
            expose_headers: draft.exposed(&words("ExposeHeaders")?),
            max_age_seconds: rule
                .scalar("MaxAgeSeconds")?
                .and_then(|seconds| draft.max_age(&seconds)),
        };
        draft.push(converted, rule.span.clone());
    }
    Ok(())
}
