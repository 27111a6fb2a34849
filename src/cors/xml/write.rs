//! Writes S3's XML.

use crate::cors::configuration::{CorsConfiguration, CorsRule, Element};
use crate::cors::extension::EXTENSION_NAMESPACE;

/// The whole document.
pub(super) fn document(configuration: &CorsConfiguration) -> String {
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CORSConfiguration xmlns=\"{NAMESPACE}\">\n"
    );
    for rule in &configuration.rules {
        push_rule(&mut xml, rule, "  ");
    }
    xml.push_str("</CORSConfiguration>\n");
    xml
}

/// One `CORSRule` for a document, without indentation.
pub(in crate::cors) fn rule_snippet(rule: &CorsRule) -> String {
    let mut xml = String::new();
    push_rule(&mut xml, rule, "");
    xml.truncate(xml.trim_end().len());
    xml
}

/// One element of a rule.
pub(in crate::cors) fn value_snippet(element: Element, value: &str) -> String {
    let mut xml = String::new();
    push_value(&mut xml, element, value);
    xml
}

fn push_rule(xml: &mut String, rule: &CorsRule, indent: &str) {
    let max_age = rule.max_age_seconds.map(|seconds| seconds.to_string());
    let elements = [
        (Element::Id, rule.id.as_slice()),
        (Element::AllowedOrigin, &rule.allowed_origins),
        (Element::AllowedMethod, &rule.allowed_methods),
        (Element::AllowedHeader, &rule.allowed_headers),
        (Element::ExposeHeader, &rule.expose_headers),
        (Element::MaxAgeSeconds, max_age.as_slice()),
        (Element::TimingAllowOrigin, &rule.timing_allow_origins),
        (
            Element::CrossOriginResourcePolicy,
            rule.cross_origin_resource_policy.as_slice(),
        ),
    ];
    push(xml, &[indent, "<CORSRule>\n"]);
    for (element, values) in elements {
        for value in values {
            push(xml, &[indent, "  "]);
            push_value(xml, element, value);
            xml.push('\n');
        }
    }
    push(xml, &[indent, "</CORSRule>\n"]);
}

fn push_value(xml: &mut String, element: Element, value: &str) {
    let name = element.name();
    push(xml, &["<", name]);
    if element.is_extension() {
        push(xml, &[" xmlns=\"", EXTENSION_NAMESPACE, "\""]);
    }
    xml.push('>');
    for character in value.chars() {
        match character {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            // Parsers turn a carriage return into a line feed (XML 1.0, 2.11).
            '\r' => xml.push_str("&#13;"),
            _ => xml.push(character),
        }
    }
    push(xml, &["</", name, ">"]);
}

fn push(xml: &mut String, parts: &[&str]) {
    for part in parts {
        xml.push_str(part);
    }
}

/// The namespace of S3's documents.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
