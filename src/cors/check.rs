//! Checks a whole document and tells everything that is wrong with it, each with its place.

use std::collections::HashMap;
use std::ops::Range;

use super::configuration::{CorsConfiguration, ElementPath};
use super::grant::Grants;
use super::lint::lint;
use super::options::Options;
use super::policy::Policy;
use super::validation::{RuleError, RuleErrorKind};
use super::xml;
use super::xml::XmlError;

/// A document that was checked: what it holds, and what there is to say of it.
#[derive(Debug)]
pub struct CheckedDocument {
    /// What it compiles to, where S3 would accept it.
    pub policy: Option<Policy>,
    /// Its rules, where S3 would accept it.
    pub configuration: Option<CorsConfiguration>,
    /// Errors first, the one that S3 answers with before all others.
    pub problems: Vec<Problem>,
}

/// Something to say of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the document is refused for it.
    pub severity: Severity,
    /// An error's code is S3's; a warning's is this crate's own and stable.
    pub code: &'static str,
    /// An error's message is S3's, word for word.
    pub message: String,
    /// What precisely is wrong, in our words.
    pub detail: Option<String>,
    /// How to mend it.
    pub hint: Option<String>,
    /// Where, in bytes of the document.
    pub span: Option<Range<usize>>,
}

/// Whether a [`Problem`] keeps a document from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// S3 refuses the document.
    Error,
    /// S3 accepts it, but it probably does not do what is meant.
    Warning,
}

/// Reads, checks and compiles a document.
#[must_use]
pub fn check_document(bytes: &[u8], options: Options) -> CheckedDocument {
    check_document_sharing(bytes, options, &mut Grants::default())
}

/// As [`check_document`]; what `grants` has of other policies is shared with them.
pub(crate) fn check_document_sharing(
    bytes: &[u8],
    options: Options,
    grants: &mut Grants,
) -> CheckedDocument {
    let document = xml::read(bytes);
    let mut problems: Vec<Problem> = document.errors.into_iter().map(Problem::from).collect();
    let unreadable = !problems.is_empty();
    // Made only where there is something to point at.
    let mut places: Option<HashMap<ElementPath, Range<usize>>> = None;
    let mut place = |path: &ElementPath| {
        let known = places.get_or_insert_with(|| document.places.iter().cloned().collect());
        known.get(path).cloned()
    };

    let policy = match Policy::compile_sharing(&document.configuration, options, grants) {
        Ok(policy) => Some(policy),
        Err(invalid) => {
            // What is missing may be what could not be read.
            let certain = invalid.errors().filter(|error| match error.kind {
                RuleErrorKind::NoRules => !unreadable,
                RuleErrorKind::Missing(_) => !matches!(
                    error.path,
                    ElementPath::Rule(index) if document.broken_rules.contains(&index)
                ),
                _ => true,
            });
            problems.extend(certain.map(|error| {
                let mut problem = Problem::from(error);
                problem.span = place(&error.path);
                problem
            }));
            None
        }
    };
    // S3 looks at the structure first.
    problems.sort_by_key(|problem| problem.code != XmlError::CODE);
    if !problems.is_empty() {
        return CheckedDocument {
            policy: None,
            configuration: None,
            problems,
        };
    }
    problems.extend(
        lint(&document.configuration)
            .into_iter()
            .map(|lint| Problem {
                severity: Severity::Warning,
                code: lint.code,
                message: lint.message,
                detail: None,
                hint: Some(lint.hint),
                span: place(&lint.path),
            }),
    );
    CheckedDocument {
        policy,
        configuration: Some(document.configuration),
        problems,
    }
}

impl From<XmlError> for Problem {
    fn from(error: XmlError) -> Self {
        Self {
            severity: Severity::Error,
            code: XmlError::CODE,
            message: XmlError::MESSAGE.into(),
            detail: Some(error.detail),
            hint: error.hint,
            span: Some(error.span),
        }
    }
}

