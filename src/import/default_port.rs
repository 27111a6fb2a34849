//! Systems in which an origin without a port has the scheme's default port.

use super::document::Word;
use super::draft::Draft;
use super::note::Note;

/// Removes the scheme's default port, which browsers do not send.
pub(super) fn drop_default_port(origin: &mut String) {
    for (scheme, port) in [("https://", ":443"), ("http://", ":80")] {
        if origin.starts_with(scheme) && origin.ends_with(port) {
            origin.truncate(origin.len() - port.len());
        }
    }
}

/// Notes a pattern whose only `*` is at its end: there it matches any host, in S3 any host and
/// port.
pub(super) fn note_any_port(word: &Word, draft: &mut Draft<'_>) {
    let origin = &*word.text;
    let stars = origin.matches('*').count();
    if origin.ends_with('*') && origin != "*" && stars == 1 {
        let message = format!(
            "`{origin}` matches any host at the scheme's default port there, but at any port in S3: the rule matches more origins, also instead of a later rule"
        );
        let span = word.span.clone();
        draft.note(Note::new(
            "origin-pattern-wider",
            span,
            Some(origin),
            message,
        ));
    }
}
