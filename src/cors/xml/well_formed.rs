//! Checks XML's own rules where quick-xml does not, or where its messages are unclear.

use std::collections::HashSet;
use std::ops::Range;

use quick_xml::XmlVersion;
use quick_xml::errors::{Error, IllFormedError, SyntaxError};
use quick_xml::events::{BytesDecl, BytesStart};

use super::read::{Parser, Stopped};

impl Parser {
    pub(super) fn declaration(
        &mut self,
        declaration: &BytesDecl<'_>,
        span: Range<usize>,
    ) -> Result<(), Stopped> {
        if span.start != 0 {
            let hint = "remove everything before it, including white space".into();
            let detail = "the XML declaration is not at the very beginning";
            return self.stop(span, detail, Some(hint));
        }
        if declaration.xml_version().is_err() {
            return self.stop(span, "the XML declaration has an unknown version", None);
        }
        match declaration.encoding() {
            None => Ok(()),
            Some(Ok(name))
                if ["utf-8", "utf8", "us-ascii"].contains(&&*name.to_ascii_lowercase()) =>
            {
                Ok(())
            }
            Some(Ok(name)) => {
                let detail = format!("the XML declaration has the encoding `{name}`");
                let hint = "the document must be UTF-8; declare UTF-8 or no encoding".into();
                self.stop(span, detail, Some(hint))
            }
            Some(Err(_)) => self.stop(span, "the XML declaration is not well-formed", None),
        }
    }

    /// Checks that attributes are well-formed; only namespace declarations have a meaning here.
    /// quick-xml's own check for duplicates takes quadratic time.
    pub(super) fn attributes(
        &mut self,
        tag: &BytesStart<'_>,
        span: &Range<usize>,
    ) -> Result<(), Stopped> {
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
    ) -> Result<(), Stopped> {
        let mut hint = None;
        let detail = match error {
            Error::IllFormed(IllFormedError::MismatchedEndTag { expected, found }) => {
                hint = Some(format!("close `<{expected}>` first"));
                format!("found `</{found}>` instead of `</{expected}>`")
            }
            Error::IllFormed(IllFormedError::UnmatchedEndTag(name)) => {
                format!("`</{name}>` has no start tag")
            }
            Error::IllFormed(IllFormedError::UnclosedReference) => {
                hint = Some("write a plain `&` as `&amp;`".into());
                "a reference begins with `&` but has no `;`".into()
            }
            Error::IllFormed(IllFormedError::DoubleHyphenInComment) => {
                "a comment must not contain `--`".into()
            }
            Error::Syntax(SyntaxError::UnclosedDoctype)
            | Error::IllFormed(IllFormedError::MissingDoctypeName) => {
                "a document type is not allowed".into()
            }
            Error::Syntax(SyntaxError::UnclosedComment) => "this comment is never closed".into(),
            Error::Syntax(SyntaxError::UnclosedCData) => {
                "this CDATA section is never closed".into()
            }
            Error::Syntax(SyntaxError::UnclosedTag) => "this tag has no closing `>`".into(),
            other => format!("this is not well-formed XML: {other}"),
        };
        // To the end of the tag, but not beyond the line.
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
