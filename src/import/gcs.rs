//! Google Cloud Storage: the list for `gcloud storage buckets update --cors-file`, and the bucket
//! resource that contains it.
//!
//! The first entry whose origin and method match decides, whatever headers are requested. Only a
//! lone `*` is supported, for origins and for methods. One list of headers says both what scripts
//! may send and what they may read. Credentials are never allowed
//! (<https://cloud.google.com/storage/docs/cross-origin>,
//! <https://cloud.google.com/storage/docs/xml-api/put-bucket-cors>).

use crate::cors::CorsRule;

use super::Unreadable;
use super::document::{Node, Value, Word};
use super::draft::{Draft, Stars};
use super::note::Note;

const KEYS: [&str; 4] = ["origin", "method", "responseHeader", "maxAgeSeconds"];

pub(super) fn is_entry(node: &Node) -> bool {
    node.has("origin") && (node.has("method") || node.has("responseHeader"))
}

/// The entries of the XML API's document.
pub(super) fn xml_entries(document: &Node) -> Option<Node> {
    const NAMES: [(&str, &str); 4] = [
        ("Origins", "origin"),
        ("Methods", "method"),
        ("ResponseHeaders", "responseHeader"),
        ("MaxAgeSec", "maxAgeSeconds"),
    ];
    let config = document.get("CorsConfig")?;
    let entries = config
        .entries()
        .iter()
        .filter(|entry| entry.key.text == "Cors");
    let entries = entries.map(|entry| {
        let mut entry = entry.node.with_keys(&NAMES);
        if let Value::Map(entries) = &mut entry.value {
            for list in entries {
                // `<Origins><Origin>…</Origin></Origins>`
                if let Value::Map(items) = &mut list.node.value {
                    let items = items.drain(..).map(|item| item.node).collect();
                    list.node.value = Value::List(items);
                }
            }
        }
        entry
    });
    Some(Node {
        value: Value::List(entries.collect()),
        span: config.span.clone(),
    })
}

/// Finds the list in a document.
pub(super) fn list(document: &Node) -> Option<&Node> {
    ["cors", "cors_config"].iter().find_map(|key| {
        let list = document.get(key)?;
        matches!(list.value, Value::List(_)).then_some(list)
    })
}

pub(super) fn import(document: &Node, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    let of_xml = xml_entries(document);
    let entries = of_xml
        .as_ref()
        .or_else(|| list(document))
        .unwrap_or(document);
    let Value::List(entries) = &entries.value else {
        let message =
            "a bucket's CORS must be a list of entries, or a bucket with a list in `cors`";
        return Err(Unreadable::at(entries.span.clone(), message));
    };
    let mut asked: Vec<(Vec<Word>, Vec<Word>)> = Vec::new();
    for entry in entries {
        if draft.is_full(entry.span.clone()) {
            break;
        }
        if !matches!(entry.value, Value::Map(_)) {
            return Err(Unreadable::at(
                entry.span.clone(),
                "an entry must be an object",
            ));
        }
        draft.unknown_keys(entry, &KEYS);
        let words = |key| entry.get(key).map_or_else(|| Ok(Vec::new()), Node::words);
        let (origins, methods, headers) =
            (words("origin")?, words("method")?, words("responseHeader")?);
        for word in headers
            .iter()
            .filter(|word| word.text.contains('*') && word.text != "*")
        {
            let message = format!(
                "only a lone `*` is documented; read `{}` as a pattern of headers that may be sent",
                word.text
            );
            let span = word.span.clone();
            draft.note(Note::new("header-pattern", span, Some(&word.text), message));
        }
        let rule = CorsRule {
            id: None,
            allowed_origins: draft.origins(&origins, Stars::Literal),
            allowed_methods: draft.methods(&methods),
            allowed_headers: draft.headers(&headers),
            expose_headers: draft.exposed(&headers),
            max_age_seconds: entry
                .scalar("maxAgeSeconds")?
                .and_then(|seconds| draft.max_age(&seconds)),
            ..CorsRule::default()
        };
        let place = entry.get("origin").unwrap_or(entry).span.clone();
        draft.credentials_are_added(&rule, place.clone());
        if asked
            .iter()
            .any(|(others, theirs)| overlap(others, &origins) && overlap(theirs, &methods))
        {
            // Configurations are evaluated in order, and the first that matches origin and method determines
            // the response fields: https://cloud.google.com/storage/docs/xml-api/put-bucket-cors, "CorsConfig".
            let message = "an earlier entry shares an origin and a method with this one, and decides alone there; S3 also tries this one for headers that the first does not allow";
            let hint = "remove the shared origins or methods from this entry";
            draft.note(Note::new("rule-choice", place, None, message).hint(hint));
        }
        draft.push(rule, entry.span.clone());
        asked.push((origins, methods));
    }
    Ok(())
}

/// Whether two lists overlap, where `*` includes everything.
fn overlap(one: &[Word], other: &[Word]) -> bool {
    one.iter().any(|left| {
        other
            .iter()
            .any(|right| left.text == right.text || left.text == "*" || right.text == "*")
    })
}
