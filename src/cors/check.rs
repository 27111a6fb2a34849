//! Checks a whole document and reports every problem with its place.

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

/// The result of checking a document: its contents and its problems.
#[derive(Debug)]
pub struct CheckedDocument {
    /// The compiled policy, if S3 would accept the document.
    pub policy: Option<Policy>,
    /// Its rules, if S3 would accept it.
    pub configuration: Option<CorsConfiguration>,
    /// Errors come before warnings; the error that S3 reports comes first.
    pub problems: Vec<Problem>,
}

/// A problem with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the document is refused because of it.
    pub severity: Severity,
    /// S3's code for an error; this crate's own, stable code for a warning.
    pub code: &'static str,
    /// S3's exact message for an error.
    pub message: String,
    /// The exact cause, in this crate's words.
    pub detail: Option<String>,
    /// How to fix it.
    pub hint: Option<String>,
    /// The place, in bytes of the document.
    pub span: Option<Range<usize>>,
}

/// Whether a [`Problem`] prevents using a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// S3 refuses the document.
    Error,
    /// S3 accepts the document, but it probably does not do what was intended.
    Warning,
}

/// Parses, checks and compiles a document.
#[must_use]
pub fn check_document(bytes: &[u8], options: Options) -> CheckedDocument {
    check_document_sharing(bytes, options, &mut Grants::default())
}

/// Like [`check_document`]; rules share their equal parts with other policies through `grants`.
pub(crate) fn check_document_sharing(
    bytes: &[u8],
    options: Options,
    grants: &mut Grants,
) -> CheckedDocument {
    let document = xml::read(bytes);
    let mut problems: Vec<Problem> = document.errors.into_iter().map(Problem::from).collect();
    let unreadable = !problems.is_empty();
    // Built only if there is a problem to locate.
    let mut places: Option<HashMap<ElementPath, Range<usize>>> = None;
    let mut place = |path: &ElementPath| {
        let known = places.get_or_insert_with(|| document.places.iter().cloned().collect());
        known.get(path).cloned()
    };

    let policy = match Policy::compile_sharing(&document.configuration, options, grants) {
        Ok(policy) => Some(policy),
        Err(invalid) => {
            // An element that seems to be missing may just be unreadable.
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
    // S3 checks the structure first.
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

    /// The only problem of a rule that contains `inner` and is otherwise valid.
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
    fn each_error_has_a_place_and_a_hint() {
        // The rule's content, the bytes that are located, and a part of the hint.
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
                "its own AllowedMethod",
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
                "did you mean DELETE?",
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
                "use a single `*` for any origin",
            ),
            (
                "<AllowedHeader>*-amz-*</AllowedHeader>",
                "*-amz-*",
                "several",
            ),
            (
                "<AllowedHeader>Range, ETag</AllowedHeader>",
                "Range, ETag",
                "its own AllowedHeader",
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
                "list every field",
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
    fn the_invalid_character_in_a_field_name_is_shown() {
        for (name, detail) in [
            (
                "a b",
                "a space in the ExposeHeader `a b` is not allowed in a field name",
            ),
            (
                "a/b",
                "`/` in the ExposeHeader `a/b` is not allowed in a field name",
            ),
            (
                "é",
                "`é` in the ExposeHeader `é` is not allowed in a field name",
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
    fn all_problems_are_reported_and_s3s_error_comes_first() {
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
    fn a_document_with_warnings_still_becomes_a_policy() {
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
    fn a_truncated_document_reports_no_missing_elements() {
        let checked = check("<CORSConfiguration><CORSRule><AllowedOrigin>a</AllowedOrigin>");
        assert_eq!(checked.problems.len(), 1, "{:#?}", checked.problems);
    }

    #[test]
    fn the_hundred_and_first_rule_is_located() {
        let rule = "<AllowedOrigin>a</AllowedOrigin><AllowedMethod>GET</AllowedMethod>";
        assert!(check(&rules(&[rule; 100])).policy.is_some());
        let document = rules(&[rule; 101]);
        let problem = &check(&document).problems[0];
        assert_eq!(problem.code, "InvalidRequest");
        let before = &document[..problem.span.clone().unwrap().start];
        assert_eq!(before.matches("<CORSRule>").count(), 100);
    }
}
