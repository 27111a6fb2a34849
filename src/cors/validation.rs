//! What S3 refuses in a CORS configuration.

use http::Method;
use thiserror::Error;

use super::configuration::{CorsConfiguration, Element, ElementPath};
use super::pattern::Wildcard;
use super::request::is_token;

/// The methods that S3 knows rules for.
pub const S3_METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

/// The most rules that S3 takes.
pub const MAX_RULES: usize = 100;

/// The longest `ID`, in characters.
pub const MAX_ID: usize = 255;

/// A value that S3 refuses, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Where.
    pub path: ElementPath,
    /// What is wrong.
    pub kind: RuleErrorKind,
}

/// What S3 refuses in a configuration. `Display` is S3's own message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleErrorKind {
    /// No rule at all.
    #[error("{MALFORMED_XML}")]
    NoRules,
    /// A rule lacks an element that each must have.
    #[error("{MALFORMED_XML}")]
    Missing(Element),
    /// More than [`MAX_RULES`].
    #[error("The number of CORS rules should not exceed allowed limit of 100 rules.")]
    TooManyRules,
    /// An `ID` above [`MAX_ID`] characters.
    #[error("The ID of a CORS rule must not be longer than 255 characters.")]
    IdTooLong,
    /// A method that rules cannot name.
    #[error("Found unsupported HTTP method in CORS config. Unsupported method is {0}")]
    UnsupportedMethod(String),
    /// More than one `*`.
    #[error("{0} \"{1}\" can not have more than one wildcard.")]
    TooManyWildcards(Element, String),
    /// A `*` in `ExposeHeader`.
    #[error(
        "ExposeHeader \"{0}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
    )]
    ExposeWildcard(String),
    /// A field name with a character that no field name has. S3 says `AllowedHeader` for
    /// `ExposeHeader` too.
    #[error("AllowedHeader \"{1}\" contains invalid character.")]
    InvalidCharacter(Element, String),
}

/// S3's message for a document that is no CORS configuration.
pub const MALFORMED_XML: &str =
    "The XML you provided was not well-formed or did not validate against our published schema";

impl RuleErrorKind {
    /// S3's error code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoRules | Self::Missing(_) => "MalformedXML",
            Self::TooManyRules
            | Self::IdTooLong
            | Self::UnsupportedMethod(_)
            | Self::TooManyWildcards(..)
            | Self::ExposeWildcard(_)
            | Self::InvalidCharacter(..) => "InvalidRequest",
        }
    }
}

/// Everything that S3 refuses in `configuration`.
pub(super) fn errors(
    configuration: &CorsConfiguration,
    extra_methods: &[Method],
) -> Vec<RuleError> {
    let rules = &configuration.rules;
    let mut errors = Vec::new();
    let mut error = |path, kind| errors.push(RuleError { path, kind });
    if rules.is_empty() {
        error(ElementPath::Root, RuleErrorKind::NoRules);
    }
    for (index, rule) in rules.iter().enumerate() {
        for (values, element) in [
            (&rule.allowed_origins, Element::AllowedOrigin),
            (&rule.allowed_methods, Element::AllowedMethod),
        ] {
            if values.is_empty() {
                error(ElementPath::Rule(index), RuleErrorKind::Missing(element));
            }
        }
    }
    if rules.len() > MAX_RULES {
        error(ElementPath::Rule(MAX_RULES), RuleErrorKind::TooManyRules);
    }
    for (index, rule) in rules.iter().enumerate() {
        let mut each =
            |element, values: &[String], check: &dyn Fn(&str) -> Option<RuleErrorKind>| {
                for (place, value) in values.iter().enumerate() {
                    if let Some(kind) = check(value) {
                        let path = ElementPath::Value {
                            rule: index,
                            element,
                            index: place,
                        };
                        error(path, kind);
                    }
                }
            };
        each(Element::Id, rule.id.as_slice(), &|id| {
            (id.chars().count() > MAX_ID).then_some(RuleErrorKind::IdTooLong)
        });
        each(Element::AllowedOrigin, &rule.allowed_origins, &|origin| {
            Wildcard::check(origin)
                .is_err()
                .then(|| RuleErrorKind::TooManyWildcards(Element::AllowedOrigin, origin.into()))
        });
        each(Element::AllowedMethod, &rule.allowed_methods, &|method| {
            (!is_known_method(method.as_bytes(), extra_methods))
                .then(|| RuleErrorKind::UnsupportedMethod(method.into()))
        });
        each(Element::AllowedHeader, &rule.allowed_headers, &|name| {
            if Wildcard::check(name).is_err() {
                let kind = RuleErrorKind::TooManyWildcards(Element::AllowedHeader, name.into());
                return Some(kind);
            }
            (!name.is_empty() && !is_token(name.as_bytes()))
                .then(|| RuleErrorKind::InvalidCharacter(Element::AllowedHeader, name.into()))
        });
        each(Element::ExposeHeader, &rule.expose_headers, &|name| {
            if name.contains('*') {
                return Some(RuleErrorKind::ExposeWildcard(name.into()));
            }
            (!name.is_empty() && !is_token(name.as_bytes()))
                .then(|| RuleErrorKind::InvalidCharacter(Element::ExposeHeader, name.into()))
        });
    }
    errors
}

/// Whether a rule may name `method`: one of S3's, or one that the options add.
pub(super) fn is_known_method(method: &[u8], extra_methods: &[Method]) -> bool {
    S3_METHODS.iter().any(|known| known.as_bytes() == method)
        || extra_methods
            .iter()
            .any(|known| known.as_str().as_bytes() == method)
}
