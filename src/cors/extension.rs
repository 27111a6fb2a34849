//! Extensions of S3's rules, as elements of the namespace `urn:s3cors`: the response fields
//! `Timing-Allow-Origin` and `Cross-Origin-Resource-Policy`.
//!
//! Both fields also matter for requests without `Origin`, which browsers send for embedded images
//! and scripts. Such a response gets each field from the first rule that lists GET, the method of
//! embedding, and that has a value independent of the origin.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::configuration::CorsRule;
use super::origin_form::{Found, is_canonical};

/// The namespace of the elements that extend S3's document.
pub const EXTENSION_NAMESPACE: &str = "urn:s3cors";

/// The values of `Cross-Origin-Resource-Policy` ([Fetch]).
///
/// [Fetch]: https://fetch.spec.whatwg.org/#cross-origin-resource-policy-header
pub const RESOURCE_POLICIES: [&str; 3] = ["same-origin", "same-site", "cross-origin"];

/// [Resource Timing]'s field.
///
/// [Resource Timing]: https://www.w3.org/TR/resource-timing/#sec-timing-allow-origin
pub(super) static TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");
pub(super) static RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// The extension elements of a rule, as response fields.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Extension {
    /// The `TimingAllowOrigin`s as written.
    timing_origins: Box<[Box<str>]>,
    pub(super) timing: Option<Timing>,
    pub(super) resource_policy: Option<HeaderValue>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Timing {
    /// The same for every request.
    Fixed(HeaderValue),
    /// The origin that matched.
    MatchedOrigin,
}

impl Extension {
    /// Compiles the elements of a checked rule; `None`: it has none. With `any_origin`, the rule
    /// allows the lone `*`.
    pub(super) fn compile(rule: &CorsRule, any_origin: bool) -> Option<Box<Self>> {
        const CHECKED: &str = "the configuration was checked";
        let value = |text: &str| HeaderValue::from_str(text).expect(CHECKED);
        let timing = match rule.timing_allow_origins.as_slice() {
            [] => None,
            [one] if one.is_empty() && any_origin => Some(Timing::Fixed(value("*"))),
            [one] if one.is_empty() => Some(Timing::MatchedOrigin),
            origins => Some(Timing::Fixed(value(&origins.join(", ")))),
        };
        let resource_policy = rule.cross_origin_resource_policy.as_deref().map(value);
        let origins = rule.timing_allow_origins.iter();
        (timing.is_some() || resource_policy.is_some()).then(|| {
            Box::new(Self {
                timing_origins: origins.map(|origin| origin.as_str().into()).collect(),
                timing,
                resource_policy,
            })
        })
    }

    /// Adds the elements to the rule that they were compiled from.
    pub(super) fn write_to(&self, rule: &mut CorsRule) {
        let origins = self.timing_origins.iter();
        rule.timing_allow_origins = origins.map(ToString::to_string).collect();
        let policy = self.resource_policy.as_ref();
        rule.cross_origin_resource_policy = policy
            .and_then(|policy| policy.to_str().ok())
            .map(Into::into);
    }

    /// The fields of a response to a request that the rule matched; `allow_origin` is the value of
    /// `Access-Control-Allow-Origin`.
    pub(super) fn insert_into(&self, allow_origin: &HeaderValue, fields: &mut HeaderMap) {
        let timing = self.timing.as_ref().map(|timing| match timing {
            Timing::Fixed(value) => value,
            Timing::MatchedOrigin => allow_origin,
        });
        insert(&TIMING_ALLOW_ORIGIN, timing, fields);
        insert(&RESOURCE_POLICY, self.resource_policy.as_ref(), fields);
    }

    /// Like [`insert_into`](Self::insert_into), as lines; returns which fields were written.
    #[cfg(feature = "proxy")]
    pub(super) fn write(&self, allow_origin: &[u8], out: &mut Vec<u8>) -> ReplacedFields {
        let timing = self.timing.as_ref().map(|timing| match timing {
            Timing::Fixed(value) => value.as_bytes(),
            Timing::MatchedOrigin => allow_origin,
        });
        ReplacedFields {
            timing: write(&TIMING_ALLOW_ORIGIN, timing, out),
            resource_policy: write(
                &RESOURCE_POLICY,
                self.resource_policy.as_ref().map(HeaderValue::as_bytes),
                out,
            ),
        }
    }
}

