//! MinIO's single setting for all buckets: `cors_allow_origin`, a comma-separated list.
//!
//! Each item is a pattern in which every `*` stands for any characters; the default is `*`.
//! Matching origins are answered by name and with credentials, may use any of seven methods and
//! any header, and may read any field
//! (<https://docs.min.io/community/minio-object-store/reference/minio-server/settings/core.html>;
//! the handler is `corsHandler` in minio/minio, `cmd/api-router.go`, over rs/cors).

use std::ops::Range;

use crate::cors::CorsRule;

use super::document::Word;
use super::draft::{Draft, Stars};
use super::note::Note;
use super::variables::Filled;

/// The names of the setting: in `mc admin config`, and in the environment.
const NAMES: [&str; 2] = ["cors_allow_origin", "MINIO_API_CORS_ALLOW_ORIGIN"];

/// The methods that MinIO allows every origin.
const METHODS: [&str; 7] = ["GET", "PUT", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH"];

/// The fields that it exposes by name; it adds `X-Amz*`, and `*`, which stands for any field.
const EXPOSED: [&str; 16] = [
    "Date",
    "ETag",
    "Server",
    "Connection",
    "Accept-Ranges",
    "Content-Range",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Content-Disposition",
    "Last-Modified",
    "Content-Language",
    "Cache-Control",
    "Retry-After",
    "X-Amz-Bucket-Region",
    "Expires",
];

/// Where a source sets the origins, except in comments.
pub(super) fn settings(source: &str) -> Vec<Range<usize>> {
    let mut settings = Vec::new();
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let found = NAMES
            .iter()
            .filter_map(|name| Some((line.find(name)?, name.len())))
            .find_map(|(at, length)| Some(value(line, at + length)?).filter(|_| !is_comment(line)));
        if let Some(value) = found {
            settings.push(start + value.start..start + value.end);
        } else if !is_comment(line)
            && let Some(value) = value_beside(source, start, line)
        {
            settings.push(value);
        }
        start += line.len();
    }
    settings
}

