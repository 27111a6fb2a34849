//! A change of a configuration that allows a refused request, and what else it allows.

use std::fmt;

use super::configuration::{CorsConfiguration, CorsRule, Element};
use super::xml::{rule_snippet, value_snippet};

/// Introduces a request that becomes allowed while no other does.
const ONLY_THIS: &str = "nothing but this: ";

/// A change of a configuration that allows a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuggestedChange {
    /// All edits to make.
    pub edits: Vec<Edit>,
    /// What becomes possible.
    pub lets_in: Vec<LetsIn>,
}

/// One change of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edit {
    /// Add an element to a rule.
    Add {
        /// The rule, counted from 0.
        rule: usize,
        /// The element's name.
        element: Element,
        /// Its text.
        value: String,
    },
    /// Write an `AllowedOrigin` differently.
    ReplaceOrigin {
        /// The rule, counted from 0.
        rule: usize,
        /// Which of its origins, counted from 0.
        index: usize,
        /// The current text.
        from: String,
        /// The new text.
        to: String,
    },
    /// Add a rule at the end.
    AddRule(CorsRule),
}

/// Something that a change makes possible.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LetsIn {
    /// An origin, or all origins that match a pattern, may use the rule, with credentials.
    Origin {
        /// The origin or the pattern.
        pattern: String,
        /// The rule's methods.
        methods: Vec<String>,
        /// The rule's headers.
        headers: Vec<String>,
    },
    /// A rule's origins may use a method.
    Method {
        /// The method.
        method: String,
        /// The rule's origins.
        origins: Origins,
    },
    /// A rule's origins may send a header.
    Header {
        /// The field's name.
        name: String,
        /// The rule's origins.
        origins: Origins,
    },
    /// An origin may send only this request, with credentials.
    Request {
        /// The origin.
        origin: String,
        /// The method.
        method: String,
        /// The requested headers.
        headers: Vec<String>,
    },
}

/// The origins that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Origins {
    /// One origin.
    One(String),
    /// This many, each written out.
    Listed(usize),
    /// All that match these patterns, or more.
    Matching(Vec<String>),
    /// Every origin, without credentials.
    Any,
}

impl SuggestedChange {
    /// The configuration after the change.
    #[must_use]
    pub fn apply(&self, configuration: &CorsConfiguration) -> CorsConfiguration {
        let mut changed = configuration.clone();
        for edit in &self.edits {
            edit.apply(&mut changed);
        }
        changed
    }

    /// The elements to write, one per line.
    #[must_use]
    pub fn xml(&self) -> String {
        let lines: Vec<String> = self.edits.iter().map(Edit::xml).collect();
        lines.join("\n")
    }

    /// The rule that is changed, counted from 0; `None`: a rule is added.
    #[must_use]
    pub fn rule(&self) -> Option<usize> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::Add { rule, .. } | Edit::ReplaceOrigin { rule, .. } => Some(*rule),
            Edit::AddRule(_) => None,
        })
    }
}

impl Edit {
    fn apply(&self, configuration: &mut CorsConfiguration) {
        match self {
            Self::AddRule(rule) => configuration.rules.push(rule.clone()),
            Self::ReplaceOrigin {
                rule, index, to, ..
            } => {
                let origins = configuration.rules.get_mut(*rule);
                let origin = origins.and_then(|rule| rule.allowed_origins.get_mut(*index));
                if let Some(origin) = origin {
                    origin.clone_from(to);
                }
            }
            Self::Add {
                rule,
                element,
                value,
            } => {
                let Some(rule) = configuration.rules.get_mut(*rule) else {
                    return;
                };
                match element {
                    Element::AllowedOrigin => rule.allowed_origins.push(value.clone()),
                    Element::AllowedMethod => rule.allowed_methods.push(value.clone()),
                    Element::AllowedHeader => rule.allowed_headers.push(value.clone()),
                    Element::ExposeHeader => rule.expose_headers.push(value.clone()),
                    Element::Id => rule.id = Some(value.clone()),
                    Element::MaxAgeSeconds => rule.max_age_seconds = value.parse().ok(),
                    Element::TimingAllowOrigin => rule.timing_allow_origins.push(value.clone()),
                    Element::CrossOriginResourcePolicy => {
                        rule.cross_origin_resource_policy = Some(value.clone());
                    }
                }
            }
        }
    }

