//! What S3's errors leave open: what precisely is wrong with a rule, and how to mend it.

use super::configuration::Element;
use super::origin_repair::right;
use super::request::is_token;
use super::spelling::nearest;
use super::validation::{RuleErrorKind, S3_METHODS};

impl RuleErrorKind {
    /// What precisely is wrong, where S3's message leaves it open.
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
                    "{} in the {element} `{name}` cannot stand in a field name",
                    Quoted(bad)
                ))
            }
        }
    }

    /// How to mend it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoRules => "a bucket without rules needs no file".into(),
            Self::Missing(Element::AllowedMethod) => {
                "add one AllowedMethod for each of the methods GET, PUT, HEAD, POST and DELETE \
                 that pages may use"
                    .into()
            }
            Self::Missing(element) => format!("add at least one {element}"),
            Self::TooManyRules => {
                "rules with the same methods and headers can be one rule with several origins"
                    .into()
            }
            Self::IdTooLong => "shorten it; it is a name for people".into(),
            Self::UnsupportedMethod(method) => return method_hint(method),
            Self::TooManyWildcards(element, value) => wildcards_hint(*element, value),
            Self::ExposeWildcard(_) => {
                "name every field that scripts may read, each in an ExposeHeader of its own".into()
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
        "" => "remove it, or name one of GET, PUT, HEAD, POST and DELETE".into(),
        "OPTIONS" => "remove it: preflights need no rule, they are answered wherever a rule \
                      allows the method that they ask for"
            .into(),
        "*" | "ALL" | "ANY" => {
            "list the methods, each in an AllowedMethod of its own: GET, PUT, HEAD, POST, DELETE"
                .into()
        }
        known if S3_METHODS.contains(&known) && method.trim() != known => {
            format!("methods are written in upper case: {known}")
        }
        known if S3_METHODS.contains(&known) => {
            format!("remove the white space around {known}")
        }
        _ if listed.len() > 1 && listed.iter().all(|part| S3_METHODS.contains(part)) => {
            "give each method an AllowedMethod of its own".into()
        }
        other if is_token(other.as_bytes()) => match nearest(other, &S3_METHODS) {
            // PATCH is a method of its own, not a slip.
            Some(known) if !["PATCH", "CONNECT", "TRACE"].contains(&other) => {
                format!("probably {known} is meant")
            }
            _ => format!(
                "S3 has no rules for {other}; for an upstream that is not S3, the route can allow \
                 them: extra_methods = [\"{other}\"]"
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
            true => format!("an origin has no path: {right}"),
            false => right,
        };
    }
    match element {
        Element::AllowedOrigin if value.trim_matches('*').is_empty() => "any origin is `*`".into(),
        // https://*.example.com:*
        Element::AllowedOrigin if value.ends_with(":*") => {
            "name the port, or give each port an AllowedOrigin of its own".into()
        }
        Element::AllowedOrigin => {
            "one `*` matches any run of characters, dots and colons too; what needs two is \
             several AllowedOrigin elements"
                .into()
        }
        _ if value.trim_matches('*').is_empty() => "any header is `*`".into(),
        _ => "one `*` matches any run of characters; what needs two is several AllowedHeader \
              elements"
            .into(),
    }
}

fn name_hint(element: Element, name: &str) -> Option<String> {
    let trimmed = name.trim().trim_end_matches(':');
    if name.contains(',') {
        Some(format!("give each name an {element} of its own"))
    } else if is_token(trimmed.as_bytes()) {
        Some(format!("write `{trimmed}`"))
    } else if name.contains(':') {
        Some("write the field's name alone, without a value".into())
    } else {
        None
    }
}

/// A character as a sentence can show it.
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
