//! What S3 refuses in a CORS configuration.

use std::error::Error;
use std::fmt;

use http::Method;

use super::configuration::{CorsConfiguration, CorsRule, Element, ElementPath};
use super::extension::{RESOURCE_POLICIES, timing_fault};
use super::options::{Options, Semantics};
use super::pattern::Wildcard;
use super::request::is_token;
use super::spelling::nearest;

/// The methods that S3 supports in rules.
pub const S3_METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

/// The most rules that S3 accepts.
pub const MAX_RULES: usize = 100;

/// The longest `ID`, in characters.
pub const MAX_ID: usize = 255;

/// A configuration that S3 refuses, with at least one [`RuleError`].
///
/// `Display` counts the errors; [`source`](Error::source) is the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfiguration {
    first: RuleError,
    rest: Vec<RuleError>,
}

impl InvalidConfiguration {
    /// `None` if there are no errors.
    pub(super) fn new(errors: Vec<RuleError>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let first = errors.next()?;
        let rest = errors.collect();
        Some(Self { first, rest })
    }

    /// Everything that S3 refuses, in S3's checking order: structure, number of rules, then rule by
    /// rule.
    pub fn errors(&self) -> impl Iterator<Item = &RuleError> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

impl Error for InvalidConfiguration {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.first)
    }
}

impl fmt::Display for InvalidConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rest.len() {
            0 => f.write_str("the CORS configuration has an error"),
            others => write!(f, "the CORS configuration has {} errors", others + 1),
        }
    }
}

/// A value that S3 refuses, and its place. `Display` shows both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The place.
    pub path: ElementPath,
    /// What is wrong.
    pub kind: RuleErrorKind,
}

impl Error for RuleError {}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.kind)
    }
}

/// What S3 refuses in a configuration. `Display` is S3's own message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleErrorKind {
    /// There are no rules.
    NoRules,
    /// A rule lacks a required element.
    Missing(Element),
    /// More than [`MAX_RULES`].
    TooManyRules,
    /// An `ID` above [`MAX_ID`] characters.
    IdTooLong,
    /// A method that rules cannot list.
    UnsupportedMethod(String),
    /// More than one `*`.
    TooManyWildcards(Element, String),
    /// A `*` in `ExposeHeader`.
    ExposeWildcard(String),
    /// A field name with an invalid character. S3's message says `AllowedHeader` for `ExposeHeader`
    /// too.
    InvalidCharacter(Element, String),
    /// An extension element under [`Semantics::S3Exact`], which accepts only S3's elements.
    ExtensionRefused(Element),
    /// An invalid value of an extension element.
    ExtensionValue {
        /// What is wrong.
        detail: String,
        /// What to do about it.
        hint: String,
    },
}

impl fmt::Display for RuleErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRules
            | Self::Missing(_)
            | Self::ExtensionRefused(_)
            | Self::ExtensionValue { .. } => f.write_str(MALFORMED_XML),
            Self::TooManyRules => f.write_str(
                "The number of CORS rules should not exceed allowed limit of 100 rules.",
            ),
            Self::IdTooLong => {
                f.write_str("The ID of a CORS rule must not be longer than 255 characters.")
            }
            Self::UnsupportedMethod(method) => write!(
                f,
                "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            ),
            Self::TooManyWildcards(element, value) => {
                write!(
                    f,
                    "{element} \"{value}\" can not have more than one wildcard."
                )
            }
            Self::ExposeWildcard(name) => write!(
                f,
                "ExposeHeader \"{name}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
            ),
            Self::InvalidCharacter(_, name) => {
                write!(f, "AllowedHeader \"{name}\" contains invalid character.")
            }
        }
    }
}

impl Error for RuleErrorKind {}

/// S3's message for a document that is not a CORS configuration.
pub const MALFORMED_XML: &str =
    "The XML you provided was not well-formed or did not validate against our published schema";

impl RuleErrorKind {
    /// S3's error code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoRules
            | Self::Missing(_)
            | Self::ExtensionRefused(_)
            | Self::ExtensionValue { .. } => "MalformedXML",
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
pub(super) fn errors(configuration: &CorsConfiguration, options: &Options) -> Vec<RuleError> {
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
    for (index, rule) in rules.iter().enumerate() {
        extension_errors(rule, options.semantics, &mut |element, place, kind| {
            let path = ElementPath::Value {
                rule: index,
                element,
                index: place,
            };
            error(path, kind);
        });
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
            (!is_known_method(method.as_bytes(), &options.extra_methods))
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

/// What is wrong with a rule's extension elements.
fn extension_errors(
    rule: &CorsRule,
    semantics: Semantics,
    error: &mut dyn FnMut(Element, usize, RuleErrorKind),
) {
    let origins = &rule.timing_allow_origins;
    let policy = rule.cross_origin_resource_policy.as_deref();
    if semantics == Semantics::S3Exact {
        let element = Element::TimingAllowOrigin;
        for index in 0..origins.len() {
            error(element, index, RuleErrorKind::ExtensionRefused(element));
        }
        if policy.is_some() {
            let element = Element::CrossOriginResourcePolicy;
            error(element, 0, RuleErrorKind::ExtensionRefused(element));
        }
        return;
    }
    for index in 0..origins.len() {
        if let Some((detail, hint)) = timing_fault(origins, index) {
            let kind = RuleErrorKind::ExtensionValue { detail, hint };
            error(Element::TimingAllowOrigin, index, kind);
        }
    }
    if let Some(policy) = policy.filter(|policy| !RESOURCE_POLICIES.contains(policy)) {
        let kind = RuleErrorKind::ExtensionValue {
            detail: format!("`{policy}` is not a cross-origin resource policy"),
            hint: match nearest(policy.trim(), &RESOURCE_POLICIES) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("use one of {}", RESOURCE_POLICIES.join(", ")),
            },
        };
        error(Element::CrossOriginResourcePolicy, 0, kind);
    }
}

/// Whether a rule may list `method`: one of S3's, or one added by the options.
pub(super) fn is_known_method(method: &[u8], extra_methods: &[Method]) -> bool {
    S3_METHODS.iter().any(|known| known.as_bytes() == method)
        || extra_methods
            .iter()
            .any(|known| known.as_str().as_bytes() == method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cors::configuration::CorsRule;

    #[test]
    fn an_invalid_configuration_is_an_error_with_a_source() {
        assert!(InvalidConfiguration::new(Vec::new()).is_none());
        let configuration = CorsConfiguration {
            rules: vec![CorsRule {
                allowed_origins: vec!["*".into(), "a*b*".into()],
                allowed_methods: vec!["PATCH".into()],
                ..Default::default()
            }],
        };
        let invalid =
            InvalidConfiguration::new(errors(&configuration, &Options::default())).unwrap();
        assert_eq!(invalid.to_string(), "the CORS configuration has 2 errors");
        let lines: Vec<_> = invalid.errors().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "rule 1, AllowedOrigin 2: AllowedOrigin \"a*b*\" can not have more than one wildcard.",
                "rule 1, AllowedMethod 1: Found unsupported HTTP method in CORS config. \
                 Unsupported method is PATCH",
            ]
        );
        assert_eq!(invalid.source().unwrap().to_string(), lines[0]);

        let none = errors(&CorsConfiguration::default(), &Options::default());
        let invalid = InvalidConfiguration::new(none).unwrap();
        assert_eq!(invalid.to_string(), "the CORS configuration has an error");
        assert_eq!(
            invalid.source().unwrap().to_string(),
            format!("CORSConfiguration: {MALFORMED_XML}")
        );
    }
}
