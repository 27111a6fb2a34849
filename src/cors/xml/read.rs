//! Parses S3's XML, records the place of every element, and collects all errors.

use std::collections::HashSet;
use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::cors::configuration::{CorsConfiguration, CorsRule, Element, ElementPath};

use super::characters::is_xml_character;
use super::hints::{meant, prefix_hint};
use super::namespaces::Namespaces;
use super::other_format::OtherFormat;
use super::{MAX_DOCUMENT, XmlError};

/// The limit on nested elements; S3's document has three levels.
const MAX_DEPTH: usize = 16;

const ROOT: &str = "CORSConfiguration";
pub(super) const RULE: &str = "CORSRule";

/// The parsed part of a document.
#[derive(Debug, Default)]
pub(in crate::cors) struct ParsedDocument {
    pub(in crate::cors) configuration: CorsConfiguration,
    /// The place of each element, in document order.
    pub(in crate::cors) places: Vec<(ElementPath, Range<usize>)>,
    /// All errors, in document order.
    pub(in crate::cors) errors: Vec<XmlError>,
    /// Rules that contain an error, so that it is unknown what they lack.
    pub(in crate::cors) broken_rules: HashSet<usize>,
}

/// Parses a document to its end, or to where it stops being XML.
pub(in crate::cors) fn read(bytes: &[u8]) -> ParsedDocument {
    let mut reading = Parser::default();
    // The error that stopped the parser is the last one.
    let _ = reading.bytes(bytes);
    if reading.inside_rule() {
        reading.break_rule();
    }
    reading.document
}

/// Parsing cannot continue; the error was recorded.
pub(super) struct Stopped;

#[derive(Default)]
pub(super) struct Parser {
    pub(super) document: ParsedDocument,
    /// The length of the byte order mark that was removed.
    base: usize,
    /// The open elements, the root first.
    pub(super) open: Vec<OpenElement>,
    pub(super) namespaces: Namespaces,
    root_seen: bool,
    /// Whether the rule already had its `MaxAgeSeconds`.
    pub(super) max_age_seen: bool,
}

pub(super) struct OpenElement {
    inside: ElementContext,
    /// Its start tag.
    tag: Range<usize>,
}

pub(super) enum ElementContext {
    Root,
    Rule,
    Value {
        element: Element,
        text: String,
    },
    /// An unknown or misplaced element: reported once, then skipped.
    Unknown,
}

