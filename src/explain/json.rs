//! The explanation as JSON.

use http::HeaderMap;
use serde_json::{Value, json};

use crate::cors::fetch::Credentials;
use crate::cors::{Condition, Explanation, Failure, Match, Outcome, RuleAnswer, Semantics};
use crate::routing::bucket::{Addressing, Ambiguity};
use crate::text::timestamp::Timestamp;

use super::advice_json::{advice, remedy_json};
use super::curl::Entrance;
use super::exchange::Exchange;
use super::exchange_json::verdict_to_json;
use super::home::Home;
use super::reach::Place;
use super::words::{failure_text, unambiguous, why};
use super::{Hypothetical, RouteExplanation, Scope, Served, Verdict, curl};

/// The context of an answer besides the policy.
#[derive(Clone, Copy, Default)]
struct Context<'c> {
    /// The place of a missing configuration.
    home: Option<&'c Home>,
    /// The places that the changed file applies to.
    places: &'c [Place],
    /// The proxy's listeners.
    entrances: &'c [Entrance],
}

impl RouteExplanation {
    /// The explanation as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let served = self.served.as_ref();
        let mut document = json!({
            "verdict": self.verdict().as_str(),
            "summary": self.summary(),
            "request": request(&self.request),
            "same_origin": self.same_origin,
            "route": served.map(route),
            "bucket": served.and_then(bucket),
            "policy": served.and_then(policy),
            "known_hosts": self.known_hosts,
            "preflight": null,
            "actual": null,
            "browser": null,
            "unreadable": [],
        });
        if let Some(exchange) = &self.exchange {
            let home = served.and_then(Home::of);
            let context = Context {
                home: home.as_ref(),
                places: &self.places,
                entrances: &self.entrances,
            };
            exchange.fill_in(&self.request, context, &mut document);
            if self.same_origin {
                // The script is not refused: there is nothing to fix, and nothing is withheld
                // from it.
                for asked in ["preflight", "actual"] {
                    if let Some(decision) = document.get_mut(asked) {
                        merge(decision, json!({ "advice": null, "notes": [] }));
                    }
                }
            }
        }
        document
    }
}

impl Exchange {
    /// The answers of a policy without a route, in the same form as a route's.
    #[must_use]
    pub fn to_json(&self, hypothetical: &Hypothetical) -> Value {
        let verdict = if self.is_allowed() {
            Verdict::Allowed
        } else {
            Verdict::Refused
        };
        let mut document = json!({
            "verdict": verdict.as_str(),
            "summary": self.summary(),
            "request": request(hypothetical),
        });
        self.fill_in(hypothetical, Context::default(), &mut document);
        document
    }