/// The fields beyond CORS that the policy sets in place of the upstream's.
#[cfg(feature = "proxy")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplacedFields {
    pub(super) timing: bool,
    pub(super) resource_policy: bool,
}

#[cfg(feature = "proxy")]
impl ReplacedFields {
    /// Whether the upstream's field `name` is replaced, ignoring letter case.
    pub(crate) fn includes(self, name: &str) -> bool {
        self.timing && name.eq_ignore_ascii_case(TIMING_ALLOW_ORIGIN.as_str())
            || self.resource_policy && name.eq_ignore_ascii_case(RESOURCE_POLICY.as_str())
    }

    /// Which of them a header map has.
    pub(crate) fn among(fields: &HeaderMap) -> Self {
        Self {
            timing: fields.contains_key(&TIMING_ALLOW_ORIGIN),
            resource_policy: fields.contains_key(&RESOURCE_POLICY),
        }
    }
}

/// What is wrong with the `TimingAllowOrigin` at `index`, and what to do; `None`: it is valid.
pub(super) fn timing_fault(origins: &[String], index: usize) -> Option<(String, String)> {
    let origin = origins.get(index)?;
    if origin.is_empty() {
        return (origins.len() > 1).then(|| {
            (
                "an empty TimingAllowOrigin is combined with others".into(),
                "make it the only one in its rule, or remove it: empty means the origin that matched"
                    .into(),
            )
        });
    }
    let is_exact = !origin.contains('*') || origin == "*";
    if is_exact && is_canonical(origin) {
        return None;
    }
    let hint = match origin.as_str() {
        "true" | "yes" => "leave the element empty for the origin that matched the rule",
        _ if !is_exact => {
            "the field does not support patterns: leave the element empty for the origin that matched the \
             rule, or write `*`"
        }
        _ => {
            "write an origin in the form that browsers send (`https://app.example.com`) or `*`, or leave the \
             element empty for the origin that matched the rule"
        }
    };
    let detail = format!("the TimingAllowOrigin `{origin}` is not an origin");
    Some((detail, hint.into()))
}

/// Warns about a `CrossOriginResourcePolicy` that browsers never check: they check the field on
/// embedded responses, and those requests have no `Origin`.
pub(super) fn unused_resource_policy(rules: &[CorsRule], index: usize) -> Option<Found> {
    let lists_get = |rule: &CorsRule| rule.allowed_methods.iter().any(|method| method == "GET");
    let rule = rules.get(index)?;
    let policy = rule.cross_origin_resource_policy.as_deref()?;
    let (message, hint) = if !lists_get(rule) {
        (
            "browsers check this field when a page embeds a response, with GET, but this rule \
             does not allow GET"
                .to_owned(),
            "move it to a rule that allows GET".to_owned(),
        )
    } else {
        let mut earlier = rules.iter().enumerate().take(index);
        let (number, other) = earlier.find_map(|(number, rule)| {
            let other = rule.cross_origin_resource_policy.as_deref();
            other
                .filter(|_| lists_get(rule))
                .map(|other| (number + 1, other))
        })?;
        if other == policy {
            return None;
        }
        (
            format!(
                "requests for embedded content have no Origin, so that rule {number} answers with \
                 `{other}`: browsers never check this value"
            ),
            format!("use the same value in both rules, or remove it here (rule {number} has it)"),
        )
    };
    Some(("resource-policy-unused", message, hint))
}

pub(crate) fn insert(name: &HeaderName, value: Option<&HeaderValue>, fields: &mut HeaderMap) {
    if let Some(value) = value {
        fields.insert(name, value.clone());
    }
}