impl Parser {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        if bytes.len() > MAX_DOCUMENT {
            let detail = format!(
                "the document has {} bytes; S3 accepts at most {MAX_DOCUMENT}",
                bytes.len()
            );
            return self.stop(0..0, detail, None);
        }
        if matches!(
            bytes,
            // Recognised by the byte order mark or the first character.
            [0xff, 0xfe, ..]
                | [0xfe, 0xff, ..]
                | [b'<' | b'{' | b'[', 0, ..]
                | [0, b'<' | b'{' | b'[', ..]
        ) {
            let hint = "save it as UTF-8".into();
            return self.stop(0..2, "the document is UTF-16, not UTF-8", Some(hint));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let start = error.valid_up_to();
                let end = error
                    .error_len()
                    .map_or(bytes.len(), |length| start + length);
                return self.stop(start..end, "these bytes are not UTF-8", None);
            }
        };
        let body = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.base = text.len() - body.len();
        self.text(body)
    }

    fn text(&mut self, text: &str) -> Result<(), Stopped> {
        if let Some((at, bad)) = text.char_indices().find(|(_, c)| !is_xml_character(*c)) {
            let detail = format!(
                "the character U+{:04X} is not allowed in XML",
                u32::from(bad)
            );
            return self.stop(at..at + bad.len_utf8(), detail, None);
        }
        let start = text.len() - text.trim_start().len();
        if text.trim_start().is_empty() {
            return self.stop(0..0, "the document is empty", None);
        }
        if let Some(format) = OtherFormat::of(text) {
            let hint = Some(format.hint().to_owned());
            return self.stop(start..start + 1, format.detail(), hint);
        }
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_comments = true;
        loop {
            let start = position(reader.buffer_position());
            match reader.read_event() {
                Ok(Event::Eof) => return self.end_of_document(text.len()),
                Ok(event) => self.event(text, event, start..position(reader.buffer_position()))?,
                Err(error) => {
                    return self.not_well_formed(text, position(reader.error_position()), &error);
                }
            }
        }
    }

    fn event(&mut self, text: &str, event: Event<'_>, span: Range<usize>) -> Result<(), Stopped> {
        match event {
            Event::Start(tag) => self.start(&tag, span),
            Event::Empty(tag) => {
                self.start(&tag, span.clone())?;
                self.end(span.end..span.end);
                Ok(())
            }
            Event::End(_) => {
                self.end(span);
                Ok(())
            }
            Event::Text(content) => {
                if let Some(at) = content.find("]]>") {
                    let at = span.start + at;
                    let hint = "write `]]&gt;`".into();
                    return self.stop(
                        at..at + 3,
                        "`]]>` ends a CDATA section, but none is open",
                        Some(hint),
                    );
                }
                self.characters(&content.xml10_content(), span, text);
                Ok(())
            }
            Event::CData(content) => {
                if self.open.is_empty() {
                    return self.stop(span, "a CDATA section is outside the root element", None);
                }
                self.characters(&content.xml10_content(), span, text);
                Ok(())
            }
            Event::GeneralRef(reference) => self.reference(&reference, span, text),
            Event::Decl(declaration) => self.declaration(&declaration, span),
            Event::DocType(_) => {
                let hint = "remove it; S3 documents do not need one".into();
                self.stop(span, "a document type is not allowed", Some(hint))
            }
            Event::Comment(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn start(&mut self, tag: &BytesStart<'_>, span: Range<usize>) -> Result<(), Stopped> {
        self.attributes(tag, &span)?;
        if self.open.len() == MAX_DEPTH {
            return self.stop(span, "elements are nested too deeply", None);
        }
        let name = tag.name().into_inner();
        let inside = match self.open.last().map(|open| &open.inside) {
            None if self.root_seen => {
                self.error(span.clone(), "there is a second root element", None);
                ElementContext::Unknown
            }
            None => {
                self.root_seen = true;
                self.root(name, &span)
            }
            Some(ElementContext::Root) => self.child_of_root(name, &span),
            Some(ElementContext::Rule) => self.child_of_rule(name, &span),
            Some(ElementContext::Value { element, .. }) => {
                let detail = format!("{element} must contain text, not elements");
                self.error(span.clone(), detail, None);
                ElementContext::Unknown
            }
            Some(ElementContext::Unknown) => ElementContext::Unknown,
        };
        self.open.push(OpenElement { inside, tag: span });
        Ok(())
    }

    fn root(&mut self, name: &str, span: &Range<usize>) -> ElementContext {
        if name == ROOT {
            self.place(ElementPath::Root, span.clone());
            return ElementContext::Root;
        }
        let detail = format!("the root element is `{name}`, not `{ROOT}`");
        let hint = match name {
            RULE | "CORSRules" => Some(format!("put the rules into a single `{ROOT}` element")),
            _ => prefix_hint(name).or_else(|| meant(name, &[ROOT])),
        };
        self.error(span.clone(), detail, hint);
        ElementContext::Unknown
    }

    fn child_of_root(&mut self, name: &str, span: &Range<usize>) -> ElementContext {
        if name == RULE {
            let index = self.document.configuration.rules.len();
            self.document.configuration.rules.push(CorsRule::default());
            self.max_age_seen = false;
            self.place(ElementPath::Rule(index), span.clone());
            return ElementContext::Rule;
        }
        let local = self.namespaces.local_name(name).unwrap_or(name);
        let mut elements = Element::ALL.iter().chain(&Element::EXTENSIONS);
        let hint = if elements.any(|element| element.name() == local) {
            Some(format!("move it into a `{RULE}` element"))
        } else {
            prefix_hint(name).or_else(|| meant(name, &[RULE]))
        };
        let detail = format!("`{ROOT}` has no element `{name}`");
        self.error(span.clone(), detail, hint);
        ElementContext::Unknown
    }

    fn end(&mut self, tag: Range<usize>) {
        let Some(open) = self.open.pop() else {
            return;
        };
        self.namespaces.end(self.open.len());
        if let ElementContext::Value { element, text } = open.inside {
            let content = open.tag.end..tag.start.max(open.tag.end);
            let place = if content.is_empty() {
                open.tag
            } else {
                content
            };
            self.value(element, text, place);
        }
    }

    /// Handles text: part of a value, or white space.
    fn characters(&mut self, content: &str, span: Range<usize>, text: &str) {
        match self.open.last_mut().map(|open| &mut open.inside) {
            Some(ElementContext::Value { text, .. }) => text.push_str(content),
            Some(ElementContext::Unknown) => {}
            None | Some(ElementContext::Root | ElementContext::Rule) => {
                let white = [' ', '\t', '\r', '\n'];
                if content.trim_matches(white).is_empty() {
                    return;
                }
                let raw = text.get(span.clone()).unwrap_or_default();
                let start = span.start + (raw.len() - raw.trim_start_matches(white).len());
                let end = start + raw.trim_matches(white).len();
                self.stray(start..end);
            }
        }
    }

    fn reference(
        &mut self,
        reference: &BytesRef<'_>,
        span: Range<usize>,
        text: &str,
    ) -> Result<(), Stopped> {
        let name: &str = reference;
        let resolved = match reference.resolve_char_ref() {
            Ok(Some(character)) if is_xml_character(character) => character.to_string(),
            Ok(None) if resolve_xml_entity(name).is_some() => {
                resolve_xml_entity(name).unwrap_or_default().to_owned()
            }
            Ok(None) => {
                let hint = "XML defines `&amp;`, `&lt;`, `&gt;`, `&apos;` and `&quot;`; write a plain `&` \
                            as `&amp;`";
                let detail = format!("unknown entity `&{name};`");
                return self.stop(span, detail, Some(hint.into()));
            }
            Ok(Some(_)) | Err(_) => {
                let detail = format!("`&{name};` is not a valid XML character");
                return self.stop(span, detail, None);
            }
        };
        match self.open.last_mut().map(|open| &mut open.inside) {
            Some(ElementContext::Value { text, .. }) => text.push_str(&resolved),
            _ => self.characters("&", span, text),
        }
        Ok(())
    }

    fn stray(&mut self, span: Range<usize>) {
        let (detail, hint) = match self.open.last().map(|open| &open.inside) {
            Some(ElementContext::Root) => (
                format!("unexpected text between the `{RULE}` elements"),
                None,
            ),
            Some(_) => {
                let hint = "put it into one of the rule's elements".into();
                (
                    format!("unexpected text between the elements of a `{RULE}`"),
                    Some(hint),
                )
            }
            None if self.root_seen => (format!("unexpected text after `</{ROOT}>`"), None),
            None => (format!("unexpected text instead of `<{ROOT}>`"), None),
        };
        self.error(span, detail, hint);
    }

    fn end_of_document(&mut self, length: usize) -> Result<(), Stopped> {
        if let Some(open) = self.open.pop() {
            let tag = open.tag.clone();
            self.open.push(open);
            return self.stop(tag, "this element is never closed", None);
        }
        if !self.root_seen && self.document.errors.is_empty() {
            return self.stop(
                length..length,
                format!("the element `{ROOT}` is missing"),
                None,
            );
        }
        Ok(())
    }

    pub(super) fn place(&mut self, path: ElementPath, span: Range<usize>) {
        let span = span.start + self.base..span.end + self.base;
        self.document.places.push((path, span));
    }

    pub(super) fn stop(
        &mut self,
        span: Range<usize>,
        detail: impl Into<String>,
        hint: Option<String>,
    ) -> Result<(), Stopped> {
        self.error(span, detail, hint);
        Err(Stopped)
    }

    pub(super) fn error(
        &mut self,
        span: Range<usize>,
        detail: impl Into<String>,
        hint: Option<String>,
    ) {
        if self.inside_rule() {
            self.break_rule();
        }
        self.document.errors.push(XmlError {
            span: span.start + self.base..span.end + self.base,
            detail: detail.into(),
            hint,
        });
    }

    fn inside_rule(&self) -> bool {
        let second = self.open.get(1).map(|open| &open.inside);
        matches!(second, Some(ElementContext::Rule))
    }

    fn break_rule(&mut self) {
        if let Some(last) = self.document.configuration.rules.len().checked_sub(1) {
            self.document.broken_rules.insert(last);
        }
    }
}

/// quick-xml uses `u64`; the document has at most [`MAX_DOCUMENT`] bytes.
fn position(position: u64) -> usize {
    usize::try_from(position).expect("a document's length fits a usize")
}
