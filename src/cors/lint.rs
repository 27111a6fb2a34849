//! Rules that S3 accepts but that are probably mistakes.

use std::collections::HashMap;

use super::configuration::{CorsConfiguration, CorsRule, Element, ElementPath};
use super::doubtful_origin::{trusting, written_wrongly};
use super::extension::unused_resource_policy;
use super::origin_form::is_invisible;
use super::pattern::Wildcard;
use super::wide_origin::wide;

/// How long Chromium caches the response to a preflight at most, in seconds.
const CHROMIUM_MAX_AGE: u32 = 7_200;
/// The same for Firefox.
const FIREFOX_MAX_AGE: u32 = 86_400;

/// A part of a configuration that probably does not do what was intended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// Its stable name.
    pub code: &'static str,
    /// The place.
    pub path: ElementPath,
    /// What happens.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// Every code that [`lint`] can return.
pub const LINTS: [&str; 35] = [
    "any-origin-beside-others",
    "any-origin-writes",
    "duplicate-id",
    "etag-not-exposed",
    "header-is-method",
    "header-of-responses",
    "id-invisible-character",
    "max-age-above-browsers",
    "origin-any-of-scheme",
    "origin-any-with-credentials",
    "origin-default-port",
    "origin-empty",
    "origin-expression",
    "origin-host",
    "origin-invisible-character",
    "origin-list",
    "origin-no-scheme",
    "origin-not-ascii",
    "origin-null",
    "origin-open-end",
    "origin-path",
    "origin-plain-http",
    "origin-port",
    "origin-quotes",
    "origin-scheme",
    "origin-top-level-domain",
    "origin-trailing-slash",
    "origin-upper-case",
    "origin-user",
    "origin-white-space",
    "origin-wildcard-inside-label",
    "resource-policy-unused",
    "rule-never-matches",
    "rules-answer-in-turn",
    "upload-without-headers",
];

/// Finds probable mistakes, in document order.
#[must_use]
pub fn lint(configuration: &CorsConfiguration) -> Vec<Lint> {
    let mut lints = Vec::new();
    // A single rule has no earlier rules to compare with.
    let several = configuration
        .rules
        .iter()
        .filter(|_| configuration.rules.len() > 1);
    let rules: Vec<Compiled<'_>> = several.map(Compiled::of).collect();
    let mut ids: HashMap<&str, usize> = HashMap::new();
    for (index, rule) in configuration.rules.iter().enumerate() {
        let mut linting = Linting {
            index,
            rule,
            lints: &mut lints,
        };
        linting.origins();
        linting.answers();
        if let Some(id) = rule.id.as_deref().filter(|id| !id.is_empty()) {
            if let Some(first) = ids.get(id) {
                let message = format!("rule {} has the same ID `{id}`", first + 1);
                linting.add(
                    Element::Id,
                    0,
                    "duplicate-id",
                    message,
                    "give each rule its own ID",
                );
            } else {
                ids.insert(id, index);
            }
        }
        linting.headers();
        if let Some((code, message, hint)) = unused_resource_policy(&configuration.rules, index) {
            linting.add(Element::CrossOriginResourcePolicy, 0, code, message, hint);
        }
        let before = rules.get(..index).unwrap_or_default();
        if let Some(covering) = rules.get(index).and_then(|rule| rule.covered_by(before)) {
            lints.push(Lint {
                code: "rule-never-matches",
                path: ElementPath::Rule(index),
                message: format!(
                    "this rule never applies: {} everything that it allows, and the first rule that \
                     matches applies",
                    allowed_by(&covering)
                ),
                hint: "remove it, or make it the first rule".into(),
            });
        } else if let Some(rule) = rules.get(index)
            && let Some((earlier, method)) = rule.takes_turns_with(before)
        {
            lints.push(Lint {
                code: "rules-answer-in-turn",
                path: ElementPath::Rule(index),
                message: format!(
                    "this rule applies to preflights for {method} with headers that rule {number} does \
                     not allow, but rule {number} applies to the actual {method}: their responses \
                     differ",
                    number = earlier + 1
                ),
                hint: format!(
                    "move this rule before rule {}, or give both the same ExposeHeaders and origins",
                    earlier + 1
                ),
            });
        }
    }
    lints
}

/// Collects the lints of one rule.
struct Linting<'a> {
    index: usize,
    rule: &'a CorsRule,
    lints: &'a mut Vec<Lint>,
}

