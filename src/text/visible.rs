//! Makes untrusted text safe to show on a terminal.

use crate::cors::is_invisible;

/// Escapes control characters, line breaks included, and characters that are invisible or change
/// the display order of others.
///
/// File names, arguments, policies and requests may contain them. On a terminal they could move
/// the cursor, change colours, or make a text look like another one.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Whether a character must not reach a terminal.
#[must_use]
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || is_invisible(character)
        || matches!(character, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn controls_and_bidirectional_characters_are_escaped() {
        let text = "a\u{1b}[31m\u{9b}1m\r\n\u{7f}\u{61c}\u{200f}\u{202e}\u{2066}\u{2028}é€";
        let shown =
            "a\\u{1b}[31m\\u{9b}1m\\r\\n\\u{7f}\\u{61c}\\u{200f}\\u{202e}\\u{2066}\\u{2028}é€";
        assert_eq!(visible(text), shown);
    }

    proptest! {
        #[test]
        fn no_text_has_unsafe_characters_and_safe_text_is_unchanged(text in "\\PC*|.*") {
            let shown = visible(&text);
            prop_assert!(!shown.contains(is_unsafe));
            if !text.contains(is_unsafe) {
                prop_assert_eq!(&shown, &text);
            }
        }
    }
}
