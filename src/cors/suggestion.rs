//! Finds the smallest change of a configuration that lets a refused request in.
//!
//! Every rule could be mended, and a rule of its own would always do. Which of them is named:
//!
//! 1. A rule is mended only where that is what its author probably meant: a new origin joins the
//!    rule where it is close to one that is there (scheme, port, `www.`, slash, sub-domain) or
//!    where the rule allows nothing but reading besides; a method that writes joins only where
//!    every origin is written out; a header joins always. What is close by is mended in one
//!    respect or in several, what is a stranger in only one.
//! 2. Never where a later rule answers for some of what the rule would now answer for: that
//!    would change responses that are right today. An origin that is only written wrongly
//!    (slash, capitals, the scheme's own port) is put right all the same.
//! 3. Of what is left: the fewest elements, then the fewest others who gain by it, then the
//!    nearest origin, then the first.
//! 4. Where nothing is left: a rule at the end that allows this request and no other.

use super::change::{Edit, LetsIn, Origins, SuggestedChange};
use super::configuration::{CorsRule, Element};
use super::origin::ClosestOrigin;
use super::policy::Policy;
use super::request::CorsRequest;
use super::rule::Rule;
use super::validation::MAX_RULES;
use super::xml::MAX_DOCUMENT;

impl SuggestedChange {
    /// The smallest change after which `policy` allows `request`, which it refuses.
    pub(super) fn find(policy: &Policy, request: &CorsRequest<'_>) -> Option<Self> {
        let wanted = Wanted::of(request)?;
        let configuration = policy.configuration().unwrap_or_default();
        let rules = policy.rules().iter().zip(&configuration.rules);
        let mut candidates: Vec<Candidate> = rules
            .enumerate()
            .map(|(index, (rule, written))| {
                Candidate::mending(policy, index, rule, written, &wanted)
            })
            .collect();
        candidates.sort_by_key(|candidate| candidate.rank);
        let works = |change: &Self| {
            let changed = change.apply(&configuration);
            changed.to_xml().len() <= MAX_DOCUMENT
                && Policy::compile(&changed, policy.options().clone()).is_ok_and(|policy| {
                    policy
                        .rules()
                        .iter()
                        .any(|rule| rule.judge(request).is_ok())
                })
        };
        let (fitting, others): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|candidate| candidate.fits);
        let own_rule = (configuration.rules.len() < MAX_RULES).then(|| wanted.own_rule());
        // A configuration that has no room for a rule has to take what there is.
        let fitting = fitting.into_iter().map(|candidate| candidate.change);
        let others = others.into_iter().map(|candidate| candidate.change);
        fitting.chain(own_rule).chain(others).find(works)
    }
}

/// What a request asks for, as elements would say it.
struct Wanted<'r> {
    origin: &'r str,
    method: &'r str,
    /// In lower case, each once.
    headers: Vec<String>,
}

impl<'r> Wanted<'r> {
    fn of(request: &CorsRequest<'r>) -> Option<Self> {
        let mut headers: Vec<String> = Vec::new();
        for name in request.headers.names() {
            let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
            if !headers.contains(&name) {
                headers.push(name);
            }
        }
        Some(Self {
            origin: std::str::from_utf8(request.origin).ok()?,
            method: std::str::from_utf8(request.method).ok()?,
            headers,
        })
    }

    fn own_rule(&self) -> SuggestedChange {
        SuggestedChange {
            edits: vec![Edit::AddRule(CorsRule {
                allowed_origins: vec![self.origin.into()],
                allowed_methods: vec![self.method.into()],
                allowed_headers: self.headers.clone(),
                ..CorsRule::default()
            })],
            lets_in: vec![LetsIn::Request {
                origin: self.origin.into(),
                method: self.method.into(),
                headers: self.headers.clone(),
            }],
        }
    }
}

/// A rule as it could be mended.
struct Candidate {
    change: SuggestedChange,
    /// Whether it is what the rule is for.
    fits: bool,
    /// Elements, others who gain, distance of the origins, place.
    rank: (usize, u8, usize, usize),
}