impl Linting<'_> {
    fn add(
        &mut self,
        element: Element,
        index: usize,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.lints.push(Lint {
            code,
            path: ElementPath::Value {
                rule: self.index,
                element,
                index,
            },
            message: message.into(),
            hint: hint.into(),
        });
    }

    fn origins(&mut self) {
        let origins = &self.rule.allowed_origins;
        let any = origins.iter().position(|origin| origin == "*");
        for (index, origin) in origins.iter().enumerate() {
            let found = written_wrongly(origin)
                .or_else(|| wide(origin))
                // With the lone `*`, the whole rule excludes credentials.
                .or_else(|| any.is_none().then(|| trusting(origin)).flatten());
            if let Some((code, message, hint)) = found {
                self.add(Element::AllowedOrigin, index, code, message, hint);
            }
        }
        let Some(any) = any else { return };
        if origins.iter().any(|origin| origin != "*") {
            let message = "the whole rule answers with `*`, without credentials: the other origins \
                           have no effect";
            let hint = "give the origins that need credentials their own rule before this one";
            let code = "any-origin-beside-others";
            self.add(Element::AllowedOrigin, any, code, message, hint);
        }
        let writes = |method: &&String| matches!(method.as_str(), "PUT" | "POST" | "DELETE");
        let writes: Vec<&str> = self
            .rule
            .allowed_methods
            .iter()
            .filter(writes)
            .map(String::as_str)
            .collect();
        if !writes.is_empty() {
            let message = format!("pages of every site can use {}", writes.join(", "));
            let hint = "list the origins that may write; use `*` only for GET and HEAD";
            self.add(
                Element::AllowedOrigin,
                any,
                "any-origin-writes",
                message,
                hint,
            );
        }
    }

    /// Headers that no script sends, and uploads without allowed headers.
    fn headers(&mut self) {
        for (index, name) in self.rule.allowed_headers.iter().enumerate() {
            let lower = name.to_ascii_lowercase();
            let methods = ["get", "put", "post", "delete", "head", "patch", "options"];
            let is_response = ["access-control-allow-", "access-control-expose-"]
                .iter()
                .any(|prefix| lower.starts_with(prefix))
                || lower == "access-control-max-age";
            if methods.contains(&&*lower) {
                let message =
                    format!("`{name}` is a method, but AllowedHeader lists header fields");
                let hint = format!(
                    "remove it, or write <AllowedMethod>{}</AllowedMethod>",
                    lower.to_ascii_uppercase()
                );
                self.add(
                    Element::AllowedHeader,
                    index,
                    "header-is-method",
                    message,
                    hint,
                );
            } else if is_response {
                let message = format!("`{name}` is a response field, which scripts do not send");
                let hint = "remove it; AllowedHeader lists the fields that scripts send";
                let code = "header-of-responses";
                self.add(Element::AllowedHeader, index, code, message, hint);
            }
        }
        if let Some(index) = self.rule.id.iter().position(|id| id.contains(is_invisible)) {
            let message = "the ID contains an invisible character";
            let code = "id-invisible-character";
            self.add(Element::Id, index, code, message, "remove it");
        }
        let mut methods = self.rule.allowed_methods.iter();
        if self.rule.allowed_headers.is_empty()
            && let Some(index) = methods.position(|method| method == "PUT")
        {
            let message = "no AllowedHeader: browsers ask for Content-Type before they upload a file \
                           with a type, and are refused";
            let hint = "add <AllowedHeader>content-type</AllowedHeader>, and x-amz-* for SDKs";
            let code = "upload-without-headers";
            self.add(Element::AllowedMethod, index, code, message, hint);
        }
    }

    fn answers(&mut self) {
        // Parts of an upload use PUT; a rule only for POST is for forms.
        let mut methods = self.rule.allowed_methods.iter();
        let upload = methods.position(|method| method == "PUT");
        let mut exposed = self.rule.expose_headers.iter();
        if let Some(index) = upload
            && !exposed.any(|name| name.eq_ignore_ascii_case("etag"))
        {
            let message = "ETag is not exposed: scripts that upload in parts cannot read it, so that \
                           completing the upload fails";
            let hint = "add <ExposeHeader>ETag</ExposeHeader>";
            self.add(
                Element::AllowedMethod,
                index,
                "etag-not-exposed",
                message,
                hint,
            );
        }
        if let Some(seconds) = self.rule.max_age_seconds
            && seconds > CHROMIUM_MAX_AGE
        {
            let browsers = if seconds > FIREFOX_MAX_AGE {
                format!(
                    "Chromium caches preflight responses for at most {CHROMIUM_MAX_AGE} seconds, Firefox \
                     for at most {FIREFOX_MAX_AGE}"
                )
            } else {
                format!(
                    "Chromium caches preflight responses for at most {CHROMIUM_MAX_AGE} seconds"
                )
            };
            let code = "max-age-above-browsers";
            let hint = format!("use at most {CHROMIUM_MAX_AGE}, which every browser honours");
            self.add(Element::MaxAgeSeconds, 0, code, browsers, hint);
        }
    }
}

