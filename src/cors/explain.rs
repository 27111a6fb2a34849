//! Why a policy decided as it did: data for the command line, the console and the log.

use http::{HeaderMap, Method};

use super::advice::Advice;
use super::configuration::{CorsRule, Element};
use super::decision::Decision;
use super::note::Note;
use super::origin::ClosestOrigin;
use super::outcome::{Failure, Match, Outcome, Refusal, RuleAnswer};
use super::policy::{Policy, PolicyQuery};
use super::request::{CorsRequest, Kind};
use super::rule::{Condition, Mismatch, Rule};

/// A policy's decision on a request, with its reasons.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// A preflight or an actual request; `None`: not a CORS request.
    pub kind: Option<Kind>,
    /// What was decided.
    pub outcome: Outcome,
    /// The result of each rule; empty if no rule was checked.
    pub rules: Vec<RuleAnswer>,
    /// The fields that the policy adds to a response without any.
    pub fields: HeaderMap,
    /// Further remarks.
    pub notes: Vec<Note>,
}

impl Policy {
    /// Explains the decision that [`decide`](Self::decide) makes, using the same predicate.
    #[must_use]
    pub fn explain(&self, method: &Method, fields: &HeaderMap) -> Explanation {
        let asked = self.query(method, fields);
        let rules = match &asked {
            PolicyQuery::Rules(_, request) => self.answers(request),
            PolicyQuery::NotCors | PolicyQuery::Nothing(..) => Vec::new(),
        };
        let decision = self.decide(method, fields);
        let kind = match &decision {
            Decision::NotCors => None,
            Decision::Preflight(_) => Some(Kind::Preflight),
            Decision::Actual(_) => Some(Kind::Actual),
        };
        let outcome = match &decision {
            Decision::NotCors => Outcome::NotCors,
            Decision::Preflight(Ok(allowance)) | Decision::Actual(Ok(allowance)) => {
                Outcome::Allowed(self.matched(allowance.pattern, allowance.any_origin))
            }
            Decision::Preflight(Err(denial)) | Decision::Actual(Err(denial)) => {
                Outcome::Refused(Refusal {
                    nearest: nearest(&asked, &rules).or(denial.nearest),
                    advice: Advice::on(self, denial, method, fields),
                    denial: denial.clone(),
                })
            }
        };
        let notes = self.notes(kind, &outcome, method, fields);
        let mut marked = HeaderMap::new();
        self.mark(decision, &mut marked);
        Explanation {
            kind,
            outcome,
            rules,
            fields: marked,
            notes,
        }
    }

    /// The rule nearest to allowing a request, counted from 0, and the conditions that it fails;
    /// `None`: no rule was checked, or one allows the request.
    #[cfg(feature = "proxy")]
    pub(crate) fn nearest_rule(&self, request: &CorsRequest<'_>) -> Option<(usize, Vec<Failure>)> {
        let mut rules = self.answers(request);
        let nearest = nearest_to(request.origin, &rules)?;
        let failures = std::mem::take(&mut rules.get_mut(nearest)?.failures);
        Some((nearest, failures)).filter(|(_, failures)| !failures.is_empty())
    }

    fn matched(&self, pattern: usize, any_origin: bool) -> Match {
        let behind = |rule: &&Rule| rule.first_pattern <= pattern;
        let text = self.origin_patterns().nth(pattern);
        Match {
            rule: self
                .rules()
                .iter()
                .take_while(behind)
                .count()
                .saturating_sub(1),
            pattern: text.map(ToString::to_string).unwrap_or_default(),
            pattern_index: pattern,
            any_origin,
        }
    }

    fn answers(&self, request: &CorsRequest<'_>) -> Vec<RuleAnswer> {
        self.rules()
            .iter()
            .map(|rule| RuleAnswer {
                id: rule.id().map(Into::into),
                failures: failures(rule, &rule.written(), request),
            })
            .collect()
    }
}

/// Every failed condition of a rule; the first one is the rule's mismatch.
fn failures(rule: &Rule, written: &CorsRule, request: &CorsRequest<'_>) -> Vec<Failure> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Some(mismatch) = rule.mismatch(request) else {
        return Vec::new();
    };
    let mut failures = Vec::new();
    if !rule.allows_origin(request.origin) {
        let origin = text(request.origin);
        failures.push(Failure {
            condition: Condition::Origin,
            expected: written.allowed_origins.clone(),
            closest: ClosestOrigin::among(&written.allowed_origins, &origin),
            actual: vec![origin],
        });
    }
    if !rule.grant.allows_method(request.method) {
        failures.push(Failure {
            condition: Condition::Method,
            expected: written.allowed_methods.clone(),
            actual: vec![text(request.method)],
            closest: None,
        });
    }
    let malformed = matches!(mismatch, Mismatch::MalformedHeader(_));
    let missing: Vec<String> = request
        .headers
        .names()
        .filter(|name| !rule.grant.allows_header(name))
        .map(text)
        .collect();
    if malformed || !missing.is_empty() {
        failures.push(Failure {
            condition: Condition::Header,
            expected: written.allowed_headers.clone(),
            actual: missing,
            closest: None,
        });
    }
    failures
}

