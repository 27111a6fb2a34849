//! Finds patterns that allow anyone who registers a name: a `*` right below a public suffix, such
//! as `https://*.co.uk` and `https://*.vercel.app`.
//!
//! The list is the Public Suffix List (<https://publicsuffix.org/>) in the version of the crate
//! `psl`, with both sections: registries' and companies' suffixes.

use crate::cors::{CheckedDocument, Element, ElementPath, Problem, Severity, locate};

/// The additional warnings of a document; an origin gets one warning.
pub(super) fn warnings(bytes: &[u8], checked: &CheckedDocument) -> Vec<Problem> {
    let rules = checked.configuration.iter().flat_map(|one| &one.rules);
    let mut found = Vec::new();
    for (rule, written) in rules.enumerate() {
        for (index, origin) in written.allowed_origins.iter().enumerate() {
            if let Some((message, hint)) = open_to_registrants(origin) {
                let element = Element::AllowedOrigin;
                let path = ElementPath::Value {
                    rule,
                    element,
                    index,
                };
                found.push((path, message, hint));
            }
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let problems = found.into_iter().map(|(path, message, hint)| Problem {
        severity: Severity::Warning,
        code: "origin-public-suffix",
        message,
        detail: None,
        hint: Some(hint),
        span: locate(text, path),
    });
    let is_warned = |span: &Option<_>| {
        let mut others = checked.problems.iter();
        others.any(|other| other.span == *span && other.code.starts_with("origin-"))
    };
    problems
        .filter(|problem| !is_warned(&problem.span))
        .collect()
}

/// The warning about a pattern whose `*` stands for names that anyone can register.
fn open_to_registrants(origin: &str) -> Option<(String, String)> {
    let (before, after) = origin.split_once('*')?;
    let host = after.split([':', '/']).next().unwrap_or_default();
    // The label with the `*` is the registered one.
    let (rest, suffix) = host.split_once('.')?;
    let known = psl::suffix(suffix.as_bytes()).filter(|known| known.is_known())?;
    if known.as_bytes() != suffix.as_bytes() {
        return None;
    }
    let message = format!(
        "`{origin}` allows anyone who registers a name below `{suffix}`, such as `{before}evil{rest}.{suffix}`, with credentials"
    );
    let hint = match before.split_once("://") {
        Some((scheme, "")) if rest.is_empty() => {
            format!("include the site, such as `{scheme}://app.{suffix}`")
        }
        _ => "list each origin in its own AllowedOrigin".to_owned(),
    };
    Some((message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_right_below_a_public_suffix_is_open_to_registrants() {
        for origin in [
            "https://*.co.uk",
            "https://*.vercel.app",
            "https://*.vercel.app:8443",
            "https://*.github.io",
            "https://my-app-*.vercel.app",
            "https://*-team.vercel.app",
            "https://*.s3.amazonaws.com",
            "https://app.*.co.uk",
        ] {
            assert!(open_to_registrants(origin).is_some(), "{origin}");
        }
        for origin in [
            "https://*.example.co.uk",
            "https://*.my-app.vercel.app",
            "https://pr-*.example.com",
            "https://*.internal",
            "https://*.example",
            "http://localhost:*",
            "https://*.corp.test",
            "*",
            "https://app.vercel.app",
        ] {
            assert_eq!(open_to_registrants(origin), None, "{origin}");
        }
    }
}
