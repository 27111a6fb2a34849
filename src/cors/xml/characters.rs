//! Which characters XML 1.0 allows.

/// XML 1.0, 2.2: Char.
pub(crate) fn is_xml_character(character: char) -> bool {
    !matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}
