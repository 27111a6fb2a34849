//! Reads values of a JSON document as text.

use serde_json::Value;

pub(super) fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A field name as S3 writes it, such as `Access-Control-Allow-Origin`.
pub(super) fn title_case(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let mut characters = part.chars();
        let first = characters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(characters).collect()
    });
    parts.collect::<Vec<String>>().join("-")
}
