//! Parses XML as names with values: an element with child elements is a map, any other its text.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

use super::Unreadable;
use super::document::{Entry, MAX_DEPTH, Node, Value, Word};

/// The root element and its name.
///
/// # Errors
///
/// The first syntax error, or a document type.
pub(super) fn read(text: &str) -> Result<Entry, Unreadable> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    loop {
        let start = position(reader.buffer_position());
        let event = reader.read_event().map_err(|error| {
            let at = position(reader.error_position()).min(text.len());
            Unreadable::at(at..at, format!("invalid XML: {error}"))
        })?;
        let span = start..position(reader.buffer_position());
        let closed = match event {
            Event::Start(tag) | Event::Empty(tag) if open.len() == MAX_DEPTH => {
                let message = format!("`{}` is nested too deeply", tag.name().into_inner());
                return Err(Unreadable::at(span, message));
            }
            Event::Start(tag) => {
                open.push(Open::new(tag.name().into_inner(), span));
                None
            }
            Event::Empty(tag) => Some(Open::new(tag.name().into_inner(), span)),
            Event::End(_) => open.pop(),
            Event::Text(content) => {
                push(&mut open, &content.xml10_content(), span);
                None
            }
            Event::CData(content) => {
                push(&mut open, &content.xml10_content(), span);
                None
            }
            Event::GeneralRef(reference) => {
                let name: &str = &reference;
                let resolved = match reference.resolve_char_ref() {
                    Ok(Some(character)) => Some(character.to_string()),
                    Ok(None) => resolve_xml_entity(name).map(str::to_owned),
                    Err(_) => None,
                };
                let Some(resolved) = resolved else {
                    return Err(Unreadable::at(span, format!("unknown entity `&{name};`")));
                };
                push(&mut open, &resolved, span);
                None
            }
            Event::DocType(_) => {
                return Err(Unreadable::at(span, "document types are not supported"));
            }
            Event::Eof => break,
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => None,
        };
        let Some(closed) = closed else { continue };
        let entry = closed.close();
        match open.last_mut() {
            Some(parent) => parent.entries.push(entry),
            None if root.is_none() => root = Some(entry),
            None => return Err(Unreadable::at(entry.key.span, "a second root element")),
        }
    }
    if let Some(left) = open.pop() {
        let message = format!("`{}` is never closed", left.name.text);
        return Err(Unreadable::at(left.name.span, message));
    }
    root.ok_or_else(|| Unreadable::new("the XML has no element"))
}

/// An element that is not closed yet.
struct Open {
    name: Word,
    entries: Vec<Entry>,
    text: String,
    /// The place of the text so far.
    span: Option<Range<usize>>,
}

impl Open {
    fn new(name: &str, span: Range<usize>) -> Self {
        // Ignores namespace prefixes: the names are unique without them.
        let text = name.rsplit(':').next().unwrap_or(name).to_owned();
        Self {
            name: Word { text, span },
            entries: Vec::new(),
            text: String::new(),
            span: None,
        }
    }

    fn close(self) -> Entry {
        let span = self.span.unwrap_or_else(|| self.name.span.clone());
        let (value, span) = if self.entries.is_empty() {
            (Value::Scalar(self.text), span)
        } else {
            (Value::Map(self.entries), self.name.span.clone())
        };
        Entry {
            key: self.name,
            node: Node { value, span },
        }
    }
}

fn push(open: &mut [Open], text: &str, span: Range<usize>) {
    // Whitespace around the root.
    let Some(open) = open.last_mut() else { return };
    open.text.push_str(text);
    let start = open.span.as_ref().map_or(span.start, |there| there.start);
    open.span = Some(start..span.end);
}

/// quick-xml counts in `u64`; the source is in memory.
fn position(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_its_place_and_entities_are_read() {
        let text =
            "<?xml version='1.0'?><!-- a --><a xmlns='b'><b>x &amp; <![CDATA[y]]></b><c/></a>";
        let root = read(text).unwrap();
        assert_eq!(root.key.text, "a");
        let word = root.node.get("b").unwrap().word().unwrap();
        assert_eq!(word.text, "x & y");
        assert_eq!(&text[word.span], "x &amp; <![CDATA[y]]>");
        assert_eq!(root.node.get("c").unwrap().word().unwrap().text, "");
    }

    #[test]
    fn invalid_xml_is_rejected() {
        let deep = "<a>".repeat(MAX_DEPTH + 1);
        for text in [
            "",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a>&x;</a>",
            "<!DOCTYPE a><a/>",
            &deep,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
