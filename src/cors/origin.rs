//! How an origin differs from the pattern that was probably meant for it, in terms that a person
//! would use.

use std::fmt;

use super::origin_repair::{as_sent, repaired};
use super::pattern::Wildcard;
use super::spelling::distance;

/// A reason why a pattern does not match an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OriginDifference {
    /// The pattern has white space around it.
    WhiteSpace,
    /// The pattern ends with a slash or a path; an origin never does.
    Path,
    /// The pattern has upper-case letters; browsers send origins in lower case.
    Case,
    /// The pattern has the scheme's default port, which browsers omit.
    DefaultPort,
    /// The pattern has no scheme; origins always begin with one.
    NoScheme,
    /// The pattern is in another form that no browser sends: with quotation marks, as a regular
    /// expression, or with invisible characters.
    Form,
    /// The schemes differ.
    Scheme,
    /// The ports differ, or only one has a port.
    Port,
    /// One has `localhost`, the other its address.
    Loopback,
    /// One begins with `www.`, the other does not.
    Www,
    /// The pattern requires a subdomain of the origin's host.
    Apex,
    /// The origin's host is a subdomain of the pattern's.
    SubDomain,
    /// The hosts differ by a letter or two.
    Spelling,
    /// The hosts differ, but belong to the same domain.
    SameDomain,
    /// The hosts have nothing in common.
    Host,
}

impl OriginDifference {
    /// Whether the pattern cannot match any browser's origin in this form.
    #[must_use]
    pub fn is_slip(self) -> bool {
        self < Self::Scheme
    }

    /// Whether the pattern was most probably meant for the origin's site.
    #[must_use]
    pub fn is_close(self) -> bool {
        self < Self::Spelling
    }

    /// The weight of this difference.
    fn cost(self) -> usize {
        match self {
            Self::WhiteSpace
            | Self::Path
            | Self::Case
            | Self::DefaultPort
            | Self::NoScheme
            | Self::Form => 1,
            Self::Scheme => 2,
            Self::Port | Self::Loopback | Self::Www => 3,
            Self::Apex => 4,
            Self::SubDomain => 5,
            Self::Spelling => 8,
            Self::SameDomain => 20,
            Self::Host => 100,
        }
    }
}

impl fmt::Display for OriginDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WhiteSpace => "the rule's origin has white space around it",
            Self::Path => "the rule's origin ends with a slash or a path, which no origin has",
            Self::Case => "the rule's origin has upper-case letters, which browsers do not send",
            Self::DefaultPort => {
                "the rule's origin has the scheme's default port, which browsers omit"
            }
            Self::NoScheme => "the rule's origin has no scheme",
            Self::Form => "the rule's origin is not in the form that browsers send",
            Self::Scheme => "the schemes differ",
            Self::Port => "the ports differ",
            Self::Loopback => "`localhost` and its address are different origins",
            Self::Www => "one begins with `www.`, the other does not",
            Self::Apex => "the rule requires a subdomain",
            Self::SubDomain => "the request's origin is a subdomain",
            Self::Spelling => "the hosts are spelled differently",
            Self::SameDomain => "the hosts differ, but belong to the same domain",
            Self::Host => "the hosts differ",
        })
    }
}

/// The pattern of a rule closest to an origin, and why it does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosestOrigin {
    /// The index among the rule's origins, from 0.
    pub index: usize,
    /// The pattern.
    pub pattern: String,
    /// The differences.
    pub differences: Vec<OriginDifference>,
}

impl ClosestOrigin {
    /// The closest of a rule's origins, if none of them matches `origin`.
    pub(super) fn among(patterns: &[String], origin: &str) -> Option<Self> {
        patterns
            .iter()
            .enumerate()
            .map(|(index, pattern)| Self {
                index,
                pattern: pattern.clone(),
                differences: differences(pattern, origin),
            })
            .min_by_key(|closest| closest.cost(origin))
    }

    /// The distance between the two. Close ones have a smaller distance than unrelated hosts.
    pub(super) fn cost(&self, origin: &str) -> usize {
        let differences = self.differences.iter().map(|difference| difference.cost());
        let sum: usize = differences.sum();
        // Between unrelated hosts, spelling decides.
        if sum >= OriginDifference::SameDomain.cost() {
            sum * 1000 + distance(&self.pattern, origin)
        } else {
            sum * 1000
        }
    }

    /// Whether the pattern was most probably meant for the origin's site.
    #[must_use]
    pub fn is_close(&self) -> bool {
        self.differences
            .iter()
            .all(|difference| difference.is_close())
    }

    /// The corrected pattern, if only its form is wrong.
    #[must_use]
    pub fn corrected(&self, origin: &str) -> Option<String> {
        let written_wrongly = self
            .differences
            .iter()
            .all(|difference| difference.is_slip());
        let corrected = match *self.differences {
            [OriginDifference::Form] => repaired(&self.pattern)?,
            _ => CorrectedPattern::of(&self.pattern, origin).text,
        };
        (written_wrongly && corrected != self.pattern).then_some(corrected)
    }
}

