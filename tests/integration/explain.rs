//! `explain` with broken set-ups: `tests/data/explain`.

use std::collections::HashSet;

use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN,
};
use http::{HeaderMap, Method};
use s3cors::cors::{
    Advice, Condition, CorsConfiguration, Decision, Explanation, Options, Outcome, Policy, Refusal,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Corpus {
    case: Vec<Case>,
}

/// One set-up; the fields are described at the top of the files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    mistake: String,
    rules: String,
    #[serde(default)]
    no_cors: bool,
    origin: String,
    method: String,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    actual: bool,
    reason: String,
    nearest: Option<usize>,
    differences: Option<Vec<String>>,
    missing: Option<Vec<String>>,
    change: Option<String>,
    lets_in: Option<Vec<String>>,
    extra_method: Option<String>,
    fix: Option<String>,
}

impl Case {
    fn configuration(&self) -> CorsConfiguration {
        if self.no_cors {
            return CorsConfiguration::default();
        }
        let xml = format!("<CORSConfiguration>{}</CORSConfiguration>", self.rules);
        CorsConfiguration::from_xml(xml.as_bytes()).unwrap()
    }

    fn policy(&self) -> Policy {
        match self.no_cors {
            true => Policy::not_enabled(Options::default()),
            false => compile(&self.configuration(), &[]),
        }
    }

    fn request(&self) -> (Method, HeaderMap) {
        let mut fields = HeaderMap::new();
        fields.insert(ORIGIN, self.origin.parse().unwrap());
        if !self.headers.is_empty() {
            let names = HeaderValue::from_str(&self.headers.join(",")).unwrap();
            fields.insert(ACCESS_CONTROL_REQUEST_HEADERS, names);
        }
        let method = Method::from_bytes(self.method.as_bytes()).unwrap();
        if self.actual {
            return (method, fields);
        }
        fields.insert(ACCESS_CONTROL_REQUEST_METHOD, self.method.parse().unwrap());
        (Method::OPTIONS, fields)
    }

    fn explanation(&self) -> Explanation {
        let (method, fields) = self.request();
        self.policy().explain(&method, &fields)
    }

