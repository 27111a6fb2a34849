//! What S3's errors leave open: what exactly is wrong with a rule, and how to fix it.

use super::configuration::Element;
use super::origin_repair::right;
use super::request::is_token;
use super::spelling::nearest;
use super::validation::{RuleErrorKind, S3_METHODS};

impl RuleErrorKind {
    /// What exactly is wrong, if S3's message does not say.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::NoRules => Some("the configuration has no CORSRule".into()),
            Self::Missing(element) => Some(format!("the rule has no {element}")),
            Self::TooManyRules => Some("this is the 101st rule".into()),
            Self::IdTooLong => None,
            Self::UnsupportedMethod(method) if method.is_empty() => {
                Some("the AllowedMethod is empty".into())
            }
            Self::UnsupportedMethod(_) => None,
            Self::TooManyWildcards(_, value) => {
                let count = value.matches('*').count();
                Some(format!("`{value}` has {count} wildcards"))
            }
            Self::ExposeWildcard(_) => None,
            Self::ExtensionRefused(element) => Some(format!(
                "{element} is an extension of s3cors, and `semantics` is \"s3-exact\""
            )),
            Self::ExtensionValue { detail, .. } => Some(detail.clone()),
            Self::InvalidCharacter(element, name) => {
                let bad = name.chars().find(|character| {
                    !character.is_ascii() || !is_token(character.to_string().as_bytes())
                })?;
                Some(format!(
                    "{} in the {element} `{name}` is not allowed in a field name",
                    Quoted(bad)
                ))
            }
        }
    }

    /// How to fix it, if known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoRules => "remove the file: a bucket without rules does not need one".into(),
            Self::Missing(Element::AllowedMethod) => {
                "add one AllowedMethod for each of the methods GET, PUT, HEAD, POST and DELETE \
                 that pages may use"
                    .into()
            }
            Self::Missing(element) => format!("add at least one {element}"),
            Self::TooManyRules => {
                "merge rules that have the same methods and headers into one with several origins"
                    .into()
            }
            Self::IdTooLong => "shorten it; it is only a label".into(),
            Self::UnsupportedMethod(method) => return method_hint(method),
            Self::TooManyWildcards(element, value) => wildcards_hint(*element, value),
            Self::ExposeWildcard(_) => {
                "list every field that scripts may read, each in its own ExposeHeader".into()
            }
            Self::InvalidCharacter(element, name) => return name_hint(*element, name),
            Self::ExtensionRefused(_) => {
                "remove the element, or set the route's `semantics` to \"safe\"".into()
            }
            Self::ExtensionValue { hint, .. } => hint.clone(),
        })
    }
}

fn method_hint(method: &str) -> Option<String> {
    let upper = method.trim().to_ascii_uppercase();
    let listed: Vec<&str> = upper
        .split([',', ' ', '|', ';'])
        .filter(|part| !part.is_empty())
        .collect();
    Some(match upper.as_str() {
        "" => "remove it, or use one of GET, PUT, HEAD, POST and DELETE".into(),
        "OPTIONS" => "remove it: preflights need no rule, because they are answered if a rule \
                      allows the requested method"
            .into(),
        "*" | "ALL" | "ANY" => {
            "list the methods, each in its own AllowedMethod: GET, PUT, HEAD, POST, DELETE".into()
        }
        known if S3_METHODS.contains(&known) && method.trim() != known => {
            format!("write methods in upper case: {known}")
        }
        known if S3_METHODS.contains(&known) => {
            format!("remove the white space around {known}")
        }
        _ if listed.len() > 1 && listed.iter().all(|part| S3_METHODS.contains(part)) => {
            "give each method its own AllowedMethod".into()
        }
        other if is_token(other.as_bytes()) => match nearest(other, &S3_METHODS) {
            // PATCH is a different method, not a misspelling.
            Some(known) if !["PATCH", "CONNECT", "TRACE"].contains(&other) => {
                format!("did you mean {known}?")
            }
            _ => format!(
                "S3 does not support {other} in rules; for an upstream that is not S3, the route can allow \
                 it: extra_methods = [\"{other}\"]"
            ),
        },
        _ => return None,
    })
}

fn wildcards_hint(element: Element, value: &str) -> String {
    if element == Element::AllowedOrigin
        && let Some(right) = right(value)
    {
        return match value.ends_with("/*") {
            true => format!("remove the path: {right}"),
            false => right,
        };
    }
    match element {
        Element::AllowedOrigin if value.trim_matches('*').is_empty() => {
            "use a single `*` for any origin".into()
        }
        // https://*.example.com:*
        Element::AllowedOrigin if value.ends_with(":*") => {
            "write the port, or give each port its own AllowedOrigin".into()
        }
        Element::AllowedOrigin => {
            "one `*` matches any characters, including dots and colons; instead of two, use \
             several AllowedOrigin elements"
                .into()
        }
        _ if value.trim_matches('*').is_empty() => "use a single `*` for any header".into(),
        _ => "one `*` matches any characters; instead of two, use several AllowedHeader \
              elements"
            .into(),
    }
}

fn name_hint(element: Element, name: &str) -> Option<String> {
    let trimmed = name.trim().trim_end_matches(':');
    if name.contains(',') {
        Some(format!("give each name its own {element}"))
    } else if is_token(trimmed.as_bytes()) {
        Some(format!("write `{trimmed}`"))
    } else if name.contains(':') {
        Some("write only the field's name, without a value".into())
    } else {
        None
    }
}

/// A character in a form that can be shown in a sentence.
struct Quoted(char);

impl std::fmt::Display for Quoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            ' ' => f.write_str("a space"),
            '\t' => f.write_str("a tab"),
            '\r' | '\n' => f.write_str("a line break"),
            character => write!(f, "`{}`", character.escape_debug()),
        }
    }
}
