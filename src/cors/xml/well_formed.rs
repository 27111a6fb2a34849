//! What XML itself asks of a document, where quick-xml does not ask it or says it in its own words.

use std::collections::HashSet;
use std::ops::Range;

use quick_xml::XmlVersion;
use quick_xml::errors::{Error, IllFormedError, SyntaxError};
use quick_xml::events::{BytesDecl, BytesStart};

use super::read::{Reading, Stop};

impl Reading {
    pub(super) fn declaration(
        &mut self,
        declaration: &BytesDecl<'_>,
        span: Range<usize>,
    ) -> Result<(), Stop> {
        if span.start != 0 {
            let hint = "remove what stands before it, white space too".into();
            let detail = "the XML declaration is not at the very beginning";
            return self.stop(span, detail, Some(hint));
        }
        if declaration.xml_version().is_err() {
            return self.stop(
                span,
                "the XML declaration names no version that there is",
                None,
            );
        }
        match declaration.encoding() {
            None => Ok(()),
            Some(Ok(name))
                if ["utf-8", "utf8", "us-ascii"].contains(&&*name.to_ascii_lowercase()) =>
            {
                Ok(())
            }
            Some(Ok(name)) => {
                let detail = format!("the XML declaration says the encoding is `{name}`");
                let hint = "the document has to be UTF-8, and to say so or nothing".into();
                self.stop(span, detail, Some(hint))
            }
            Some(Err(_)) => self.stop(span, "the XML declaration is not well-formed", None),
        }
    }

    /// Attributes have to be attributes; only namespace declarations mean something here.
    /// quick-xml's own look for doubled ones is quadratic.
    pub(super) fn attributes(
        &mut self,
        tag: &BytesStart<'_>,
        span: &Range<usize>,
    ) -> Result<(), Stop> {
        let mut seen = HashSet::new();
        for attribute in tag.attributes().with_checks(false) {
            let detail = match attribute {
                Err(_) => "the element's attributes are not well-formed".to_owned(),
                Ok(attribute) if !seen.insert(attribute.key) => {
                    let name = attribute.key.into_inner();
                    format!("the element has the attribute `{name}` twice")
                }
                Ok(attribute)
                    if attribute.value.contains('<')
                        || attribute.normalized_value(XmlVersion::Implicit1_0).is_err() =>
                {
                    let name = attribute.key.into_inner();
                    format!("the value of the attribute `{name}` is not well-formed")
                }
                Ok(attribute) => {
                    let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                    let name = attribute.key.into_inner();
                    let depth = self.open.len();
                    self.namespaces
                        .attribute(name, &value.unwrap_or_default(), depth);
                    continue;
                }
            };
            return self.stop(span.clone(), detail, None);
        }
        Ok(())
    }

    pub(super) fn not_well_formed(
        &mut self,
        text: &str,
        at: usize,
        error: &Error,
    ) -> Result<(), Stop> {
        let mut hint = None;
        let detail = match error {
            Error::IllFormed(IllFormedError::MismatchedEndTag { expected, found }) => {
                hint = Some(format!("close `<{expected}>` first"));
                format!("`</{found}>` stands where `</{expected}>` should be")
            }
            Error::IllFormed(IllFormedError::UnmatchedEndTag(name)) => {
                format!("`</{name}>` closes nothing")
            }
            Error::IllFormed(IllFormedError::UnclosedReference) => {
                hint = Some("an `&` by itself is written `&amp;`".into());
                "an `&` begins a reference, but no `;` ends it".into()
            }
            Error::IllFormed(IllFormedError::DoubleHyphenInComment) => {
                "a comment must not have `--` inside".into()
            }
            Error::Syntax(SyntaxError::UnclosedDoctype)
            | Error::IllFormed(IllFormedError::MissingDoctypeName) => {
                "a document type is refused".into()
            }
            Error::Syntax(SyntaxError::UnclosedComment) => "this comment is never closed".into(),
            Error::Syntax(SyntaxError::UnclosedCData) => {
                "this CDATA section is never closed".into()
            }
            Error::Syntax(SyntaxError::UnclosedTag) => "this tag has no closing `>`".into(),
            other => format!("this is not well-formed XML: {other}"),
        };
        // From there to the end of the tag, but not beyond the line.
        let rest = text.get(at..).unwrap_or_default();
        let length = rest
            .char_indices()
            .find_map(|(index, character)| match character {
                '>' => Some(index + 1),
                '\n' | '\r' => Some(index),
                _ => None,
            })
            .unwrap_or(rest.len());
        self.stop(at..at + length, detail, hint)
    }
}