    fn fill_in(&self, request: &Hypothetical, context: Context<'_>, document: &mut Value) {
        let Context {
            home,
            places,
            entrances,
        } = context;
        let reasons: Vec<_> = self
            .preflight_reasons
            .iter()
            .map(ToString::to_string)
            .collect();
        let error = self.preflight_error.as_ref();
        let error = error.map(|(code, message)| json!({ "code": code, "message": message }));
        let mut preflight = decision(&self.preflight, home, places, self.ambiguity);
        merge(
            &mut preflight,
            json!({
                "needed": self.needs_preflight(),
                "reasons": reasons,
                "requested_headers": self.requested_headers,
                "safelisted_headers": self.safelisted_headers,
                "forbidden_headers": self.forbidden_headers,
                "status": self.preflight_status.as_u16(),
                "error": error,
                "curl": curl::preflight(&request.url, self, entrances),
            }),
        );
        let mut actual = decision(&self.actual, home, places, self.ambiguity);
        let line = curl::actual(&request.url, self, entrances);
        merge(
            &mut actual,
            json!({ "method": self.method.as_str(), "curl": line }),
        );
        if let Some(remedy) = self
            .browser
            .as_ref()
            .and_then(|browser| browser.remedy.as_ref())
        {
            let advice = remedy_json(remedy, places);
            merge(&mut actual, json!({ "advice": advice }));
        }
        if self.is_malformed() {
            // Commands and a request that follows would say that a browser can send it.
            merge(&mut preflight, json!({ "curl": null }));
            actual = Value::Null;
        }
        let browser = self.browser.as_ref();
        merge(
            document,
            json!({
                "preflight": preflight,
                "actual": actual,
                "browser": browser.map(|browser| verdict_to_json(&browser.verdict)),
                "unreadable": browser.map_or(&[][..], |browser| &browser.unreadable),
            }),
        );
    }
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

fn request(request: &Hypothetical) -> Value {
    json!({
        "url": request.url,
        "origin": request.origin,
        "method": request.method,
        "headers": request.headers,
        "credentials": match request.credentials {
            Credentials::Omit => "omit",
            Credentials::SameOrigin => "same-origin",
            Credentials::Include => "include",
        },
        "read": request.read,
    })
}

fn route(served: &Served) -> Value {
    let upstreams = served.route.upstreams.iter();
    let upstreams: Vec<_> = upstreams.map(|upstream| upstream.to_string()).collect();
    json!({
        "name": served.route.name,
        "host_pattern": served.host.to_string(),
        "upstreams": upstreams,
    })
}

fn bucket(served: &Served) -> Option<Value> {
    let bucket = served.bucket.as_ref()?;
    Some(json!({
        "name": bucket.name,
        "address": match bucket.addressing {
            Addressing::Path => "path",
            Addressing::Host => "host",
            Addressing::Both => "both",
        },
        "has_policy": served.scope == Scope::Bucket,
        "ambiguous": served.ambiguity().map(|ambiguity| ambiguity.to_string()),
    }))
}

fn policy(served: &Served) -> Option<Value> {
    let policy = served.policy.as_ref()?;
    let source = &policy.source;
    let file = source.file.as_ref();
    Some(json!({
        "scope": match served.scope {
            Scope::Bucket => "bucket",
            Scope::Route => "route",
            Scope::NotEnabled | Scope::Transparent | Scope::Ambiguous(_) => "none",
        },
        "file": file.map(|file| file.display().to_string()),
        "content_hash": source.content_hash.map(|hash| hash.to_string()).unwrap_or_default(),
        "loaded_at": source.loaded_at.map(|time| Timestamp::new(time).to_string()),
        "last_error": source.last_error,
        "semantics": match policy.policy.semantics() {
            Semantics::Safe => "safe",
            Semantics::S3Exact => "s3-exact",
        },
    }))
}

/// An [`Explanation`] as JSON. `home`: the place of a missing configuration; `places`: what its
/// file applies to.
fn decision(
    explanation: &Explanation,
    home: Option<&Home>,
    places: &[Place],
    ambiguity: Option<Ambiguity>,
) -> Value {
    let rules: Vec<_> = (1..)
        .zip(&explanation.rules)
        .map(|(number, answer)| rule(number, answer))
        .collect();
    let notes = explanation.notes.iter();
    let notes: Vec<_> = notes
        .map(|note| json!({ "code": note.code(), "text": note.to_string() }))
        .collect();
    let mut decision = json!({
        "rules": rules,
        "fields": fields(&explanation.fields),
        "notes": notes,
        "matched": null,
        "nearest_rule": null,
        "advice": null,
    });
    let outcome = match &explanation.outcome {
        Outcome::NotCors => json!({ "outcome": "not_cors", "reason": null, "message": null }),
        Outcome::Allowed(allowed) => json!({
            "outcome": "allowed",
            "reason": "matched",
            "message": null,
            "matched": matched(allowed),
        }),
        Outcome::Refused(refusal) => json!({
            "outcome": "refused",
            "reason": refusal.reason().as_str(),
            "message": why(explanation, refusal, ambiguity),
            "nearest_rule": refusal.nearest.map(|index| index + 1),
            "advice": ambiguity.map_or_else(
                || advice(&refusal.advice, home, places),
                |ambiguity| json!({ "kind": "request", "text": unambiguous(ambiguity) }),
            ),
        }),
    };
    merge(&mut decision, outcome);
    decision
}

fn matched(matched: &Match) -> Value {
    json!({
        "rule": matched.rule + 1,
        "allowed_origin": matched.pattern,
        "any_origin": matched.any_origin,
    })
}

fn rule(number: usize, answer: &RuleAnswer) -> Value {
    let failures: Vec<_> = answer.failures.iter().map(failure).collect();
    json!({
        "rule": number,
        "id": answer.id,
        "matches": answer.failures.is_empty(),
        "failures": failures,
    })
}

fn failure(failure: &Failure) -> Value {
    let closest = failure.closest.as_ref().map(|closest| {
        let differences = closest.differences.iter();
        let differences: Vec<_> = differences.map(ToString::to_string).collect();
        json!({ "allowed_origin": closest.pattern, "differences": differences })
    });
    json!({
        "condition": match failure.condition {
            Condition::Origin => "origin",
            Condition::Method => "method",
            Condition::Header => "header",
        },
        "element": failure.condition.element().name(),
        "expected": failure.expected,
        "actual": failure.actual,
        "closest": closest,
        "text": failure_text(failure),
    })
}

fn fields(fields: &HeaderMap) -> Vec<Value> {
    fields
        .iter()
        .map(|(name, value)| {
            json!({
                "name": name.as_str(),
                "value": String::from_utf8_lossy(value.as_bytes()),
            })
        })
        .collect()
}