/// The origin in the form that browsers send, if `origin` is in another form.
pub(crate) fn as_browsers_write(origin: &str) -> Option<String> {
    as_sent(origin).filter(|written| !written.contains('*'))
}

/// Corrects a pattern that cannot match any browser's origin; also returns what was wrong.
pub(super) fn corrected(pattern: &str) -> (String, Vec<OriginDifference>) {
    let local = ["localhost", "127."]
        .iter()
        .any(|host| pattern.starts_with(host));
    let CorrectedPattern { text, slips } =
        CorrectedPattern::of(pattern, if local { "http://" } else { "https://" });
    (text, slips)
}

/// The differences between `pattern` and `origin`.
fn differences(pattern: &str, origin: &str) -> Vec<OriginDifference> {
    let CorrectedPattern { text, mut slips } = CorrectedPattern::of(pattern, origin);
    if matches(&text, origin) {
        return slips;
    }
    if repaired(pattern).is_some_and(|right| matches(&right, origin)) {
        return vec![OriginDifference::Form];
    }
    let rule = PatternParts::of(&text);
    let request = PatternParts::of(origin);
    if let (Some(rule), Some(request)) = (rule.scheme, request.scheme)
        && !matches(rule, request)
    {
        slips.push(OriginDifference::Scheme);
    }
    let port_is_free = rule.port.is_none() && rule.host.ends_with('*');
    if !port_is_free && !matches(rule.port.unwrap_or(""), request.port.unwrap_or("")) {
        slips.push(OriginDifference::Port);
    }
    match host_difference(rule.host, request.host) {
        // Between unrelated hosts, other differences do not matter.
        Some(OriginDifference::Host) => return vec![OriginDifference::Host],
        difference => slips.extend(difference),
    }
    if slips.is_empty() {
        // No split between scheme, host and port explains the difference.
        slips.push(OriginDifference::Host);
    }
    slips
}

fn host_difference(rule: &str, request: &str) -> Option<OriginDifference> {
    if matches(rule, request) {
        return None;
    }
    let without_www = |host: &str| host.strip_prefix("www.").map(str::to_owned);
    let www = without_www(rule).is_some_and(|rule| matches(&rule, request))
        || without_www(request).is_some_and(|request| matches(rule, &request));
    let below = |host: &str, parent: &str| {
        !parent.is_empty()
            && host
                .strip_suffix(parent)
                .is_some_and(|head| head.ends_with('.'))
    };
    let local = |host: &str| host == "localhost" || host.starts_with("127.") || host == "[::1]";
    Some(if local(rule) && local(request) {
        OriginDifference::Loopback
    } else if www {
        OriginDifference::Www
    } else if rule.strip_prefix("*.") == Some(request) || below(rule, request) {
        OriginDifference::Apex
    } else if below(request, rule) {
        OriginDifference::SubDomain
    } else if rule.len().min(request.len()) > 4 && distance(rule, request) <= 2 {
        OriginDifference::Spelling
    } else if domain(rule).is_some() && domain(rule) == domain(request) {
        OriginDifference::SameDomain
    } else {
        OriginDifference::Host
    })
}

/// The last two labels of a host name.
fn domain(host: &str) -> Option<&str> {
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let (rest, last) = host.rsplit_once('.')?;
    let second = rest.rsplit('.').next()?;
    if numeric(last) || second.contains('*') || last.contains('*') {
        return None;
    }
    host.get(host.len() - second.len() - 1 - last.len()..)
}

fn matches(pattern: &str, value: &str) -> bool {
    Wildcard::parse(pattern).is_ok_and(|pattern| pattern.matches(value.as_bytes()))
}

/// A pattern, corrected so that it can match a browser's origin.
struct CorrectedPattern {
    text: String,
    slips: Vec<OriginDifference>,
}

impl CorrectedPattern {
    fn of(pattern: &str, origin: &str) -> Self {
        let mut slips = Vec::new();
        let mut text = pattern.trim().to_owned();
        if text.len() != pattern.len() {
            slips.push(OriginDifference::WhiteSpace);
        }
        let authority = match text.find("://") {
            Some(at) => at + 3,
            None if text.starts_with("//") => 2,
            None => 0,
        };
        let path = |text: &str| {
            let rest = text.get(authority..)?;
            rest.find(['/', '?', '#']).map(|at| authority + at)
        };
        if let Some(end) = path(&text)
            && end > authority
        {
            text.truncate(end);
            slips.push(OriginDifference::Path);
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            text.make_ascii_lowercase();
            slips.push(OriginDifference::Case);
        }
        if let Some((scheme, _)) = origin.split_once("://")
            && !text.contains("://")
            && !text
                .split_once('*')
                .is_some_and(|(before, _)| format!("{scheme}://").starts_with(before))
            && !text.is_empty()
            && text != "null"
        {
            text = format!("{scheme}://{}", text.trim_start_matches('/'));
            slips.push(OriginDifference::NoScheme);
        }
        for (scheme, port) in [("https://", ":443"), ("http://", ":80")] {
            if text.starts_with(scheme) && text.len() > scheme.len() + port.len() {
                let length = text.len();
                if text.ends_with(port) {
                    text.truncate(length - port.len());
                    slips.push(OriginDifference::DefaultPort);
                }
            }
        }
        Self { text, slips }
    }
}