    fn refusal(&self) -> Refusal {
        match self.explanation().outcome {
            Outcome::Refused(refusal) => refusal,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    /// The methods that the route must allow for the suggestion to work.
    fn extra_methods(&self) -> Vec<Method> {
        let method = self.extra_method.as_ref();
        let methods = method.into_iter();
        methods.map(|method| method.parse().unwrap()).collect()
    }
}

fn compile(configuration: &CorsConfiguration, extra_methods: &[Method]) -> Policy {
    let options = Options {
        extra_methods: extra_methods.to_vec(),
        ..Options::default()
    };
    Policy::compile(configuration, options).unwrap()
}

fn allows(policy: &Policy, (method, fields): &(Method, HeaderMap)) -> bool {
    match policy.decide(method, fields) {
        Decision::Preflight(decision) | Decision::Actual(decision) => decision.is_ok(),
        Decision::NotCors => panic!("no CORS request: {fields:?}"),
    }
}

fn corpus() -> Vec<Case> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/explain");
    let mut cases = Vec::new();
    for file in ["origin", "method", "header", "other"] {
        let text = std::fs::read_to_string(format!("{folder}/{file}.toml")).unwrap();
        let corpus: Corpus = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
        cases.extend(corpus.case);
    }
    let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert!(cases.len() >= 150, "{}", cases.len());
    cases
}

/// Runs `check` on every case and reports all failures.
fn each(check: impl Fn(&Case) -> Result<(), String>) {
    let mut wrong = Vec::new();
    for case in corpus() {
        if let Err(what) = check(&case) {
            wrong.push(format!("{} ({}): {what}", case.name, case.mistake));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, actual: T, expected: T) -> Result<(), String> {
    if actual == expected {
        return Ok(());
    }
    Err(format!("{what} is {actual:?}, not {expected:?}"))
}

#[test]
fn the_reason_and_the_nearest_rule_are_correct() {
    each(|case| {
        let explanation = case.explanation();
        let refusal = case.refusal();
        same("reason", refusal.reason().as_str(), &case.reason)?;
        if case.reason == "no_cors" || case.nearest.is_none() {
            return Ok(());
        }
        let nearest = refusal.nearest.ok_or("no rule is near")?;
        same("nearest", Some(nearest + 1), case.nearest)?;
        let failures = &explanation.rules[nearest].failures;
        let failure = failures.first().ok_or("nothing fails")?;
        let condition = match case.reason.as_str() {
            "origin" => Condition::Origin,
            "method" => Condition::Method,
            _ => Condition::Header,
        };
        same("condition", failure.condition, condition)?;
        if let Some(expected) = &case.differences {
            let closest = failure.closest.as_ref().ok_or("no origin is close")?;
            let differences = closest.differences.iter();
            let actual: Vec<String> = differences.map(|one| format!("{one:?}")).collect();
            same("differences", &actual, expected)?;
        }
        match &case.missing {
            Some(missing) => same("missing", &failure.actual, missing),
            None => Ok(()),
        }
    });
}

#[test]
fn the_advice_is_correct() {
    each(|case| {
        let (change, extra_method, fix) = match case.refusal().advice {
            Advice::Change(change) => (Some(change), None, None),
            Advice::ExtraMethod { method, change } => (change, Some(method), None),
            Advice::Request(fix) => (None, None, Some(fix.to_string())),
            Advice::Nothing => (None, None, None),
            other => return Err(format!("unknown advice: {other:?}")),
        };
        same("extra_method", &extra_method, &case.extra_method)?;
        same("fix", &fix, &case.fix)?;
        let xml = change.as_ref().map(|change| change.xml());
        same("change", &xml, &case.change)?;
        let Some(expected) = &case.lets_in else {
            return Ok(());
        };
        let lets_in = change.into_iter().flat_map(|change| change.lets_in);
        let lets_in: Vec<String> = lets_in.map(|one| one.to_string()).collect();
        same("lets_in", &lets_in, expected)
    });
}

#[test]
fn the_suggested_change_allows_only_this_request_of_the_corpus() {
    let corpus = corpus();
    let requests: Vec<(&str, (Method, HeaderMap))> = corpus
        .iter()
        .map(|case| (case.name.as_str(), case.request()))
        .collect();
    let mut changes = 0;
    each(|case| {
        let change = match case.refusal().advice {
            Advice::Change(change) => change,
            Advice::ExtraMethod { change, .. } => change.ok_or("no change goes with it")?,
            Advice::Request(_) => return Ok(()),
            other => return Err(format!("no change: {other:?}")),
        };
        let policy = case.policy();
        let changed = change.apply(&case.configuration());
        let changed = compile(&changed, &case.extra_methods());
        for (name, request) in &requests {
            let before = allows(&policy, request);
            let after = allows(&changed, request);
            if *name == case.name {
                same("before", before, false)?;
                same("after", after, true)?;
            } else {
                same(name, after, before)?;
            }
        }
        Ok(())
    });
    for case in &corpus {
        changes += usize::from(case.change.is_some());
    }
    assert!(changes >= 60, "{changes}");
}

#[test]
fn a_corrected_request_passes() {
    let mut count = 0;
    for case in corpus() {
        let Advice::Request(fix) = case.refusal().advice else {
            continue;
        };
        let (method, fields) = case.request();
        let Some(request) = fix.apply(&method, &fields) else {
            continue;
        };
        // S3's rules cannot allow PATCH, however it is written.
        if fix.to_string().ends_with("PATCH") {
            continue;
        }
        assert!(allows(&case.policy(), &request), "{}", case.name);
        count += 1;
    }
    assert!(count >= 4, "{count}");
}