/// A rule's compiled patterns, to compare rules.
struct Compiled<'a> {
    rule: &'a CorsRule,
    origins: Vec<Wildcard>,
    /// In lower case.
    headers: Vec<Wildcard>,
}

impl<'a> Compiled<'a> {
    fn of(rule: &'a CorsRule) -> Self {
        let patterns = |texts: &[String]| {
            let texts = texts.iter().filter(|text| !text.is_empty());
            texts
                .filter_map(|text| Wildcard::parse(&text.to_ascii_lowercase()).ok())
                .collect()
        };
        let origins = rule.allowed_origins.iter().filter(|text| !text.is_empty());
        Self {
            rule,
            origins: origins
                .filter_map(|text| Wildcard::parse(text).ok())
                .collect(),
            headers: patterns(&rule.allowed_headers),
        }
    }

    /// The earlier rules that together cover this one: for each of its origins and methods, one of
    /// them allows both, with all of its headers.
    fn covered_by(&self, earlier: &[Self]) -> Option<Vec<usize>> {
        if self.origins.is_empty() {
            return None;
        }
        let candidates: Vec<(usize, &Self)> = earlier
            .iter()
            .enumerate()
            .filter(|(_, rule)| {
                let mut headers = self.headers.iter();
                headers.all(|name| rule.headers.iter().any(|pattern| pattern.covers(name)))
            })
            .collect();
        let mut covering = Vec::new();
        for origin in &self.origins {
            for method in &self.rule.allowed_methods {
                let (index, _) = candidates.iter().find(|(_, rule)| {
                    rule.rule.allowed_methods.contains(method)
                        && rule.origins.iter().any(|pattern| pattern.covers(origin))
                })?;
                if !covering.contains(index) {
                    covering.push(*index);
                }
            }
        }
        covering.sort_unstable();
        Some(covering)
    }
}

impl Compiled<'_> {
    /// The earlier rule that applies to an actual request whose preflight this rule answers, if its
    /// response differs; with the method.
    ///
    /// A preflight names headers; the actual request does not, so the first rule with its origin
    /// and method applies.
    fn takes_turns_with(&self, earlier: &[Self]) -> Option<(usize, &str)> {
        let any = |rule: &CorsRule| rule.allowed_origins.iter().any(|origin| origin == "*");
        let exposed = |rule: &CorsRule| {
            let names = rule.expose_headers.iter();
            let mut names: Vec<String> = names.map(|name| name.to_ascii_lowercase()).collect();
            names.sort();
            names
        };
        earlier.iter().enumerate().find_map(|(index, before)| {
            let mut headers = self.headers.iter();
            let refuses =
                headers.any(|name| !before.headers.iter().any(|pattern| pattern.covers(name)));
            let differs =
                exposed(before.rule) != exposed(self.rule) || any(before.rule) != any(self.rule);
            let mut origins = self.origins.iter();
            let shares =
                origins.any(|origin| before.origins.iter().any(|pattern| pattern.covers(origin)));
            let mut methods = self.rule.allowed_methods.iter();
            let method = methods.find(|method| before.rule.allowed_methods.contains(method))?;
            (refuses && differs && shares).then_some((index, method.as_str()))
        })
    }
}

