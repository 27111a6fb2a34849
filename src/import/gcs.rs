//! Google Cloud Storage: the list that `gcloud storage buckets update --cors-file` takes, and
//! the bucket's own resource with it.
//!
//! An entry answers where its origin and its method match. `*` is known by itself only, among
//! origins and among methods. One list of headers is both: what scripts may send, and what they
//! may read. Credentials are never allowed
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

/// Where the list stands in a document.
pub(super) fn list(document: &Node) -> Option<&Node> {
    ["cors", "cors_config"].iter().find_map(|key| {
        let list = document.get(key)?;
        matches!(list.value, Value::List(_)).then_some(list)
    })
}

pub(super) fn import(document: &Node, draft: &mut Draft<'_>) -> Result<(), Unreadable> {
    let entries = list(document).unwrap_or(document);
    let Value::List(entries) = &entries.value else {
        let message = "a bucket's CORS is a list of entries, or a bucket with one under `cors`";
        return Err(Unreadable::at(entries.span.clone(), message));
    };
    let mut asked: Vec<(Vec<Word>, Vec<Word>)> = Vec::new();
    for entry in entries {
        if draft.is_full(entry.span.clone()) {
            break;
        }
        if !matches!(entry.value, Value::Map(_)) {
            return Err(Unreadable::at(entry.span.clone(), "an entry is an object"));
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
                "`*` is documented only by itself; `{}` is taken as a pattern of names that may be \
                 sent",
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
        };
        let place = entry.get("origin").unwrap_or(entry).span.clone();
        draft.credentials_are_added(&rule, place.clone());
        if asked
            .iter()
            .any(|(others, theirs)| overlap(others, &origins) && overlap(theirs, &methods))
        {
            let message = "an entry before this one has an origin and a method in common with it. \
                           Which of them answers is not documented; in S3 it is the first that \
                           allows origin, method and headers";
            draft.note(Note::new("rule-choice", place, None, message));
        }
        draft.push(rule, entry.span.clone());
        asked.push((origins, methods));
    }
    Ok(())
}

/// Whether two lists, each perhaps with `*` for everything, have something in common.
fn overlap(one: &[Word], other: &[Word]) -> bool {
    one.iter().any(|left| {
        other
            .iter()
            .any(|right| left.text == right.text || left.text == "*" || right.text == "*")
    })
}