    /// The element to write.
    #[must_use]
    pub fn xml(&self) -> String {
        match self {
            Self::Add { element, value, .. } => value_snippet(*element, value),
            Self::ReplaceOrigin { to, .. } => value_snippet(Element::AllowedOrigin, to),
            Self::AddRule(rule) => rule_snippet(rule),
        }
    }
}

impl Origins {
    pub(super) fn of(rule: &CorsRule) -> Self {
        let origins = &rule.allowed_origins;
        let patterns: Vec<String> = origins
            .iter()
            .filter(|origin| origin.contains('*'))
            .cloned()
            .collect();
        match (origins.as_slice(), patterns.is_empty()) {
            ([origin], true) => Self::One(origin.clone()),
            (_, true) => Self::Listed(origins.len()),
            _ if patterns.iter().any(|pattern| pattern == "*") => Self::Any,
            _ => Self::Matching(patterns),
        }
    }
}

impl LetsIn {
    /// How many other origins gain something: 0 none, 1 some, 2 all that match a pattern, 3 all.
    pub(super) fn others(&self) -> u8 {
        match self {
            Self::Request { .. } => 0,
            Self::Origin { pattern, .. } => u8::from(pattern.contains('*')) * 2,
            Self::Method { origins, .. } | Self::Header { origins, .. } => match origins {
                Origins::One(_) => 0,
                Origins::Listed(_) => 1,
                Origins::Matching(_) => 2,
                Origins::Any => 3,
            },
        }
    }
}

impl LetsIn {
    /// The same text, for a change that affects more requests than the one in question.
    #[must_use]
    pub fn in_many_places(&self) -> String {
        let text = self.to_string();
        match self {
            Self::Request { .. } => text.replacen(ONLY_THIS, "", 1),
            Self::Origin { .. } | Self::Method { .. } | Self::Header { .. } => text,
        }
    }
}

impl fmt::Display for LetsIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin {
                pattern,
                methods,
                headers,
            } => {
                match pattern.as_str() {
                    "null" => f.write_str(
                        "every page without an origin of its own (sandboxed frames, data: and \
                         file: URLs)",
                    )?,
                    _ if pattern.contains('*') => write!(f, "every origin that matches {pattern}")?,
                    _ => f.write_str("one more origin")?,
                }
                f.write_str(", with credentials, for ")?;
                list(f, methods)?;
                match headers.as_slice() {
                    [] => Ok(()),
                    headers if headers.iter().any(|name| name == "*") => {
                        f.write_str(" with any header")
                    }
                    _ => f.write_str(" with the rule's headers"),
                }
            }
            Self::Method { method, origins } => write!(f, "method {method} {origins}"),
            Self::Header { name, origins } => write!(f, "header {name} {origins}"),
            Self::Request {
                origin,
                method,
                headers,
            } => {
                match origin.as_str() {
                    "null" => f.write_str("every page without an origin of its own")?,
                    _ => write!(f, "{ONLY_THIS}{origin}")?,
                }
                write!(f, ", with credentials, for {method}")?;
                if headers.is_empty() {
                    return Ok(());
                }
                f.write_str(" with ")?;
                list(f, headers)
            }
        }
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(origin) => write!(f, "for {origin}"),
            Self::Listed(count) => write!(f, "for all {count} origins of the rule"),
            Self::Matching(patterns) => {
                f.write_str("for every origin that matches ")?;
                list(f, patterns)
            }
            Self::Any => f.write_str("for every origin"),
        }
    }
}

/// `a, b and c`
fn list(f: &mut fmt::Formatter<'_>, items: &[String]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        f.write_str(match items.len() - index {
            _ if index == 0 => "",
            1 => " and ",
            _ => ", ",
        })?;
        f.write_str(item)?;
    }
    Ok(())
}