/// A value next to its name, as in Kubernetes: `name: …` and `value: …`.
fn value_beside(source: &str, start: usize, line: &str) -> Option<Range<usize>> {
    let name = NAMES
        .iter()
        .find_map(|name| Some(line.find(name)? + name.len()))?;
    let rest = source.get(start + name..)?;
    let at = rest.find("value")?;
    // On the same line, or on the next.
    let between = rest.get(..at)?;
    let is_beside = between.matches('\n').count() <= 1
        && between
            .chars()
            .all(|one| one.is_whitespace() || matches!(one, '"' | '\'' | ','));
    let from = start + name + at;
    let line = source.get(from..)?.lines().next()?;
    let found = value(line, "value".len()).filter(|_| is_beside)?;
    Some(from + found.start..from + found.end)
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The value that a line assigns: `=value`, `: value`, perhaps quoted.
fn value(line: &str, name_end: usize) -> Option<Range<usize>> {
    let rest = line.get(name_end..)?;
    let behind = rest.trim_start_matches(['"', '\'', ' ', '\t']);
    let behind = behind
        .strip_prefix(['=', ':'])?
        .trim_start_matches([' ', '\t']);
    let quote = behind
        .chars()
        .next()
        .filter(|one| ['"', '\''].contains(one));
    let inner = quote.map_or(behind, |quote| behind.trim_start_matches(quote));
    let start = line.len() - inner.len();
    let end = match quote {
        Some(quote) => inner.find(quote),
        // `${APP:-a b}` is one word.
        None if inner.starts_with("${") => inner.find('}').map(|at| {
            let rest = inner.get(at..).unwrap_or_default();
            at + rest.find(char::is_whitespace).unwrap_or(rest.len())
        }),
        None => inner.find(char::is_whitespace),
    };
    Some(start..start + end.unwrap_or(inner.len()))
}

pub(super) fn import(draft: &mut Draft<'_>) {
    let source = draft.source;
    let settings = settings(source);
    let trimmed = source.trim();
    let start = source.len() - source.trim_start().len();
    let span = settings
        .first()
        .cloned()
        .unwrap_or(start..start + trimmed.len());
    let text = source.get(span.clone()).unwrap_or_default();
    for other in settings.iter().skip(1) {
        if source.get(other.clone()) != Some(text) {
            let message = "the origins are set twice; used only the first setting";
            draft.note(Note::new("other-setting", other.clone(), None, message));
        }
    }
    let list = Word {
        text: text.to_owned(),
        span: span.clone(),
    };
    // A default may be a list, too.
    let list = match Filled::of(text) {
        Filled::Default(_) => draft.filled(&[list]).remove(0),
        Filled::Plain | Filled::Unknown => list,
    };
    let text = &*list.text.clone();
    let mut origins = list.split(source);
    for (word, written) in origins.iter().zip(text.split(',')) {
        if word.text != written && !word.text.is_empty() {
            let message = format!(
                "MinIO keeps the whitespace around `{}`, so that it matches no origin; read it without",
                word.text
            );
            let span = word.span.clone();
            draft.note(Note::new("white-space", span, Some(&word.text), message));
        }
    }
    if text.is_empty() {
        // MinIO's default.
        origins
            .iter_mut()
            .for_each(|word| word.text = "*".to_owned());
    }
    let everywhere = |names: &[&str]| -> Vec<Word> {
        let words = names.iter().map(|name| Word {
            text: (*name).to_owned(),
            span: span.clone(),
        });
        words.collect()
    };
    let rule = CorsRule {
        id: None,
        allowed_origins: draft.origins(&origins, Stars::AnyRun),
        // MinIO's handlers support neither OPTIONS nor PATCH, whatever its responses list.
        allowed_methods: draft.methods_of_the_source(&everywhere(&METHODS)),
        allowed_headers: vec!["*".to_owned()],
        expose_headers: draft.exposed(&everywhere(&EXPOSED)),
        max_age_seconds: None,
        ..CorsRule::default()
    };
    let message = "MinIO exposes every field, but S3 does not support `*` in ExposeHeader; kept only the fields that MinIO lists";
    let note = Note::new("expose-wildcard", span.clone(), Some("*"), message);
    let hint = "add an ExposeHeader for each x-amz-meta-… that scripts read";
    draft.note(note.hint(hint).minor());
    if let Some(any) = origins.iter().find(|word| word.text == "*") {
        let of_minio = "MinIO answers every origin by name and with credentials";
        draft.credentials_are_lost(any.span.clone(), of_minio);
    }
    draft.push_with_credentials(rule, span);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_found_in_every_form() {
        for (source, expected) in [
            (
                "api requests_max=0 cors_allow_origin=https://a.test,https://b.test x=1\n",
                "https://a.test,https://b.test",
            ),
            (
                "export MINIO_API_CORS_ALLOW_ORIGIN=\"https://a.test\"\n",
                "https://a.test",
            ),
            (
                "# MINIO_API_CORS_ALLOW_ORIGIN=https://b.test\nMINIO_API_CORS_ALLOW_ORIGIN='https://a.test'",
                "https://a.test",
            ),
            (
                "environment:\n  MINIO_API_CORS_ALLOW_ORIGIN: https://a.test\n",
                "https://a.test",
            ),
            (
                "{\"cors_allow_origin\": \"https://a.test\"}",
                "https://a.test",
            ),
            ("cors_allow_origin=", ""),
            (
                "- name: MINIO_API_CORS_ALLOW_ORIGIN\n  value: \"https://a.test\"\n",
                "https://a.test",
            ),
            (
                "{\"name\": \"MINIO_API_CORS_ALLOW_ORIGIN\", \"value\": \"https://a.test\"}",
                "https://a.test",
            ),
        ] {
            let found = settings(source);
            assert_eq!(found.len(), 1, "{source}");
            assert_eq!(&source[found[0].clone()], expected, "{source}");
        }
        assert!(settings("cors_allow_origins are good").is_empty());
    }
}
