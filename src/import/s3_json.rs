//! S3's own JSON: the array in its console, the output of `aws s3api get-bucket-cors`, and the
//! input of `put-bucket-cors`, including its skeleton
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManageCorsUsing.html>,
//! <https://docs.aws.amazon.com/cli/latest/reference/s3api/put-bucket-cors.html>).

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

/// Keys that only other systems' rules have.
const FOREIGN: [&str; 4] = ["MaxAgeInSeconds", "Service", "MaxAge", "CorsRuleName"];

pub(super) fn is_rule(node: &Node) -> bool {
    let named = node.has("AllowedOrigins") || node.has("AllowedMethods");
    named && !FOREIGN.iter().any(|key| node.has(key))
}

/// Finds the rules in a document: a list, or a single rule.
pub(super) fn rules(document: &Node) -> Option<Vec<&Node>> {
    if is_rule(document) {
        return Some(vec![document]);
    }
    if let Value::List(items) = &document.value {
        let are_rules = !items.is_empty() && items.iter().all(is_rule);
        return are_rules.then(|| items.iter().collect());
    }
    // `rules` is R2's key, with rules in S3's form.
    let list = document.get("CORSRules").or_else(|| {
        let inside = document.get("CORSConfiguration")?;
        inside.get("CORSRules")
    });
    match list {
        Some(list) => Some(list.items().iter().collect()),
        None => {
            let rules = document.get("rules")?.items();
            let are_rules = !rules.is_empty() && rules.iter().all(is_rule);
            are_rules.then(|| rules.iter().collect())
        }
    }
}

pub(super) fn import(document: &Node, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    let listed = match &document.value {
        Value::List(items) => Some(items.iter().collect()),
        _ => rules(document),
    };
    let Some(rules) = listed else {
        let message = "S3's JSON must be a list of rules, or an object with a list in `CORSRules`";
        return Err(Unreadable::at(document.span.clone(), message));
    };
    for rule in rules {
        if draft.is_full(rule.span.clone()) {
            break;
        }
        draft_rule(rule, draft)?;
    }
    Ok(())
}

pub(super) fn draft_rule(rule: &Node, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    if !matches!(rule.value, Value::Map(_)) {
        return Err(Unreadable::at(
            rule.span.clone(),
            "a rule must be an object",
        ));
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
        ..CorsRule::default()
    };
    draft.push(converted, rule.span.clone());
    Ok(())
}
