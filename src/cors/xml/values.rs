//! The elements of a `CORSRule`, and their values.

use std::ops::Range;

use super::read::{Inside, RULE, Reading, meant, prefix_hint};
use super::seconds::{duration, seconds};
use crate::cors::configuration::{Element, ElementPath};

impl Reading {
    pub(super) fn child_of_rule(&mut self, name: &str, span: &Range<usize>) -> Inside {
        let known = Element::ALL.map(Element::name);
        let Some(element) = Element::ALL.into_iter().find(|known| known.name() == name) else {
            let hint = if name.to_ascii_lowercase().contains("credentials") {
                let hint = "remove it: S3 allows credentials by itself wherever the origin that \
                            matched is not the lone `*`";
                Some(hint.into())
            } else {
                prefix_hint(name).or_else(|| meant(name, &known))
            };
            let detail = format!("`{RULE}` has no element `{name}`");
            self.error(span.clone(), detail, hint);
            return Inside::Unknown;
        };
        let there = match (element, self.document.configuration.rules.last()) {
            (Element::Id, Some(rule)) => rule.id.is_some(),
            (Element::MaxAgeSeconds, Some(_)) => self.max_age_seen,
            _ => false,
        };
        if there {
            let detail = format!("the rule has a second {element}");
            self.error(span.clone(), detail, Some("keep one of them".into()));
            return Inside::Unknown;
        }
        let text = String::new();
        Inside::Value { element, text }
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
        }
        self.place(self.value_path(element, index), place);
    }

    fn bad_max_age(&mut self, text: &str, place: Range<usize>) {
        let detail = "MaxAgeSeconds is not a whole number from 0 to 2147483647";
        let hint = if text.is_empty() {
            Some("remove the element, or give it a number of seconds".into())
        } else if seconds(text.trim()).is_some() {
            Some("remove the white space around it".into())
        } else if text.starts_with('-') {
            Some("0 keeps browsers from caching a preflight's answer".into())
        } else {
            duration(text).map(|seconds| format!("write the number of seconds alone: {seconds}"))
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

/// Appends, and says where.
fn push(values: &mut Vec<String>, value: String) -> usize {
    values.push(value);
    values.len() - 1
}