/// The rule that a person would call the nearest.
fn nearest(asked: &PolicyQuery<'_>, rules: &[RuleAnswer]) -> Option<usize> {
    let PolicyQuery::Rules(origin, _) = asked else {
        return None;
    };
    nearest_to(origin.as_bytes(), rules)
}

/// The rule that a person would call the nearest: among those whose first failure comes last, the
/// one with the closest origin, then the one with the fewest failures.
fn nearest_to(origin: &[u8], rules: &[RuleAnswer]) -> Option<usize> {
    let origin = String::from_utf8_lossy(origin);
    let reached = |rule: &RuleAnswer| rule.failures.first().map(|failure| failure.condition);
    let furthest = rules.iter().map(reached).max()?;
    let distance = |rule: &RuleAnswer| {
        let closest = rule
            .failures
            .first()
            .and_then(|failure| failure.closest.as_ref());
        closest.map_or(0, |closest| closest.cost(&origin))
    };
    let missed = |rule: &RuleAnswer| {
        let failures = rule.failures.iter();
        failures.map(|failure| failure.actual.len()).sum::<usize>()
    };
    rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| reached(rule) == furthest)
        .min_by_key(|(index, rule)| (distance(rule), missed(rule), *index))
        .map(|(index, _)| index)
}

impl Condition {
    /// The element that states it.
    #[must_use]
    pub fn element(self) -> Element {
        match self {
            Self::Origin => Element::AllowedOrigin,
            Self::Method => Element::AllowedMethod,
            Self::Header => Element::AllowedHeader,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;
    use crate::cors::change::{Edit, LetsIn};
    use crate::cors::configuration::CorsConfiguration;
    use crate::cors::decision::Cause;
    use crate::cors::options::Options;

    const ORIGINS: [&str; 5] = [
        "https://a.example",
        "http://a.example",
        "https://x.a.example",
        "https://b.test",
        "null",
    ];
    const PATTERNS: [&str; 9] = [
        "https://a.example",
        "http://a.example",
        "https://b.test",
        "null",
        "https://a.example/",
        "B.test:443",
        "https://*.a.example",
        "http*",
        "*",
    ];
    const METHODS: [&str; 3] = ["GET", "PUT", "DELETE"];
    const HEADERS: [&str; 3] = ["a", "b", "x-1"];

    fn some(all: &'static [&'static str], least: usize) -> impl Strategy<Value = Vec<String>> {
        subsequence(all, least..=all.len().min(3)).prop_map(|values| {
            let values = values.into_iter();
            values.map(ToString::to_string).collect()
        })
    }

    prop_compose! {
        fn any_rule()(
            allowed_origins in some(&PATTERNS, 1),
            allowed_methods in some(&METHODS, 1),
            allowed_headers in some(&["A", "b", "x-*", "*"], 0),
            expose_headers in some(&["ETag"], 0),
        ) -> CorsRule {
            CorsRule { allowed_origins, allowed_methods, allowed_headers, expose_headers, ..CorsRule::default() }
        }
    }

    prop_compose! {
        fn any_configuration()(rules in vec(any_rule(), 1..4)) -> CorsConfiguration {
            CorsConfiguration { rules }
        }
    }

    fn preflight(origin: &str, method: &str, headers: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert(http::header::ORIGIN, origin.parse().unwrap());
        fields.insert(ACCESS_CONTROL_REQUEST_METHOD, method.parse().unwrap());
        if !headers.is_empty() {
            let names = HeaderValue::from_str(&headers.join(",")).unwrap();
            fields.insert(ACCESS_CONTROL_REQUEST_HEADERS, names);
        }
        fields
    }

    /// Every possible preflight with these origins, methods and headers.
    fn every_preflight() -> Vec<HeaderMap> {
        let mut all = Vec::new();
        for origin in ORIGINS {
            for method in METHODS {
                for set in 0..1 << HEADERS.len() {
                    let listed = HEADERS.iter().enumerate();
                    let listed = listed.filter(|(index, _)| set & (1 << index) != 0);
                    let headers: Vec<&str> = listed.map(|(_, name)| *name).collect();
                    all.push(preflight(origin, method, &headers));
                }
            }
        }
        all
    }

    fn answer(policy: &Policy, fields: &HeaderMap) -> (bool, HeaderMap) {
        let decision = policy.decide(&Method::OPTIONS, fields);
        let allowed = matches!(decision, Decision::Preflight(Ok(_)));
        let mut marked = HeaderMap::new();
        policy.mark(decision, &mut marked);
        (allowed, marked)
    }

    fn compile(configuration: &CorsConfiguration) -> Policy {
        Policy::compile(configuration, Options::default()).unwrap()
    }

    proptest! {
        #[test]
        fn explanation_and_decision_agree(
            configuration in any_configuration(),
            origin in select(&ORIGINS[..]),
            method in select(&["GET", "PUT", "DELETE", "PATCH", "get", "OPTIONS"][..]),
            asked in subsequence(&HEADERS, 0..3),
            bad in select(&["", ",?", ", x/y"][..]),
            real in select(&["OPTIONS", "GET", "PUT"][..]),
        ) {
            let policy = compile(&configuration);
            let mut fields = preflight(origin, method, &asked);
            if !bad.is_empty() {
                fields.append(ACCESS_CONTROL_REQUEST_HEADERS, bad.parse().unwrap());
            }
            let real = Method::from_bytes(real.as_bytes()).unwrap();
            let explanation = policy.explain(&real, &fields);
            let first = explanation.rules.iter().position(|rule| rule.failures.is_empty());
            match policy.decide(&real, &fields) {
                Decision::NotCors => prop_assert!(matches!(explanation.outcome, Outcome::NotCors)),
                Decision::Preflight(Ok(allowance)) | Decision::Actual(Ok(allowance)) => {
                    let Outcome::Allowed(matched) = &explanation.outcome else {
                        return Err(TestCaseError::fail("not explained as allowed"));
                    };
                    prop_assert_eq!(Some(matched.rule), first);
                    prop_assert_eq!(matched.pattern_index, allowance.pattern());
                    let origins = &configuration.rules[matched.rule].allowed_origins;
                    prop_assert!(origins.contains(&matched.pattern));
                }
                Decision::Preflight(Err(denial)) | Decision::Actual(Err(denial)) => {
                    let Outcome::Refused(refusal) = &explanation.outcome else {
                        return Err(TestCaseError::fail("not explained as refused"));
                    };
                    prop_assert_eq!(&refusal.denial, &denial);
                    prop_assert_eq!(first, None);
                    if let Cause::NoRule(condition) = denial.cause() {
                        let nearest = &explanation.rules[refusal.nearest.unwrap()];
                        prop_assert_eq!(nearest.failures[0].condition, *condition);
                    }
                }
            }
        }

        /// The change allows the request, takes nothing away, and allows no more than it claims.
        #[test]
        fn a_suggested_change_allows_exactly_what_it_claims(
            configuration in any_configuration(),
            origin in select(&ORIGINS[..]),
            method in select(&METHODS[..]),
            asked in subsequence(&HEADERS, 0..3),
        ) {
            let policy = compile(&configuration);
            let fields = preflight(origin, method, &asked);
            let Outcome::Refused(refusal) = policy.explain(&Method::OPTIONS, &fields).outcome else {
                return Ok(());
            };
            let Advice::Change(change) = refusal.advice else {
                return Err(TestCaseError::fail(format!("{:?}", refusal.advice)));
            };
            let changed = compile(&change.apply(&configuration));
            prop_assert!(answer(&changed, &fields).0, "{change:?}");
            let replaces = change.edits.iter().any(|edit| matches!(edit, Edit::ReplaceOrigin { .. }));
            for other in every_preflight() {
                let (before, fields_before) = answer(&policy, &other);
                let (after, fields_after) = answer(&changed, &other);
                if before {
                    prop_assert!(after, "{other:?} under {change:?}");
                    let methods = http::header::ACCESS_CONTROL_ALLOW_METHODS;
                    let wider = change.edits.iter().any(|edit| {
                        matches!(edit, Edit::Add { element: Element::AllowedMethod, .. })
                    });
                    if !replaces {
                        for (name, value) in &fields_before {
                            let same = fields_after.get(name) == Some(value);
                            prop_assert!(same || (wider && name == methods), "{other:?} {change:?}");
                        }
                    }
                } else if after {
                    let said = change.lets_in.iter().any(|lets_in| covers(lets_in, &other));
                    prop_assert!(said, "{other:?} under {change:?}");
                }
            }
        }
    }

    /// Whether the claim covers a request.
    fn covers(lets_in: &LetsIn, fields: &HeaderMap) -> bool {
        let field = |name| {
            fields
                .get(name)
                .map_or("", |value: &HeaderValue| value.to_str().unwrap())
        };
        let origin = field(http::header::ORIGIN);
        let method = field(ACCESS_CONTROL_REQUEST_METHOD);
        let asked = field(ACCESS_CONTROL_REQUEST_HEADERS);
        let matches = |pattern: &str| {
            let pattern = crate::cors::Wildcard::parse(pattern).unwrap();
            pattern.matches(origin.as_bytes())
        };
        match lets_in {
            LetsIn::Origin { pattern, .. } => matches(pattern),
            LetsIn::Method { method: more, .. } => more == method,
            LetsIn::Header { name, .. } => asked.split(',').any(|asked| asked == name),
            LetsIn::Request {
                origin: one,
                method: more,
                headers,
            } => {
                one == origin
                    && more == method
                    && asked
                        .split(',')
                        .all(|name| name.is_empty() || headers.iter().any(|header| header == name))
            }
        }
    }
}
