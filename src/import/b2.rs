//! Backblaze B2: a bucket's `corsRules`.
//!
//! The origin `https` means every origin of that scheme. An origin without a port has the
//! scheme's default port, even if it ends with `*`. Operations of the native API are not S3
//! requests (<https://www.backblaze.com/docs/cloud-storage-cross-origin-resource-sharing-rules>).

use super::default_port::{drop_default_port, note_any_port};
use super::document::{Entry, Node, Value, Word};
use super::draft::Draft;
use super::note::Note;
use super::{Unreadable, s3_json};

/// B2's names, and S3's for them.
const KEYS: [(&str, &str); 5] = [
    ("corsRuleName", "ID"),
    ("allowedOrigins", "AllowedOrigins"),
    ("allowedHeaders", "AllowedHeaders"),
    ("exposeHeaders", "ExposeHeaders"),
    ("maxAgeSeconds", "MaxAgeSeconds"),
];

pub(super) fn is_rule(node: &Node) -> bool {
    node.has("allowedOperations") || node.has("corsRuleName")
}

/// Finds the rules in a document.
pub(super) fn rules(document: &Node) -> Option<Vec<&Node>> {
    if is_rule(document) {
        return Some(vec![document]);
    }
    let list = match &document.value {
        Value::List(_) => document,
        _ => document.get("corsRules")?,
    };
    let rules = list.items();
    (!rules.is_empty() && rules.iter().all(is_rule)).then(|| rules.iter().collect())
}

pub(super) fn import(document: &Node, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    let Some(rules) = rules(document) else {
        let message = "B2's CORS must be a list of rules, each with `allowedOperations`";
        return Err(Unreadable::at(document.span.clone(), message));
    };
    for rule in rules {
        if draft.is_full(rule.span.clone()) {
            break;
        }
        let mut entries = Vec::new();
        for entry in rule.entries() {
            let mut entry = match &*entry.key.text {
                "allowedOperations" => operations(entry, draft)?,
                _ => entry.renamed(&KEYS),
            };
            if entry.key.text == "AllowedOrigins"
                && let Value::List(origins) = &mut entry.node.value
            {
                for origin in origins {
                    if let Some(text) = s3_origin(origin, draft) {
                        origin.value = Value::Scalar(text);
                    }
                }
            }
            entries.push(entry);
        }
        s3_json::draft_rule(&Node::map(entries, rule.span.clone()), draft)?;
    }
    Ok(())
}

/// An origin in S3's form.
fn s3_origin(origin: &Node, draft: &mut Draft<'_>) -> Option<String> {
    let mut word = origin.word()?;
    if word.text == "https" {
        return Some("https://*".to_owned());
    }
    drop_default_port(&mut word.text);
    note_any_port(&word, draft);
    Some(word.text)
}

/// Converts operations such as `s3_get` to methods.
fn operations(entry: &Entry, draft: &mut Draft<'_>) -> Result<Entry, Unreadable> {
    let mut methods = Vec::new();
    for word in entry.node.words()? {
        let Some(method) = word.text.strip_prefix("s3_") else {
            let message = format!(
                "ignored `{}`, an operation of B2's native API, not S3's",
                word.text
            );
            let hint = "S3 requests need operations such as `s3_get` and `s3_put`";
            let note = Note::new(
                "method-unsupported",
                word.span.clone(),
                Some(&word.text),
                message,
            );
            draft.note(note.hint(hint));
            continue;
        };
        methods.push(Node {
            value: Value::Scalar(method.to_ascii_uppercase()),
            span: word.span.clone(),
        });
    }
    Ok(Entry {
        key: Word {
            text: "AllowedMethods".to_owned(),
            span: entry.key.span.clone(),
        },
        node: Node {
            value: Value::List(methods),
            span: entry.node.span.clone(),
        },
    })
}