impl From<&RuleError> for Problem {
    fn from(error: &RuleError) -> Self {
        Self {
            severity: Severity::Error,
            code: error.kind.code(),
            message: error.kind.to_string(),
            detail: error.kind.detail(),
            hint: error.kind.hint(),
            span: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(document: &str) -> CheckedDocument {
        check_document(document.as_bytes(), Options::default())
    }

    fn rules(inner: &[&str]) -> String {
        let rules: Vec<String> = inner
            .iter()
            .map(|rule| format!("<CORSRule>{rule}</CORSRule>"))
            .collect();
        format!("<CORSConfiguration>{}</CORSConfiguration>", rules.concat())
    }

    /// What is wrong with a rule that is right but for `inner`.
    fn only_problem(inner: &str) -> (String, Problem) {
        let rest = if inner.contains("<AllowedMethod") {
            "<AllowedOrigin>o</AllowedOrigin>"
        } else if inner.contains("<AllowedOrigin") {
            "<AllowedMethod>GET</AllowedMethod>"
        } else {
            "<AllowedOrigin>o</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
        };
        let document = rules(&[&format!("{rest}{inner}")]);
        let mut problems = check(&document).problems;
        assert_eq!(problems.len(), 1, "{problems:#?}");
        (document, problems.remove(0))
    }

    #[test]
    fn each_error_comes_with_its_place_and_a_way_out() {
        // What is in the rule, the bytes that are pointed at, a part of the hint.
        let cases = [
            (
                "<AllowedMethod>get</AllowedMethod>",
                "get",
                "upper case: GET",
            ),
            ("<AllowedMethod> GET</AllowedMethod>", " GET", "white space"),
            (
                "<AllowedMethod>OPTIONS</AllowedMethod>",
                "OPTIONS",
                "preflights need no rule",
            ),
            ("<AllowedMethod>*</AllowedMethod>", "*", "list the methods"),
            (
                "<AllowedMethod></AllowedMethod>",
                "<AllowedMethod>",
                "remove it",
            ),
            (
                "<AllowedMethod>GET, PUT</AllowedMethod>",
                "GET, PUT",
                "of its own",
            ),
            (
                "<AllowedMethod>PATCH</AllowedMethod>",
                "PATCH",
                "extra_methods = [\"PATCH\"]",
            ),
            (
                "<AllowedMethod>PROPFIND</AllowedMethod>",
                "PROPFIND",
                "extra_methods",
            ),
            (
                "<AllowedMethod>DELET</AllowedMethod>",
                "DELET",
                "DELETE is meant",
            ),
            (
                "<AllowedOrigin>https://*.a.example:*</AllowedOrigin>",
                "https://*.a.example:*",
                "port",
            ),
            (
                "<AllowedOrigin>*://*.a.example</AllowedOrigin>",
                "*://*.a.example",
                "several",
            ),
            (
                "<AllowedOrigin>**</AllowedOrigin>",
                "**",
                "any origin is `*`",
            ),
            (
                "<AllowedHeader>*-amz-*</AllowedHeader>",
                "*-amz-*",
                "several",
            ),
            (
                "<AllowedHeader>Range, ETag</AllowedHeader>",
                "Range, ETag",
                "of its own",
            ),
            (
                "<AllowedHeader>Range:</AllowedHeader>",
                "Range:",
                "write `Range`",
            ),
            (
                "<AllowedHeader> Range</AllowedHeader>",
                " Range",
                "write `Range`",
            ),
            (
                "<ExposeHeader>x-amz-*</ExposeHeader>",
                "x-amz-*",
                "name every field",
            ),
            (
                "<ExposeHeader>ETag: a</ExposeHeader>",
                "ETag: a",
                "without a value",
            ),
        ];
        for (inner, place, hint) in cases {
            let (document, problem) = only_problem(inner);
            assert_eq!(problem.severity, Severity::Error);
            assert_eq!(problem.code, "InvalidRequest", "{inner}");
            assert_eq!(&document[problem.span.clone().unwrap()], place);
            let said = problem.hint.unwrap_or_default();
            assert!(said.contains(hint), "{inner}: {said}");
        }
    }

    #[test]
    fn the_character_that_no_field_name_has_is_named() {
        for (name, detail) in [
            (
                "a b",
                "a space in the ExposeHeader `a b` cannot stand in a field name",
            ),
            (
                "a/b",
                "`/` in the ExposeHeader `a/b` cannot stand in a field name",
            ),
            (
                "é",
                "`é` in the ExposeHeader `é` cannot stand in a field name",
            ),
        ] {
            let (_, problem) = only_problem(&format!("<ExposeHeader>{name}</ExposeHeader>"));
            assert_eq!(problem.detail.as_deref(), Some(detail));
            // S3's message names the wrong element.
            assert_eq!(
                problem.message,
                format!("AllowedHeader \"{name}\" contains invalid character.")
            );
        }
    }

    #[test]
    fn everything_is_said_at_once_and_what_s3_says_comes_first() {
        let document = rules(&[
            "<AllowedOrigin>a**</AllowedOrigin><AllowedMethod>get</AllowedMethod>",
            "<AllowedOrigin>b</AllowedOrigin>",
            "<AllowedOrigins>c</AllowedOrigins>",
        ]);
        let checked = check(&document);
        assert!(checked.policy.is_none() && checked.configuration.is_none());
        let said: Vec<_> = checked
            .problems
            .iter()
            .map(|problem| (problem.code, &document[problem.span.clone().unwrap()]))
            .collect();
        assert_eq!(
            said,
            [
                ("MalformedXML", "<AllowedOrigins>"),
                ("MalformedXML", "<CORSRule>"),
                ("InvalidRequest", "a**"),
                ("InvalidRequest", "get"),
            ]
        );
    }

    #[test]
    fn a_document_with_warnings_is_a_policy_all_the_same() {
        let document = rules(&[
            "<AllowedOrigin>https://a.example/</AllowedOrigin><AllowedMethod>GET</AllowedMethod>",
        ]);
        let checked = check(&document);
        assert!(checked.policy.is_some() && checked.configuration.is_some());
        let [problem] = checked.problems.as_slice() else {
            panic!("{:#?}", checked.problems)
        };
        assert_eq!(problem.severity, Severity::Warning);
        assert_eq!(problem.code, "origin-trailing-slash");
        assert_eq!(
            &document[problem.span.clone().unwrap()],
            "https://a.example/"
        );
    }

    #[test]
    fn a_document_that_breaks_off_is_not_blamed_for_what_it_may_lack() {
        let checked = check("<CORSConfiguration><CORSRule><AllowedOrigin>a</AllowedOrigin>");
        assert_eq!(checked.problems.len(), 1, "{:#?}", checked.problems);
    }

    #[test]
    fn the_hundred_and_first_rule_is_pointed_at() {
        let rule = "<AllowedOrigin>a</AllowedOrigin><AllowedMethod>GET</AllowedMethod>";
        assert!(check(&rules(&[rule; 100])).policy.is_some());
        let document = rules(&[rule; 101]);
        let problem = &check(&document).problems[0];
        assert_eq!(problem.code, "InvalidRequest");
        let before = &document[..problem.span.clone().unwrap().start];
        assert_eq!(before.matches("<CORSRule>").count(), 100);
    }
}
