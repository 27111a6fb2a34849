//! Untrusted text in a sentence.

/// Puts text on one line: a policy's value may contain line breaks.
pub(crate) fn one_line(text: &str) -> String {
    let shown = |one: char| match one.is_control() {
        true => one.escape_default().to_string(),
        false => one.to_string(),
    };
    text.chars().map(shown).collect()
}