/// Writes a field if it has a value; returns whether it has.
#[cfg(feature = "proxy")]
pub(super) fn write(name: &HeaderName, value: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
    if let Some(value) = value {
        for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    value.is_some()
}

#[cfg(test)]
mod tests {
    use http::Method;
    use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};

    use super::*;
    use crate::cors::{CorsConfiguration, Options, Policy, check_document};

    fn rule(origin: &str, methods: &[&str], inner: &str) -> String {
        let methods = methods.iter();
        let methods: String = methods
            .map(|method| format!("<AllowedMethod>{method}</AllowedMethod>"))
            .collect();
        format!("<CORSRule><AllowedOrigin>{origin}</AllowedOrigin>{methods}{inner}</CORSRule>")
    }

    fn document(rules: &[String]) -> String {
        format!(
            "<CORSConfiguration xmlns:s=\"urn:s3cors\">{}</CORSConfiguration>",
            rules.concat()
        )
    }

    fn policy(rules: &[String]) -> Policy {
        let checked = check_document(document(rules).as_bytes(), Options::default());
        checked
            .policy
            .unwrap_or_else(|| panic!("{:#?}", checked.problems))
    }

    fn timing(value: &str) -> String {
        format!("<s:TimingAllowOrigin>{value}</s:TimingAllowOrigin>")
    }

    fn resource_policy(value: &str) -> String {
        format!("<s:CrossOriginResourcePolicy>{value}</s:CrossOriginResourcePolicy>")
    }

    /// Both fields of a response to a request, if the upstream set them too.
    fn marked(policy: &Policy, method: &str, origin: Option<&str>) -> [String; 2] {
        let mut request = HeaderMap::new();
        if let Some(origin) = origin {
            request.insert(ORIGIN, origin.parse().unwrap());
        }
        if method == "OPTIONS" {
            request.insert(ACCESS_CONTROL_REQUEST_METHOD, "GET".parse().unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut fields = HeaderMap::new();
        for name in [&TIMING_ALLOW_ORIGIN, &RESOURCE_POLICY] {
            fields.append(name, "upstream".parse().unwrap());
        }
        policy.mark(policy.decide(&method, &request), &mut fields);
        [&TIMING_ALLOW_ORIGIN, &RESOURCE_POLICY].map(|name| {
            let values: Vec<_> = fields.get_all(name).iter().collect();
            assert_eq!(values.len(), 1, "{values:?}");
            values[0].to_str().unwrap().to_owned()
        })
    }

    #[test]
    fn a_response_gets_the_fields_of_the_rule_that_matched() {
        let policy = policy(&[
            rule("https://*.a.test", &["GET"], &timing("")),
            rule("https://b.test", &["PUT"], &resource_policy("same-site")),
            rule(
                "*",
                &["GET", "DELETE"],
                &(timing("") + &resource_policy("cross-origin")),
            ),
        ]);
        let cases = [
            (
                "GET",
                Some("https://x.a.test"),
                ["https://x.a.test", "upstream"],
            ),
            ("PUT", Some("https://b.test"), ["upstream", "same-site"]),
            ("DELETE", Some("https://b.test"), ["*", "cross-origin"]),
            // No rule matches: the value of the first rule that lists GET and has a value for every
            // origin.
            ("PUT", Some("https://c.test"), ["*", "cross-origin"]),
            ("GET", None, ["*", "cross-origin"]),
            // The response to a preflight is never embedded.
            ("OPTIONS", Some("https://b.test"), ["upstream", "upstream"]),
            ("OPTIONS", None, ["*", "cross-origin"]),
        ];
        for (method, origin, expected) in cases {
            assert_eq!(
                marked(&policy, method, origin),
                expected,
                "{method} {origin:?}"
            );
        }
    }

    #[test]
    fn without_a_rule_for_get_unmatched_responses_stay_unchanged() {
        let put = rule(
            "*",
            &["PUT"],
            &(timing("*") + &resource_policy("same-site")),
        );
        let by_origin = rule("https://a.test", &["GET"], &timing(""));
        for policy in [policy(&[put]), policy(&[by_origin])] {
            assert_eq!(marked(&policy, "GET", None), ["upstream", "upstream"]);
        }
    }

    #[test]
    fn several_origins_become_one_list() {
        let inner = timing("https://rum.test") + &timing("https://b.test:8443");
        let policy = policy(&[rule("https://a.test", &["GET"], &inner)]);
        let list = "https://rum.test, https://b.test:8443";
        for origin in [None, Some("https://a.test"), Some("https://c.test")] {
            assert_eq!(marked(&policy, "GET", origin), [list, "upstream"]);
        }
    }

    #[test]
    fn a_document_with_extensions_survives_a_round_trip() {
        let inner = timing("") + &resource_policy("same-origin");
        let rules = [
            rule("*", &["GET"], &inner),
            rule("*", &["PUT"], &timing("*")),
        ];
        let policy = policy(&rules);
        let configuration = policy.configuration().unwrap();
        let xml = configuration.to_xml();
        assert_eq!(
            CorsConfiguration::from_xml(xml.as_bytes()),
            Ok(configuration)
        );
    }

    #[test]
    fn an_invalid_extension_value_is_refused_with_its_place() {
        let cases = [
            (
                timing("https://a.test/"),
                "https://a.test/",
                "`https://app.example.com`",
            ),
            (
                timing("https://*.a.test"),
                "https://*.a.test",
                "does not support patterns",
            ),
            (timing("a.test"), "a.test", "in the form that browsers send"),
            (
                timing("HTTPS://A.test"),
                "HTTPS://A.test",
                "in the form that browsers send",
            ),
            (timing("true"), "true", "leave the element empty"),
            (
                timing("*") + &timing(""),
                "<s:TimingAllowOrigin>",
                "the only one in its rule",
            ),
            (resource_policy("same-orgin"), "same-orgin", "`same-origin`"),
            (
                resource_policy("Cross-Origin"),
                "Cross-Origin",
                "`cross-origin`",
            ),
            (
                resource_policy(""),
                "<s:CrossOriginResourcePolicy>",
                "same-site",
            ),
            (
                resource_policy("same-site") + &resource_policy("same-site"),
                "<s:CrossOriginResourcePolicy>",
                "keep one",
            ),
        ];
        for (inner, place, hint) in cases {
            let document = document(&[rule("*", &["GET"], &inner)]);
            let checked = check_document(document.as_bytes(), Options::default());
            assert!(checked.policy.is_none(), "{inner}");
            let [problem] = checked.problems.as_slice() else {
                panic!("{:#?}", checked.problems)
            };
            assert_eq!(problem.code, "MalformedXML");
            assert_eq!(&document[problem.span.clone().unwrap()], place);
            let said = problem.hint.clone().unwrap_or_default();
            assert!(said.contains(hint), "{inner}: {said}");
        }
    }

    #[test]
    fn s3_exact_has_no_extensions() {
        let inner = timing("") + &resource_policy("same-site");
        let document = document(&[rule("*", &["GET"], &inner)]);
        let options = Options {
            semantics: crate::cors::Semantics::S3Exact,
            ..Options::default()
        };
        let checked = check_document(document.as_bytes(), options);
        assert!(checked.policy.is_none());
        let places = checked.problems.iter().map(|problem| problem.span.clone());
        let places: Vec<&str> = places.map(|span| &document[span.unwrap()]).collect();
        assert_eq!(places, ["<s:TimingAllowOrigin>", "same-site"]);
        let detail = checked.problems[0].detail.as_deref().unwrap();
        assert!(detail.contains("\"s3-exact\""), "{detail}");
    }

    #[test]
    fn a_resource_policy_that_no_browser_checks_causes_a_warning() {
        let same = || resource_policy("same-site");
        let cases = [
            (
                vec![rule("https://a.test", &["PUT"], &same())],
                Some("does not allow GET"),
            ),
            (
                vec![
                    rule("https://a.test", &["GET"], &same()),
                    rule("https://b.test", &["GET"], &resource_policy("cross-origin")),
                ],
                Some("rule 1 answers with `same-site`"),
            ),
            (
                vec![
                    rule("https://a.test", &["GET"], &same()),
                    rule("https://b.test", &["GET"], &same()),
                ],
                None,
            ),
            (
                vec![
                    rule("https://a.test", &["GET"], ""),
                    rule("https://b.test", &["GET"], &same()),
                ],
                None,
            ),
        ];
        for (rules, expected) in cases {
            let checked = check_document(document(&rules).as_bytes(), Options::default());
            let mut warnings = checked.problems.iter();
            let found = warnings.find(|problem| problem.code == "resource-policy-unused");
            assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
            if let (Some(found), Some(expected)) = (found, expected) {
                assert!(found.message.contains(expected), "{}", found.message);
            }
        }
    }
}
