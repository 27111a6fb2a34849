//! Judges a policy's answers as browsers do.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::cors::fetch::{
    Answers, Exchange as Fetched, Mode, Outcome, Reason, Response, ScriptRequest, Verdict, judge,
};
use crate::cors::{CorsRule, Edit, Element, Outcome as Decided, Policy};

use super::browser::{Browser, Remedy};
use super::exchange::{Exchange, Hypothetical};
use super::fetch;

impl Exchange {
    /// The exchange with the browsers' verdict.
    #[must_use]
    pub fn judged(mut self, policy: &Policy, request: &Hypothetical) -> Self {
        self.browser = Some(browser(policy, request, &self));
        self
    }
}

fn browser(policy: &Policy, request: &Hypothetical, exchange: &Exchange) -> Browser {
    let mut headers = exchange.actual.fields.clone();
    // It is unknown whether the upstream sends these fields; the policy decides whether they can
    // be read.
    for name in request.read_names() {
        headers.entry(name).or_insert(HeaderValue::from_static("x"));
    }
    let answer = |status, headers: &HeaderMap| {
        Some(Response {
            status,
            headers: headers.clone(),
        })
    };
    let fetched = Fetched {
        request: script_request(request, exchange),
        answers: Answers {
            preflight: answer(exchange.preflight_status, &exchange.preflight.fields),
            response: answer(StatusCode::OK, &headers),
        },
        redirected: Vec::new(),
    };
    let verdict = judge(&fetched);
    let is_readable = |name: &HeaderName| {
        verdict
            .readable_headers
            .iter()
            .any(|readable| readable == name.as_str())
    };
    let is_seen = verdict.outcome == Outcome::Readable;
    let unreadable = request
        .read_names()
        .filter(|name| is_seen && !is_readable(name));
    let unreadable: Vec<String> = unreadable.map(|name| name.to_string()).collect();
    let remedy = remedy(policy, exchange, &verdict, &unreadable);
    Browser {
        verdict,
        unreadable,
        remedy,
    }
}

fn script_request(request: &Hypothetical, exchange: &Exchange) -> ScriptRequest {
    let headers = request.header_texts().filter_map(|text| {
        let (name, value) = fetch::field(text).ok()?;
        let value = value.unwrap_or(match name.as_str() {
            // Like `explain`, which takes a name without a value for one that needs a preflight.
            "content-type" => "application/json",
            "range" => "bytes=-1",
            _ => "x",
        });
        Some((name, HeaderValue::from_str(value).ok()?))
    });
    ScriptRequest {
        origin: String::from_utf8_lossy(exchange.origin.as_bytes()).into_owned(),
        url: request.url.clone(),
        method: exchange.method.to_string(),
        headers: headers.collect(),
        credentials: request.credentials,
        mode: Mode::Cors,
    }
}

fn remedy(
    policy: &Policy,
    exchange: &Exchange,
    verdict: &Verdict,
    unreadable: &[String],
) -> Option<Remedy> {
    let Decided::Allowed(matched) = &exchange.actual.outcome else {
        return None;
    };
    if !unreadable.is_empty() {
        let edits = unreadable
            .iter()
            .filter(|name| !matches!(&***name, "set-cookie" | "set-cookie2"));
        let edits: Vec<Edit> = edits
            .map(|name| Edit::Add {
                rule: matched.rule,
                element: Element::ExposeHeader,
                value: name.clone(),
            })
            .collect();
        return Some(if edits.is_empty() {
            Remedy::Never
        } else {
            Remedy::Expose(edits)
        });
    }
    let reason = verdict.failure.as_ref().map(|failure| &failure.reason)?;
    let needs_origin = matches!(
        reason,
        Reason::WildcardWithCredentials | Reason::Credentials(_)
    );
    let configuration = policy.configuration()?;
    let rule = configuration.rules.get(matched.rule)?;
    let rule = CorsRule {
        id: None,
        allowed_origins: vec![String::from_utf8_lossy(exchange.origin.as_bytes()).into_owned()],
        ..rule.clone()
    };
    needs_origin.then(|| Remedy::NameOrigin {
        before: matched.rule,
        rule: Box::new(rule),
    })
}