struct PatternParts<'a> {
    scheme: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
}

impl<'a> PatternParts<'a> {
    fn of(text: &'a str) -> Self {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let is_port = |port: &str| port == "*" || port.bytes().all(|byte| byte.is_ascii_digit());
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if is_port(port) => (host, Some(port)),
            _ => (rest, None),
        };
        Self { scheme, host, port }
    }
}

#[cfg(test)]
mod tests {
    use OriginDifference::*;

    use super::*;

    #[test]
    fn differences_are_described_in_a_persons_terms() {
        let cases: &[(&str, &str, &[OriginDifference])] = &[
            ("https://a.example/", "https://a.example", &[Path]),
            ("https://a.example/app?b", "https://a.example", &[Path]),
            ("https://*.a.example/", "https://b.a.example", &[Path]),
            (" https://a.example", "https://a.example", &[WhiteSpace]),
            ("https://A.example", "https://a.example", &[Case]),
            ("https://a.example:443", "https://a.example", &[DefaultPort]),
            (
                "http://a.example:80",
                "https://a.example",
                &[DefaultPort, Scheme],
            ),
            ("a.example", "https://a.example", &[NoScheme]),
            ("//a.example/", "https://a.example", &[Path, NoScheme]),
            ("http://a.example", "https://a.example", &[Scheme]),
            ("http://localhost", "http://localhost:3000", &[Port]),
            ("http://localhost:3000", "http://localhost:5173", &[Port]),
            (
                "http://localhost:3000",
                "https://localhost:8443",
                &[Scheme, Port],
            ),
            ("http://[::1]:3000", "http://[::1]:4000", &[Port]),
            ("https://www.a.example", "https://a.example", &[Www]),
            ("https://a.example", "https://www.a.example", &[Www]),
            ("https://*.a.example", "https://a.example", &[Apex]),
            ("https://b.a.example", "https://a.example", &[Apex]),
            ("https://a.example", "https://b.a.example", &[SubDomain]),
            ("https://a.exmaple", "https://a.example", &[Spelling]),
            (
                "https://app.a.example",
                "https://static.a.example",
                &[SameDomain],
            ),
            ("https://b.example", "https://shop.acme.test", &[Host]),
            ("http://localhost", "http://127.0.0.1", &[Loopback]),
            ("https://app-*", "http://app-1:8080", &[Scheme]),
            ("http://*:3000", "http://a.example:4000", &[Port]),
            ("http*://a.example", "https://b.test", &[Host]),
            ("", "https://a.example", &[Host]),
            ("https://a.example", "null", &[Host]),
        ];
        for (pattern, origin, expected) in cases {
            assert_eq!(
                differences(pattern, origin),
                *expected,
                "{pattern} {origin}"
            );
        }
    }

    #[test]
    fn the_closest_pattern_is_the_one_a_person_would_pick() {
        let cases: &[(&[&str], &str, usize)] = &[
            (
                &["https://b.example", "http://a.example"],
                "https://a.example",
                1,
            ),
            (
                &["http://a.example", "https://a.example/"],
                "https://a.example",
                1,
            ),
            (
                &["https://a.test", "https://*.a.example"],
                "https://a.example",
                1,
            ),
            (
                &["https://c.a.example", "https://a.example"],
                "https://b.a.example",
                1,
            ),
            (
                &["https://shop.test", "https://static.a.example"],
                "https://app.a.example",
                1,
            ),
        ];
        for (patterns, origin, expected) in cases {
            let patterns: Vec<String> = patterns.iter().map(|text| (*text).into()).collect();
            let closest = ClosestOrigin::among(&patterns, origin).unwrap();
            assert_eq!(closest.index, *expected, "{patterns:?} {origin}");
        }
    }

    #[test]
    fn only_malformed_patterns_are_corrected() {
        let corrected = |pattern: &str, origin: &str| {
            ClosestOrigin::among(&[pattern.into()], origin)
                .unwrap()
                .corrected(origin)
        };
        let origin = "https://b.a.example";
        assert_eq!(
            corrected("b.A.example:443/", origin).as_deref(),
            Some("https://b.a.example")
        );
        assert_eq!(
            corrected("https://*.a.example/", origin).as_deref(),
            Some("https://*.a.example")
        );
        assert_eq!(corrected("http://b.a.example", origin), None);
        assert_eq!(corrected("http://b.a.example/", origin), None);
    }

    #[test]
    fn browsers_send_a_scheme_but_no_path_capitals_or_default_port() {
        for (origin, expected) in [
            ("a.example", Some("https://a.example")),
            ("//a.example/", Some("https://a.example")),
            ("localhost:3000", Some("http://localhost:3000")),
            ("https://a.example/", Some("https://a.example")),
            ("HTTPS://A.example:443", Some("https://a.example")),
            ("https://a.example:8443", None),
            ("null", None),
            ("whatever", None),
            ("file://", None),
            ("chrome-extension://abc", None),
        ] {
            assert_eq!(as_browsers_write(origin).as_deref(), expected, "{origin}");
        }
    }
}