impl Candidate {
    fn mending(
        policy: &Policy,
        index: usize,
        rule: &Rule,
        written: &CorsRule,
        wanted: &Wanted<'_>,
    ) -> Self {
        let mut mending = Mending {
            index,
            rule,
            written,
            wanted,
            later: policy.rules().get(index + 1..).unwrap_or_default(),
            origins: Origins::of(written),
            edits: Vec::new(),
            lets_in: Vec::new(),
            fits: true,
        };
        let closest = mending.origin();
        mending.method(closest.as_ref());
        mending.headers();

        let Mending {
            edits,
            lets_in,
            fits,
            ..
        } = mending;
        let mut others = lets_in.iter().map(LetsIn::others).max().unwrap_or_default();
        if closest.is_some() && lets_in.len() > 1 {
            // What is new for the origin is new for those of the rule.
            others = others.max(1);
        }
        let distance = closest.map_or(0, |closest| closest.cost(wanted.origin));
        Self {
            rank: (edits.len(), others, distance, index),
            change: SuggestedChange { edits, lets_in },
            fits,
        }
    }
}

/// A rule while it is being mended.
struct Mending<'a> {
    index: usize,
    rule: &'a Rule,
    written: &'a CorsRule,
    wanted: &'a Wanted<'a>,
    later: &'a [Rule],
    origins: Origins,
    edits: Vec<Edit>,
    lets_in: Vec<LetsIn>,
    fits: bool,
}

impl Mending<'_> {
    /// Lets the origin in; the one of the rule's that it is closest to, where it was not in.
    fn origin(&mut self) -> Option<ClosestOrigin> {
        let origin = self.wanted.origin;
        if self.rule.allows_origin(origin.as_bytes()) {
            return None;
        }
        let closest = ClosestOrigin::among(&self.written.allowed_origins, origin)?;
        let reads_only = |method: &String| is_read(method) || method == self.wanted.method;
        self.fits &= closest.is_close() || self.written.allowed_methods.iter().all(reads_only);
        let mended = closest.corrected(origin);
        let pattern = mended.clone().unwrap_or(origin.to_owned());
        match mended {
            // What is only written wrongly was meant to come before the later rules.
            Some(to) => self.edits.push(Edit::ReplaceOrigin {
                rule: self.index,
                index: closest.index,
                from: closest.pattern.clone(),
                to,
            }),
            None => {
                self.add(Element::AllowedOrigin, origin);
                self.unless_later(|rule, later, wanted| {
                    (later.grant.shares_a_method(&rule.grant)
                        || later.grant.allows_method(wanted.method.as_bytes()))
                        && later.allows_origin(wanted.origin.as_bytes())
                });
            }
        }
        self.lets_in.push(LetsIn::Origin {
            pattern,
            methods: self.written.allowed_methods.clone(),
            headers: self.written.allowed_headers.clone(),
        });
        Some(closest)
    }

    fn method(&mut self, closest: Option<&ClosestOrigin>) {
        let method = self.wanted.method;
        if self.rule.grant.allows_method(method.as_bytes()) {
            return;
        }
        self.add(Element::AllowedMethod, method);
        let written_out = matches!(self.origins, Origins::One(_) | Origins::Listed(_));
        self.fits &= written_out || is_read(method);
        self.fits &= closest.is_none_or(ClosestOrigin::is_close);
        self.unless_later(|rule, later, wanted| {
            later.grant.allows_method(wanted.method.as_bytes()) && later.shares_an_origin(rule)
        });
        self.lets_in.push(LetsIn::Method {
            method: method.into(),
            origins: self.origins.clone(),
        });
    }

    fn headers(&mut self) {
        let wanted = self.wanted;
        for name in &wanted.headers {
            if self.rule.grant.allows_header(name.as_bytes()) {
                continue;
            }
            self.add(Element::AllowedHeader, name);
            self.unless_later(|rule, later, _| {
                later.grant.allows_header(name.as_bytes())
                    && later.grant.shares_a_method(&rule.grant)
                    && later.shares_an_origin(rule)
            });
            self.lets_in.push(LetsIn::Header {
                name: name.clone(),
                origins: self.origins.clone(),
            });
        }
    }

    fn add(&mut self, element: Element, value: &str) {
        self.edits.push(Edit::Add {
            rule: self.index,
            element,
            value: value.into(),
        });
    }

    /// The rule does not fit where it would take something from a later one.
    fn unless_later(&mut self, takes: impl Fn(&Rule, &Rule, &Wanted<'_>) -> bool) {
        let mut later = self.later.iter();
        self.fits &= !later.any(|later| takes(self.rule, later, self.wanted));
    }
}

/// Methods that only read.
fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}
