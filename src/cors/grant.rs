//! What a rule allows its origins, with the resulting response values.

use std::collections::HashSet;
use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderName, HeaderValue};

use super::configuration::CorsRule;
use super::extension::Extension;
use super::pattern::Wildcard;

/// The contents of a rule besides its name and its origins.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    methods: Box<[Box<str>]>,
    headers: Box<[Wildcard]>,
    exposed: Box<[Box<str>]>,
    max_age_seconds: Option<u32>,
    pub(super) allow_methods: HeaderValue,
    pub(super) expose_headers: Option<HeaderValue>,
    pub(super) max_age: Option<HeaderValue>,
    pub(super) wire: GrantLines,
    /// `None`: only S3's elements.
    pub(super) extension: Option<Box<Extension>>,
}

/// The response fields that a rule's allowances share, as whole lines without `Vary`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct GrantLines {
    /// The end of the `Access-Control-Allow-Origin` line, and `Access-Control-Allow-Methods`.
    pub(super) methods: Box<[u8]>,
    /// The fields after `Access-Control-Allow-Headers`.
    pub(super) rest: Box<[u8]>,
}

/// Deduplicated grants: many policies differ only in their origins.
#[derive(Debug, Default)]
pub(crate) struct Grants(HashSet<Arc<Grant>>);

impl Grants {
    pub(super) fn share(&mut self, grant: Grant) -> Arc<Grant> {
        if let Some(known) = self.0.get(&grant) {
            return Arc::clone(known);
        }
        let grant = Arc::new(grant);
        self.0.insert(Arc::clone(&grant));
        grant
    }
}

impl Grant {
    /// Compiles the grant of a checked rule; with `credentials` unless it allows any origin.
    pub(super) fn compile(rule: &CorsRule, credentials: bool) -> Self {
        let names = rule.expose_headers.iter().map(String::as_str);
        let named: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        let allow_methods = list(rule.allowed_methods.iter().map(String::as_str));
        let expose_headers = (!named.is_empty()).then(|| list(named));
        let max_age = rule.max_age_seconds.map(HeaderValue::from);
        let answers = [
            (ACCESS_CONTROL_EXPOSE_HEADERS, expose_headers.as_ref()),
            (ACCESS_CONTROL_MAX_AGE, max_age.as_ref()),
            (
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                credentials.then_some(&TRUE),
            ),
        ];
        Self {
            wire: GrantLines {
                methods: lines(
                    "\r\n",
                    [(ACCESS_CONTROL_ALLOW_METHODS, Some(&allow_methods))],
                ),
                rest: lines("", answers),
            },
            methods: texts(&rule.allowed_methods),
            headers: patterns(&rule.allowed_headers),
            exposed: texts(&rule.expose_headers),
            max_age_seconds: rule.max_age_seconds,
            allow_methods,
            expose_headers,
            max_age,
            extension: Extension::compile(rule, !credentials),
        }
    }

    /// The rule that it was compiled from.
    pub(super) fn written(&self) -> CorsRule {
        let mut rule = CorsRule {
            allowed_methods: self.methods.iter().map(ToString::to_string).collect(),
            allowed_headers: self.headers.iter().map(ToString::to_string).collect(),
            expose_headers: self.exposed.iter().map(ToString::to_string).collect(),
            max_age_seconds: self.max_age_seconds,
            ..CorsRule::default()
        };
        if let Some(extension) = &self.extension {
            extension.write_to(&mut rule);
        }
        rule
    }

    /// Whether this and `other` have a method in common.
    pub(super) fn shares_a_method(&self, other: &Self) -> bool {
        self.methods
            .iter()
            .any(|method| other.methods.contains(method))
    }

    /// Whether `AllowedMethod` lists `method`.
    pub(super) fn allows_method(&self, method: &[u8]) -> bool {
        self.methods.iter().any(|known| known.as_bytes() == method)
    }

    /// Whether some `AllowedHeader` matches `name`.
    pub(super) fn allows_header(&self, name: &[u8]) -> bool {
        self.headers
            .iter()
            .any(|pattern| pattern.matches_ignore_ascii_case(name))
    }
}

const CHECKED: &str = "the configuration was checked";

/// The patterns of a checked configuration.
pub(super) fn patterns(texts: &[String]) -> Box<[Wildcard]> {
    texts
        .iter()
        .map(|text| Wildcard::parse(text).expect(CHECKED))
        .collect()
}

fn texts(texts: &[String]) -> Box<[Box<str>]> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> HeaderValue {
    let names: Vec<&str> = names.into_iter().collect();
    HeaderValue::from_str(&names.join(", ")).expect(CHECKED)
}

/// The lines of the fields that have a value.
fn lines<'v>(
    start: &str,
    fields: impl IntoIterator<Item = (HeaderName, Option<&'v HeaderValue>)>,
) -> Box<[u8]> {
    let mut bytes = start.as_bytes().to_vec();
    for (name, value) in fields {
        if let Some(value) = value {
            let parts: [&[u8]; 4] = [name.as_ref(), b": ", value.as_bytes(), b"\r\n"];
            parts
                .into_iter()
                .for_each(|part| bytes.extend_from_slice(part));
        }
    }
    bytes.into()
}

/// The value of `Access-Control-Allow-Credentials`.
pub(crate) static TRUE: HeaderValue = HeaderValue::from_static("true");

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::cors::{CorsConfiguration, Options, Policy};

    fn rule(origin: &str) -> CorsRule {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        CorsRule {
            id: Some("a name".to_owned()),
            allowed_origins: owned(&[origin, "https://*.example"]),
            allowed_methods: owned(&["GET", "PATCH"]),
            allowed_headers: owned(&["x-amz-*", "", "Range"]),
            expose_headers: owned(&["ETag", "", "x-amz-request-id"]),
            max_age_seconds: Some(600),
            timing_allow_origins: owned(&["https://a.example", "*"]),
            cross_origin_resource_policy: Some("same-site".to_owned()),
        }
    }

    #[test]
    fn a_policy_returns_the_configuration_it_was_compiled_from() {
        let plain = CorsRule {
            allowed_origins: vec!["*".to_owned()],
            allowed_methods: vec!["PUT".to_owned()],
            ..CorsRule::default()
        };
        let rules = vec![rule("https://app.example"), plain];
        let configuration = CorsConfiguration { rules };
        let options = Options {
            extra_methods: vec![Method::PATCH],
            ..Options::default()
        };
        let policy = Policy::compile(&configuration, options).unwrap();
        assert_eq!(policy.configuration(), Some(configuration));
    }

    #[test]
    fn rules_that_differ_only_in_origins_share_the_rest() {
        let mut grants = Grants::default();
        let mut compile = |rule: &CorsRule, credentials| {
            let grant = Grant::compile(rule, credentials);
            grants.share(grant)
        };
        let one = compile(&rule("https://one.example"), true);
        let other = compile(&rule("https://other.example"), true);
        assert!(Arc::ptr_eq(&one, &other));
        // A rule that never allows credentials has other fields.
        let any = compile(&rule("*"), false);
        assert!(!Arc::ptr_eq(&one, &any));
        let max_age_seconds = Some(601);
        let longer = CorsRule {
            max_age_seconds,
            ..rule("https://one.example")
        };
        assert!(!Arc::ptr_eq(&one, &compile(&longer, true)));
    }
}
