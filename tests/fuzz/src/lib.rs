//! Properties that hold for any input: one function for each fuzz target.
//!
//! The ordinary tests run the same functions on generated input (`fuzz_smoke`).

mod config;
mod forward;
mod host;
mod import;
mod proxy_protocol;
mod wire;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Method};
use s3cors::cors::{
    Advice, CorsConfiguration, Decision, Kind, Options, Outcome, Policy, Semantics, check_document,
    fuzzing, locate,
};

pub use config::config;
pub use forward::forward;
pub use host::host;
pub use import::import;
pub use proxy_protocol::proxy_protocol;
pub use wire::wire;

/// A document: parsing never panics, the parsed configuration survives a round trip, every problem
/// and every place lies within the document, and checking agrees with parsing.
pub fn xml(bytes: &[u8]) {
    let read = CorsConfiguration::from_xml(bytes);
    let checked = check_document(bytes, Options::default());
    for problem in &checked.problems {
        let span = problem.span.clone().expect("every problem has its place");
        assert!(bytes.get(span.clone()).is_some(), "{span:?}");
        if let Ok(text) = std::str::from_utf8(bytes) {
            assert!(
                text.get(span.clone()).is_some(),
                "{span:?} cuts a character"
            );
        }
    }
    let Ok(configuration) = read else {
        assert!(checked.policy.is_none() && !checked.problems.is_empty());
        return;
    };
    let written = configuration.to_xml();
    // White space makes a document longer, and one at the limit too long.
    if written.len() <= s3cors::cors::MAX_DOCUMENT {
        assert_eq!(
            CorsConfiguration::from_xml(written.as_bytes()).as_ref(),
            Ok(&configuration)
        );
    }
    let text = std::str::from_utf8(bytes).expect("a parsed document is UTF-8");
    for rule in 0..configuration.rules.len() {
        let path = s3cors::cors::ElementPath::Rule(rule);
        let place = locate(text, path).expect("a parsed value has a place");
        assert!(text[place].starts_with("<CORSRule"));
    }
    if let Some(policy) = &checked.policy {
        assert_eq!(policy.configuration().as_ref(), Some(&configuration));
    }
}

/// A document, a NUL, and a request (method, then `name: value` lines): the decision follows the
/// rules of CORS, and the explanation agrees with it.
pub fn decide(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (Some(document), Some(request)) = (parts.next(), parts.next()) else {
        return;
    };
    let mut lines = request.split(|byte| *byte == b'\n');
    let Some(Ok(method)) = lines.next().map(Method::from_bytes) else {
        return;
    };
    let mut fields = HeaderMap::new();
    for line in lines {
        let name = match line.first() {
            Some(b'o') => ORIGIN,
            Some(b'm') => ACCESS_CONTROL_REQUEST_METHOD,
            Some(b'h') => ACCESS_CONTROL_REQUEST_HEADERS,
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_bytes(&line[1..]) {
            fields.append(name, value);
        }
    }
    for semantics in [Semantics::Safe, Semantics::S3Exact] {
        let options = Options {
            semantics,
            ..Options::default()
        };
        match check_document(document, options.clone()).policy {
            Some(policy) => decided(&policy, &method, &fields),
            None => decided(&Policy::not_enabled(options), &method, &fields),
        }
    }
}

/// Decisions without a header map equal those with one, byte for byte.
fn short_cut(policy: &Policy, kind: Kind, fields: &HeaderMap) {
    let one = |name| {
        let mut lines = fields.get_all(name).iter();
        lines.next().filter(|_| lines.next().is_none())
    };
    let (Some(origin), Some(method)) = (one(ORIGIN), one(ACCESS_CONTROL_REQUEST_METHOD)) else {
        return;
    };
    if origin.is_empty() {
        return;
    }
    let short = fuzzing::answer(policy, kind, origin.as_bytes(), method.as_bytes(), fields);
    let decision = match kind {
        Kind::Preflight => policy.decide(&Method::OPTIONS, fields),
        Kind::Actual => policy.decide(&Method::GET, fields),
    };
    let (Decision::Preflight(long) | Decision::Actual(long)) = &decision else {
        panic!("no CORS request: {decision:?}");
    };
    match (&short, long) {
        (Ok(short), Ok(long)) => {
            assert_eq!(short.pattern, long.pattern());
            let mut marked = HeaderMap::new();
            policy.mark(decision, &mut marked);
            assert_eq!(marked.remove(VARY).as_ref(), short.vary);
            let lines = marked.iter().flat_map(|(name, value)| {
                [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat()
            });
            assert_eq!(short.lines, lines.collect::<Vec<u8>>());
        }
        (Err(short), Err(long)) => assert_eq!(short, long),
        _ => panic!("{short:?}, but {long:?}"),
    }
}

/// Properties of a decision.
pub fn decided(policy: &Policy, method: &Method, fields: &HeaderMap) {
    for kind in [Kind::Preflight, Kind::Actual] {
        short_cut(policy, kind, fields);
    }
    let decision = policy.decide(method, fields);
    let explanation = policy.explain(method, fields);
    let allowed = match &decision {
        Decision::NotCors => {
            assert!(matches!(explanation.outcome, Outcome::NotCors));
            false
        }
        Decision::Preflight(Ok(allowance)) | Decision::Actual(Ok(allowance)) => {
            let Outcome::Allowed(matched) = &explanation.outcome else {
                panic!("allowed, but explained as {:?}", explanation.outcome);
            };
            assert_eq!(matched.pattern_index, allowance.pattern());
            let first = explanation
                .rules
                .iter()
                .position(|rule| rule.failures.is_empty());
            assert_eq!(first, Some(matched.rule));
            true
        }
        Decision::Preflight(Err(denial)) | Decision::Actual(Err(denial)) => {
            let Outcome::Refused(refusal) = &explanation.outcome else {
                panic!("refused, but explained as {:?}", explanation.outcome);
            };
            assert_eq!(&refusal.denial, denial);
            if let Advice::Change(change) = &refusal.advice {
                let changed = change.apply(&policy.configuration().unwrap_or_default());
                let changed = Policy::compile(&changed, policy.options().clone())
                    .expect("a suggested configuration is valid");
                assert!(matches!(
                    changed.decide(method, fields),
                    Decision::Preflight(Ok(_)) | Decision::Actual(Ok(_))
                ));
            }
            false
        }
    };

    let mut marked = HeaderMap::new();
    // The upstream's CORS fields never reach the client.
    marked.insert(
        ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("evil"),
    );
    marked.append(
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    policy.mark(decision, &mut marked);
    let mut origins = marked.get_all(ACCESS_CONTROL_ALLOW_ORIGIN).iter();
    let origin = origins.next();
    assert!(origins.next().is_none());
    assert_eq!(origin.is_some(), allowed);
    let credentials = marked.get(ACCESS_CONTROL_ALLOW_CREDENTIALS);
    if let Some(origin) = origin {
        let any = origin == "*";
        assert!(
            any || Some(origin) == fields.get(ORIGIN),
            "{origin:?} was never requested"
        );
        assert_eq!(
            credentials.is_some(),
            !any,
            "credentials and `*` exclude each other"
        );
    } else {
        assert!(credentials.is_none());
    }
    if let Some(names) = marked.get(ACCESS_CONTROL_ALLOW_HEADERS) {
        let asked: Vec<Vec<u8>> = fields
            .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .map(|name| name.trim_ascii().to_ascii_lowercase())
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(names.as_bytes(), asked.join(&b", "[..]));
    }
}