/// `rule 1 allows`, counting rules from 1.
fn allowed_by(rules: &[usize]) -> String {
    let numbers: Vec<String> = rules.iter().map(|index| (index + 1).to_string()).collect();
    match numbers.as_slice() {
        [one] => format!("rule {one} allows"),
        several => format!("rules {} together allow", several.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(inner: &str) -> String {
        format!("<CORSRule>{inner}</CORSRule>")
    }

    fn origin(text: &str) -> String {
        rule(&format!(
            "<AllowedOrigin>{text}</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
        ))
    }

    fn lints(rules: &str) -> Vec<Lint> {
        let xml = format!("<CORSConfiguration>{rules}</CORSConfiguration>");
        lint(&CorsConfiguration::from_xml(xml.as_bytes()).unwrap())
    }

    fn codes(rules: &str) -> Vec<&'static str> {
        lints(rules).iter().map(|lint| lint.code).collect()
    }

    #[test]
    fn each_lint_fires_only_on_its_example() {
        let get = "<AllowedMethod>GET</AllowedMethod>";
        let put = "<AllowedMethod>PUT</AllowedMethod>";
        let app = "<AllowedOrigin>https://app.example</AllowedOrigin>";
        let any = "<AllowedOrigin>*</AllowedOrigin>";
        let etag = "<ExposeHeader>Etag</ExposeHeader>";
        let typed = "<AllowedHeader>content-type</AllowedHeader>";
        let max_age = |seconds: u32| {
            rule(&format!(
                "{app}{get}<MaxAgeSeconds>{seconds}</MaxAgeSeconds>"
            ))
        };
        let with_headers = |origin: &str, headers: &[&str]| {
            let headers = headers.iter();
            let headers: String = headers
                .map(|name| format!("<AllowedHeader>{name}</AllowedHeader>"))
                .collect();
            rule(&format!("{origin}{get}{headers}"))
        };
        let cases: Vec<(&str, String)> = vec![
            (
                "any-origin-beside-others",
                rule(&format!("{app}{any}{get}")),
            ),
            (
                "any-origin-writes",
                rule(&format!("{any}{get}{put}{typed}{etag}")),
            ),
            (
                "duplicate-id",
                rule(&format!("<ID>a</ID>{app}{get}")) + &rule(&format!("<ID>a</ID>{any}{get}")),
            ),
            ("etag-not-exposed", rule(&format!("{app}{put}{typed}"))),
            ("header-is-method", with_headers(app, &["GET"])),
            ("header-is-method", with_headers(app, &["Options"])),
            (
                "header-of-responses",
                with_headers(app, &["Access-Control-Allow-Origin"]),
            ),
            (
                "header-of-responses",
                with_headers(app, &["access-control-expose-*"]),
            ),
            (
                "id-invisible-character",
                rule(&format!("<ID>a\u{200b}</ID>{app}{get}")),
            ),
            ("max-age-above-browsers", max_age(7_201)),
            ("max-age-above-browsers", max_age(604_800)),
            ("origin-any-of-scheme", origin("moz-extension://*")),
            ("origin-any-of-scheme", origin("chrome-extension://abc*")),
            ("origin-any-of-scheme", origin("capacitor://*")),
            ("origin-any-with-credentials", origin("http*")),
            ("origin-any-with-credentials", origin("https://*:8443")),
            ("origin-any-with-credentials", origin("https://*")),
            ("origin-any-with-credentials", origin("h*")),
            ("origin-default-port", origin("https://app.example:443")),
            ("origin-default-port", origin("http://localhost:80")),
            ("origin-empty", origin("")),
            ("origin-expression", origin(r"^https://.*\.app\.example$")),
            ("origin-host", origin("https://.app.example")),
            (
                "origin-invisible-character",
                origin("\u{feff}https://app.example"),
            ),
            (
                "origin-invisible-character",
                origin("https://app\u{200b}.example"),
            ),
            (
                "origin-invisible-character",
                origin("https://\u{202e}app.example"),
            ),
            ("origin-list", origin("https://a.example;https://b.example")),
            ("origin-list", origin("https://a.example,https://b.example")),
            ("origin-list", origin("https://a.example https://b.example")),
            ("origin-no-scheme", origin("app.example")),
            ("origin-no-scheme", origin("localhost:3000")),
            ("origin-no-scheme", origin("//app.example")),
            ("origin-no-scheme", origin("*.app.example")),
            ("origin-not-ascii", origin("https://bücher.example")),
            ("origin-null", origin("null")),
            ("origin-open-end", origin("https://app.example*")),
            ("origin-open-end", origin("https://app.*")),
            ("origin-path", origin("https://app.example/index.html")),
            ("origin-plain-http", origin("http://app.example")),
            ("origin-plain-http", origin("http://*.app.example")),
            ("origin-plain-http", origin("http*://app.example")),
            ("origin-port", origin("https://app.example:65536")),
            ("origin-quotes", origin("'https://app.example'")),
            ("origin-scheme", origin("htps://app.example")),
            ("origin-top-level-domain", origin("https://*.com")),
            ("origin-top-level-domain", origin("http://*.de:*")),
            ("origin-top-level-domain", origin("https://*com")),
            ("origin-top-level-domain", origin("*.xn--p1ai")),
            ("origin-trailing-slash", origin("https://app.example/")),
            ("origin-upper-case", origin("https://App.example")),
            ("origin-user", origin("https://me@app.example")),
            ("origin-white-space", origin(" https://app.example")),
            (
                "origin-wildcard-inside-label",
                origin("https://*app.example"),
            ),
            ("origin-wildcard-inside-label", origin("*app.example")),
            (
                "origin-wildcard-inside-label",
                origin("https://a*p.example"),
            ),
            (
                "resource-policy-unused",
                rule(&format!(
                    "{app}<AllowedMethod>HEAD</AllowedMethod>\
                     <CrossOriginResourcePolicy xmlns=\"urn:s3cors\">same-site</CrossOriginResourcePolicy>"
                )),
            ),
            (
                "rule-never-matches",
                rule(&format!("{any}{get}")) + &rule(&format!("{app}{get}")),
            ),
            (
                "rule-never-matches",
                with_headers(app, &["x-*", "Range"]) + &with_headers(app, &["range", "X-Amz-Date"]),
            ),
            (
                "rule-never-matches",
                rule(&format!("{app}{get}"))
                    + &rule(&format!("{app}<AllowedMethod>HEAD</AllowedMethod>"))
                    + &rule(&format!("{app}<AllowedMethod>HEAD</AllowedMethod>{get}")),
            ),
            (
                "rules-answer-in-turn",
                rule(&format!("{any}{get}"))
                    + &rule(&format!(
                        "{app}{get}<AllowedHeader>x-a</AllowedHeader>{etag}"
                    )),
            ),
            (
                "rules-answer-in-turn",
                rule(&format!("{app}{get}"))
                    + &rule(&format!(
                        "{app}{get}<AllowedHeader>range</AllowedHeader>{etag}"
                    )),
            ),
            ("upload-without-headers", rule(&format!("{app}{put}{etag}"))),
            (
                "upload-without-headers",
                rule(&format!("{app}{get}{put}{etag}")),
            ),
        ];
        for (code, document) in &cases {
            assert_eq!(codes(document), [*code], "{document}");
        }
        let mut seen: Vec<&str> = cases.iter().map(|(code, _)| *code).collect();
        seen.dedup();
        assert_eq!(seen, LINTS);
    }

    #[test]
    fn correct_rules_cause_no_lints() {
        let clean = [
            origin("*"),
            origin("https://app.example"),
            origin("https://app.example:8443"),
            origin("https://*.app.example"),
            origin("https://preview-*.app.example"),
            origin("https://pr-*-shop.app.example"),
            origin("https://*.app.com"),
            origin("https://*.test"),
            origin("https://*.localhost:3000"),
            origin("http://localhost:3000"),
            origin("http://localhost:*"),
            origin("http://app.localhost:5173"),
            origin("http://*.localhost:5173"),
            origin("http://127.0.0.1:5173"),
            origin("capacitor://localhost"),
            origin("https://a.example") + &origin("https://b.example"),
            // Not the same methods, and the wider rule comes later.
            origin("https://a.example") + &origin("https://*.example").replace("GET", "HEAD"),
            origin("https://a.example") + &origin("*"),
            // The first rule allows no headers, so the second has an effect.
            origin("https://a.example")
                + &origin("https://a.example")
                    .replace("</CORSRule>", "<AllowedHeader>a</AllowedHeader></CORSRule>"),
            rule(
                "<ID>a</ID><AllowedOrigin>https://a.example</AllowedOrigin>\
                 <AllowedMethod>PUT</AllowedMethod><AllowedHeader>*</AllowedHeader>\
                 <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>7200</MaxAgeSeconds>",
            ),
            // A form sends no headers that need a preflight, and reads no ETag.
            rule(
                "<AllowedOrigin>https://a.example</AllowedOrigin>\
                 <AllowedMethod>POST</AllowedMethod>",
            ),
        ];
        for document in &clean {
            assert_eq!(codes(document), [""; 0], "{document}");
        }
    }

    #[test]
    fn each_lint_has_a_place_and_a_hint() {
        let found = lints(&(origin("https://a.example") + &origin("B.example:443/x")));
        let expected = ElementPath::Value {
            rule: 1,
            element: Element::AllowedOrigin,
            index: 0,
        };
        assert_eq!(found[0].path, expected);
        assert_eq!(found[0].hint, "write `https://b.example`");
    }
}
