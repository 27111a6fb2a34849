//! Compares an importer with a model of its system: random settings, random requests, and the
//! same outcome from the system and from the S3 policy, unless a note describes exactly this
//! difference.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Debug;

use http::Method;
use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, ORIGIN,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use s3cors::cors::{Options, Policy, S3_METHODS, Wildcard};
use s3cors::import::{Dialect, Effect, Note, import};

use super::browser::{Fields, Outcome, Request, needs_preflight, outcome};

/// Settings of another system, and their effect there.
pub(super) trait Source: Debug {
    const DIALECT: Dialect;

    /// As people write them.
    fn text(&self) -> String;

    fn preflight(&self, request: &Request) -> Fields;

    fn actual(&self, request: &Request) -> Fields;

    /// Whether the settings list this origin; `*` does not count.
    fn names(&self, _origin: &str) -> bool {
        false
    }

    /// Whether the system's documentation leaves open which of the settings decides.
    fn is_undocumented(&self, _request: &Request) -> bool {
        false
    }
}

/// Response fields that scripts try to read.
pub(super) const RESPONSE_FIELDS: [&str; 5] = ["etag", "date", "x-a", "x-ab", "x-ms-meta-q"];

/// Origins as browsers send them; the most frequently listed one, most often.
const ORIGINS: [&str; 17] = [
    "https://a.test",
    "https://a.test",
    "https://a.test",
    "https://a.test",
    "https://a.test",
    "https://b.test",
    "http://a.test",
    "http://a.test:8080",
    "https://a.test:8443",
    "https://x.a.test",
    "https://x.y.a.test",
    "https://xa.test",
    "https://a.test.evil",
    "https://evil",
    "https://evil:8443",
    "https://x.b.y",
    "null",
];

pub(super) const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "MERGE",
];

pub(super) const HEADERS: [&str; 5] = [
    "authorization",
    "content-type",
    "x-a",
    "x-ab",
    "x-ms-meta-q",
];

/// A random request with these origins, methods and up to two headers.
fn request(number: u32) -> Request {
    let mut rest = usize::try_from(number).unwrap();
    let mut choose = |among: usize| {
        let chosen = rest % among;
        rest /= among;
        chosen
    };
    let origin = ORIGINS[choose(ORIGINS.len())].to_owned();
    let method = METHODS[choose(METHODS.len())].to_owned();
    let count = choose(3);
    let headers = (0..count).map(|_| HEADERS[choose(HEADERS.len())].to_owned());
    Request {
        origin,
        method,
        headers: headers.collect(),
    }
}

/// Some of `values`, possibly repeated.
pub(super) fn some(
    values: &'static [&'static str],
    size: impl Into<proptest::collection::SizeRange>,
) -> impl Strategy<Value = Vec<String>> {
    vec(select(values).prop_map(str::to_owned), size)
}

/// How an outcome differs from the source's.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Difference {
    /// Whether a script without credentials gets the response.
    Reads {
        source: bool,
    },
    /// Whether one with credentials does.
    Credentials {
        source: bool,
    },
    /// One echoes the origin, the other answers `*`.
    Echo,
    Exposed {
        name: String,
        source: bool,
    },
    MaxAge,
}

/// Runs the importer and the model against each other. `needed` are the codes of notes that
/// explain real differences: each must be needed at least once, so that no note is a false alarm.
pub(super) fn agrees<S: Source>(settings: impl Strategy<Value = S>, needed: &[&str]) {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    };
    let extra = select(vec![vec![], vec![Method::PATCH]]);
    let requests = vec(any::<u32>().prop_map(request), REQUESTS);
    let used: RefCell<BTreeSet<&'static str>> = RefCell::default();
    let ran = TestRunner::new(config).run(
        &(settings, requests, extra),
        |(settings, requests, extra_methods)| {
            let codes = agrees_on(&settings, &requests, extra_methods);
            used.borrow_mut()
                .extend(codes.map_err(TestCaseError::fail)?);
            Ok(())
        },
    );
    if let Err(error) = ran {
        panic!("{error}");
    }
    let used: Vec<&str> = used.into_inner().into_iter().collect();
    assert_eq!(used, needed);
}

/// The codes of the notes that describe the differences; the first difference without a note.
fn agrees_on<S: Source>(
    settings: &S,
    requests: &[Request],
    extra_methods: Vec<Method>,
) -> Result<BTreeSet<&'static str>, String> {
    let options = Options {
        extra_methods,
        ..Options::default()
    };
    let text = settings.text();
    let imported =
        import(text.as_bytes(), None, &options).map_err(|error| format!("{error:?}\n{text}"))?;
    assert_eq!(imported.dialect, S::DIALECT, "{text}");
    let policy = match imported.configuration.rules.is_empty() {
        true => Policy::not_enabled(options.clone()),
        false => Policy::compile(&imported.configuration, options.clone()).unwrap(),
    };
    let mut used = BTreeSet::new();
    for request in requests {
        let ours = ours(&policy, request);
        for difference in differences(settings, &ours, request) {
            let case = Case {
                request,
                ours: &ours,
                options: &options,
                is_undocumented: settings.is_undocumented(request),
                is_named: settings.names(&request.origin),
            };
            let telling = imported
                .notes
                .iter()
                .find(|note| case.tells(note, &difference));
            let told = telling.ok_or_else(|| {
                let (xml, notes) = (imported.configuration.to_xml(), &imported.notes);
                format!("{difference:?} is not told\n{request:?}\n{text}\n{xml}\n{notes:#?}")
            })?;
            used.insert(told.code);
        }
    }
    Ok(used)
}

