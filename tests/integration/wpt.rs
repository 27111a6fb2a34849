//! The data-driven cases of web-platform-tests (`tests/data/fetch/README.md`), compared with the
//! verdict.

use std::collections::HashMap;

use s3cors::cors::fetch::{Engine, Verdict, judge};
use s3cors::explain::exchange_from_json;
use serde_json::Value;

/// Values for the names in the data; each case has a number, and its redirect another path.
fn placed(line: &str, number: usize) -> Value {
    let places = HashMap::from([
        ("origin", "http://app.example:8000".to_owned()),
        ("ORIGIN", "HTTP://APP.EXAMPLE:8000".to_owned()),
        ("host", "app.example:8000".to_owned()),
        ("parent", "example:8000".to_owned()),
        ("server", "http://s3.example:8001".to_owned()),
        ("server_host", "s3.example:8001".to_owned()),
        ("other", "http://other.example:8002".to_owned()),
        ("other_host", "other.example:8002".to_owned()),
        ("secure", "https://s3.example:8003".to_owned()),
        ("next", format!("{number}.1")),
    ]);
    let mut text = line.to_owned();
    for (name, value) in places {
        text = text.replace(&format!("{{{name}}}"), &value);
    }
    let mut case: Value = serde_json::from_str(&text).unwrap();
    let url = format!("{}/{number}", case["request"]["url"].as_str().unwrap());
    case["request"]["url"] = url.into();
    case
}

/// An engine's behaviour: the outcome, and whether it sends a preflight.
fn of(engine: Engine, verdict: &Verdict) -> (&'static str, bool) {
    let own = verdict.differs.iter().find(|(other, _)| *other == engine);
    match own {
        Some((_, own)) => (own.outcome.as_str(), own.preflight_sent),
        None => (verdict.outcome.as_str(), verdict.preflight_sent),
    }
}

fn names(value: &Value) -> Vec<&str> {
    let names = value.as_array().into_iter().flatten();
    names.map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn the_verdict_is_what_web_platform_tests_expect() {
    let lines = include_str!("../data/fetch/wpt.jsonl");
    let mut failures = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let case = placed(line, number);
        let mut exchange = case.clone();
        for member in ["wpt", "name", "expect", "unless"] {
            exchange.as_object_mut().unwrap().remove(member);
        }
        let exchange = exchange_from_json(&exchange).unwrap();
        let verdict = judge(&exchange);
        let expect = &case["expect"];
        let mut fail = |what: String| {
            failures.push(format!("{} {}: {what}", case["wpt"], case["name"]));
        };

        let outcome = expect["outcome"].as_str().unwrap();
        let unless = names(&case["unless"]);
        for engine in Engine::ALL {
            let (seen, preflight) = of(engine, &verdict);
            let is_as_expected = seen == outcome
                && *expect.get("preflight").unwrap_or(&preflight.into()) == preflight;
            if is_as_expected == unless.contains(&engine.as_str()) {
                fail(format!("{engine}: {seen}, preflight sent: {preflight}"));
            }
            let cached = verdict
                .cache_seconds
                .iter()
                .find(|(other, _)| *other == engine);
            let cached = cached.map_or(0, |(_, seconds)| *seconds) > 0;
            if expect
                .get("cached")
                .is_some_and(|expected| *expected != cached)
            {
                fail(format!("{engine}: cached: {cached}"));
            }
        }
        let readable = &verdict.readable_headers;
        let is_readable = |name: &&str| readable.iter().any(|other| other == name);
        if verdict.outcome.as_str() != outcome {
            continue;
        }
        if !names(&expect["readable"]).iter().all(is_readable)
            || names(&expect["unreadable"]).iter().any(is_readable)
        {
            fail(format!("readable: {readable:?}"));
        }
        if let Some(asks) = expect.get("asks") {
            let hop = exchange.hop(0).unwrap();
            if hop.preflight.as_deref().unwrap() != names(asks) {
                fail(format!("asks for {:?}", hop.preflight));
            }
        }
        if let Some(origin) = expect.get("origin") {
            let hop = exchange.hop(exchange.redirected.len()).unwrap();
            if hop.origin.as_deref() != origin.as_str() {
                fail(format!("origin: {:?}", hop.origin));
            }
        }
    }
    assert_eq!(failures, Vec::<String>::new());
    assert!(lines.lines().count() > 600);
}
