//! The elements of a `CORSRule`, and their values.

use std::ops::Range;

use crate::cors::configuration::{Element, ElementPath};
use crate::cors::extension::EXTENSION_NAMESPACE;

use super::hints::{meant, prefix_hint};
use super::read::{ElementContext, Parser, RULE};
use super::seconds::{duration, seconds};

impl Parser {
    pub(super) fn child_of_rule(&mut self, name: &str, span: &Range<usize>) -> ElementContext {
        let element = match self.namespaces.local_name(name) {
            Some(local) => self.extension(name, local, span),
            None => self.s3_element(name, span),
        };
        let Some(element) = element else {
            return ElementContext::Unknown;
        };
        let there = match (element, self.document.configuration.rules.last()) {
            (Element::Id, Some(rule)) => rule.id.is_some(),
            (Element::MaxAgeSeconds, Some(_)) => self.max_age_seen,
            (Element::CrossOriginResourcePolicy, Some(rule)) => {
                rule.cross_origin_resource_policy.is_some()
            }
            _ => false,
        };
        if there {
            let detail = format!("the rule has a second {element}");
            self.error(span.clone(), detail, Some("keep one of them".into()));
            return ElementContext::Unknown;
        }
        let text = String::new();
        ElementContext::Value { element, text }
    }

    /// Finds one of S3's elements; default namespaces are ignored.
    fn s3_element(&mut self, name: &str, span: &Range<usize>) -> Option<Element> {
        let known = Element::ALL.map(Element::name);
        let found = Element::ALL.into_iter().find(|known| known.name() == name);
        if found.is_none() {
            let is_extension = |element: &Element| element.name() == local_name(name);
            let hint = if name.to_ascii_lowercase().contains("credentials") {
                let hint = "remove it: S3 always allows credentials unless the origin that \
                            matched is the lone `*`";
                Some(hint.into())
            } else if let Some(extension) = Element::EXTENSIONS.iter().find(|one| is_extension(one))
            {
                Some(format!(
                    "it is an extension of s3cors: write \
                     `<{extension} xmlns=\"{EXTENSION_NAMESPACE}\">`"
                ))
            } else {
                prefix_hint(name).or_else(|| meant(name, &known))
            };
            let detail = format!("`{RULE}` has no element `{name}`");
            self.error(span.clone(), detail, hint);
        }
        found
    }

    /// Handles an element in the namespace of s3cors.
    fn extension(&mut self, name: &str, local: &str, span: &Range<usize>) -> Option<Element> {
        let known = Element::EXTENSIONS.map(Element::name);
        let mut extensions = Element::EXTENSIONS.into_iter();
        let found = extensions.find(|known| known.name() == local);
        let is_unprefixed = local.len() == name.len();
        let is_s3 = |element: &Element| element.name() == local;
        match (found, Element::ALL.into_iter().find(is_s3)) {
            (Some(extension), _) => Some(extension),
            // S3 accepts its elements in any default namespace.
            (None, Some(element)) if is_unprefixed => Some(element),
            (None, element) => {
                let hint = match element {
                    Some(_) => Some(format!("write `{local}` without a prefix")),
                    None => meant(local, &known),
                };
                let detail = format!("`{EXTENSION_NAMESPACE}` has no element `{local}`");
                self.error(span.clone(), detail, hint);
                None
            }
        }
    }

    pub(super) fn value(&mut self, element: Element, text: String, place: Range<usize>) {
        let Some(rule) = self.document.configuration.rules.last_mut() else {
            return;
        };
        let mut index = 0;
        match element {
            Element::Id => rule.id = Some(text),
            Element::MaxAgeSeconds => {
                self.max_age_seen = true;
                rule.max_age_seconds = seconds(&text);
                if rule.max_age_seconds.is_none() {
                    self.bad_max_age(&text, place.clone());
                }
            }
            Element::AllowedOrigin => index = push(&mut rule.allowed_origins, text),
            Element::AllowedMethod => index = push(&mut rule.allowed_methods, text),
            Element::AllowedHeader => index = push(&mut rule.allowed_headers, text),
            Element::ExposeHeader => index = push(&mut rule.expose_headers, text),
            Element::TimingAllowOrigin => index = push(&mut rule.timing_allow_origins, text),
            Element::CrossOriginResourcePolicy => {
                rule.cross_origin_resource_policy = Some(text);
            }
        }
        self.place(self.value_path(element, index), place);
    }

    fn bad_max_age(&mut self, text: &str, place: Range<usize>) {
        let detail = "MaxAgeSeconds must be a whole number from 0 to 2147483647";
        let hint = if text.is_empty() {
            Some("remove the element, or give it a number of seconds".into())
        } else if seconds(text.trim()).is_some() {
            Some("remove the white space around it".into())
        } else if text.starts_with('-') {
            Some("use 0 to keep browsers from caching preflight responses".into())
        } else {
            duration(text).map(|seconds| format!("write only the number of seconds: {seconds}"))
        };
        self.error(place, detail, hint);
    }

    fn value_path(&self, element: Element, index: usize) -> ElementPath {
        let rule = self.document.configuration.rules.len().saturating_sub(1);
        ElementPath::Value {
            rule,
            element,
            index,
        }
    }
}

/// Appends a value and returns its index.
fn push(values: &mut Vec<String>, value: String) -> usize {
    values.push(value);
    values.len() - 1
}

/// A name without its prefix.
fn local_name(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}
