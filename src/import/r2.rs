//! Cloudflare R2: the input of `wrangler r2 bucket cors` and the API. S3's rules under other
//! names (<https://developers.cloudflare.com/r2/buckets/cors/>,
//! <https://developers.cloudflare.com/api/resources/r2/subresources/buckets/subresources/cors>).

use super::document::{Node, Value};
use super::draft::Draft;
use super::{Unreadable, s3_json};

/// R2's names, and S3's for them.
const KEYS: [(&str, &str); 3] = [
    ("id", "ID"),
    ("exposeHeaders", "ExposeHeaders"),
    ("maxAgeSeconds", "MaxAgeSeconds"),
];

const ALLOWED: [(&str, &str); 3] = [
    ("origins", "AllowedOrigins"),
    ("methods", "AllowedMethods"),
    ("headers", "AllowedHeaders"),
];

pub(super) fn is_rule(node: &Node) -> bool {
    let allowed = node.get("allowed");
    allowed.is_some_and(|allowed| allowed.has("origins") || allowed.has("methods"))
}

/// Finds the rules in a document.
pub(super) fn rules(document: &Node) -> Option<Vec<&Node>> {
    if is_rule(document) {
        return Some(vec![document]);
    }
    let list = match &document.value {
        Value::List(_) => document,
        // `result`: the API's response.
        _ => document
            .get("rules")
            .or_else(|| document.get("result")?.get("rules"))?,
    };
    let rules = list.items();
    (!rules.is_empty() && rules.iter().all(is_rule)).then(|| rules.iter().collect())
}

pub(super) fn import(document: &Node, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    let Some(rules) = rules(document) else {
        let message = "R2's CORS must be an object with `rules`, each with `allowed`";
        return Err(Unreadable::at(document.span.clone(), message));
    };
    for rule in rules {
        if draft.is_full(rule.span.clone()) {
            break;
        }
        let mut entries = Vec::new();
        for entry in rule.entries() {
            if entry.key.text == "allowed" {
                let allowed = entry.node.entries().iter();
                entries.extend(allowed.map(|entry| entry.renamed(&ALLOWED)));
            } else {
                entries.push(entry.renamed(&KEYS));
            }
        }
        s3_json::draft_rule(&Node::map(entries, rule.span.clone()), draft)?;
    }
    Ok(())
}