/// The number of settings tried per dialect.
const CASES: u32 = 600;

/// The number of requests per setting.
const REQUESTS: usize = 40;

/// The responses to a preflight and to the request itself.
type Answers = (Fields, Fields);

/// The proxy's responses: the preflight's fields and the request's.
fn ours(policy: &Policy, request: &Request) -> Answers {
    let mut head = HeaderMap::new();
    head.insert(ORIGIN, request.origin.parse().unwrap());
    let answer = |method: &Method, head: &HeaderMap| {
        let mut fields = HeaderMap::new();
        policy.mark(policy.decide(method, head), &mut fields);
        Fields::of(&fields)
    };
    let actual = answer(&request.method.parse().unwrap(), &head);
    head.insert(
        ACCESS_CONTROL_REQUEST_METHOD,
        request.method.parse().unwrap(),
    );
    if !request.headers.is_empty() {
        let names = request.headers.join(",");
        head.insert(ACCESS_CONTROL_REQUEST_HEADERS, names.parse().unwrap());
    }
    (answer(&Method::OPTIONS, &head), actual)
}

fn differences<S: Source>(settings: &S, ours: &Answers, request: &Request) -> Vec<Difference> {
    let theirs = (settings.preflight(request), settings.actual(request));
    let judged = |answers: &Answers, with_credentials| -> Outcome {
        outcome(
            request,
            &answers.0,
            &answers.1,
            with_credentials,
            &RESPONSE_FIELDS,
        )
    };
    let (source, result) = (judged(&theirs, false), judged(ours, false));
    if source.reads != result.reads {
        return vec![Difference::Reads {
            source: source.reads,
        }];
    }
    let mut differences = exposed(&source, &result);
    if source.max_age != result.max_age {
        differences.push(Difference::MaxAge);
    }
    if source.reads && theirs.1.allow_origin != ours.1.allow_origin {
        differences.push(Difference::Echo);
    }
    let (source, result) = (judged(&theirs, true), judged(ours, true));
    if source.reads == result.reads {
        differences.extend(exposed(&source, &result));
    } else {
        differences.push(Difference::Credentials {
            source: source.reads,
        });
    }
    differences
}

fn exposed(source: &Outcome, result: &Outcome) -> Vec<Difference> {
    let differing = source.exposed.symmetric_difference(&result.exposed);
    differing
        .map(|name| Difference::Exposed {
            name: name.clone(),
            source: source.exposed.contains(name),
        })
        .collect()
}

/// The properties of a note that are compared.
struct Case<'c> {
    request: &'c Request,
    ours: &'c Answers,
    options: &'c Options,
    is_undocumented: bool,
    is_named: bool,
}

impl Case<'_> {
    /// Whether a note describes exactly this difference.
    fn tells(&self, note: &Note, difference: &Difference) -> bool {
        let (request, ours) = (self.request, self.ours);
        let source_has_more = match difference {
            Difference::Reads { source }
            | Difference::Credentials { source }
            | Difference::Exposed { source, .. } => Some(*source),
            Difference::Echo | Difference::MaxAge => None,
        };
        // A rule that matches more origins replaces a later one, which may allow more.
        let is_other_rule = note.code == "origin-pattern-wider";
        let direction = match note.effect {
            Effect::Widened if is_other_rule => true,
            Effect::Lost => source_has_more != Some(false),
            Effect::Widened => source_has_more != Some(true),
            Effect::Ambiguous => true,
        };
        let subject = note.subject.as_deref().unwrap_or_default();
        let asks_for = |name: &str| request.headers.iter().any(|header| header == name);
        let answered_with_any = ours.1.allow_origin.as_deref() == Some("*");
        let matches = |text: &str| glob(&subject.to_ascii_lowercase(), text);
        direction
            && match (note.code, difference) {
                ("any-method", Difference::Reads { .. }) => {
                    let mut extra = self.options.extra_methods.iter();
                    !S3_METHODS.contains(&&*request.method)
                        && extra.all(|one| *one != *request.method)
                }
                ("method-unsupported", Difference::Reads { .. }) => subject == request.method,
                ("header-authorization", Difference::Reads { .. }) => asks_for("authorization"),
                ("header-pattern", Difference::Reads { .. }) => {
                    request.headers.iter().any(|name| matches(name))
                }
                ("next-rule-asked", Difference::Reads { .. }) => {
                    matches(&request.origin)
                        && needs_preflight(request)
                        && !request.headers.is_empty()
                }
                ("origin-pattern-wider" | "origin-two-wildcards", _) => matches(&request.origin),
                ("credentials-added", Difference::Credentials { .. }) => !answered_with_any,
                (
                    "credentials-with-any-origin",
                    Difference::Credentials { .. } | Difference::Echo,
                ) => answered_with_any && !self.is_named,
                ("expose-wildcard", Difference::Exposed { name, .. }) => matches(name),
                ("rule-choice", _) => self.is_undocumented,
                _ => false,
            }
    }
}

/// Whether `text` matches a pattern with any number of `*`, each standing for any characters.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.into_iter().any(|at| glob(tail, &rest[at..]))
        }),
    }
}

#[test]
fn the_models_glob_agrees_with_the_engines_for_one_star() {
    for pattern in ["a*b", "*", "a", "ab*", "*ba"] {
        for text in ["ab", "a", "aab", "abb", "ba", "", "aba"] {
            let engine = Wildcard::parse(pattern).unwrap().matches(text.as_bytes());
            assert_eq!(glob(pattern, text), engine, "{pattern} {text}");
        }
    }
}
