//! Files of expectations about a config or a policy, for `s3cors test`.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use crate::config::{Input, Report, check_policy_file, load};
use crate::cors::fetch::Credentials;
use crate::cors::{Options, Outcome, Policy, ResourceType};
use crate::explain::{Exchange, Hypothetical, RouteExplanation, Verdict};
use crate::metrics::Metrics;
use crate::routing::snapshot::Snapshot;
use crate::text::visible::visible;

use super::output::Failure;

/// The URL used for a policy without a route.
pub(super) const SOME_URL: &str = "http://HOST/KEY";

/// A file of expectations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    config: Option<PathBuf>,
    cors: Option<PathBuf>,
    #[serde(default)]
    test: Vec<Test>,
}

/// A script's request and its expected result.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    pub(super) name: Spanned<String>,
    url: Option<String>,
    origin: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default)]
    headers: Vec<String>,
    credentials: Option<CredentialsMode>,
    #[serde(default)]
    read: Vec<String>,
    expect: Expected,
    reason: Option<Reason>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CredentialsMode {
    Omit,
    SameOrigin,
    Include,
}

/// What the script gets.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expected {
    Readable,
    Blocked,
}

/// Why it is blocked.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    Origin,
    Method,
    Header,
    NoCors,
    Malformed,
    Unreadable,
}

/// The results of one file.
pub(super) struct Outcomes {
    /// The file.
    pub(super) file: PathBuf,
    pub(super) tests: Vec<TestOutcome>,
}

pub(super) struct TestOutcome {
    pub(super) name: String,
    pub(super) line: usize,
    /// What the file says.
    pub(super) expected: String,
    /// The actual result, in the same form.
    pub(super) actual: String,
    /// The actual result as a sentence.
    pub(super) summary: String,
    pub(super) passed: bool,
}

/// The decision about a script's request.
pub(super) struct Decided {
    pub(super) outcome: Expected,
    pub(super) reason: Option<Reason>,
    summary: String,
}

/// The most bytes of a file of tests.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What the expectations are about.
pub(super) enum Subject {
    Routes(Box<Snapshot>),
    Policy(Box<Policy>),
}

/// Makes an error of several lines, which quote the file, safe to print on a terminal.
fn lines(error: &toml::de::Error) -> String {
    let lines: Vec<String> = error.to_string().lines().map(visible).collect();
    lines.join("\n")
}

/// Runs the tests of a file.
pub(super) fn run(path: &Path) -> Result<Outcomes, Failure> {
    let name = path.display();
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
        .map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?;
    if text.len() as u64 > MAX_FILE {
        let message = format!("{name} has more than {MAX_FILE} bytes");
        return Err(Failure::Usage(message));
    }
    let file: File = toml::from_str(&text)
        .map_err(|error| Failure::Usage(format!("{name}: {}", lines(&error))))?;
    if file.test.is_empty() {
        return Err(Failure::Usage(format!(
            "{name}: no [[test]] found; add at least one"
        )));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let subject = match (&file.config, &file.cors) {
        (Some(config), None) => Subject::routes(&folder.join(config))?,
        (None, Some(cors)) => Subject::policy(&folder.join(cors))?,
        _ => {
            return Err(Failure::Usage(format!(
                "{name}: set either `config` or `cors`"
            )));
        }
    };
    let outcome = |test: &Test| {
        let line = text
            .get(..test.name.span().start)
            .unwrap_or_default()
            .matches('\n')
            .count()
            + 1;
        let decided = subject
            .decide_test(test)
            .map_err(|why| Failure::Usage(format!("{name}:{line}: {}", visible(&why))))?;
        Ok(test.compare(line, decided))
    };
    let tests = file
        .test
        .iter()
        .map(outcome)
        .collect::<Result<_, Failure>>()?;
    Ok(Outcomes {
        file: path.to_owned(),
        tests,
    })
}

fn get() -> String {
    "GET".to_owned()
}

impl Test {
    fn compare(&self, line: usize, decided: Decided) -> TestOutcome {
        // Without a reason in the file, any reason passes.
        let reason = decided.reason.filter(|_| self.reason.is_some());
        TestOutcome {
            name: self.name.get_ref().clone(),
            line,
            expected: describe(self.expect, self.reason),
            actual: describe(decided.outcome, decided.reason),
            summary: decided.summary,
            passed: self.expect == decided.outcome && self.reason == reason,
        }
    }
}

fn describe(outcome: Expected, reason: Option<Reason>) -> String {
    let outcome = match outcome {
        Expected::Readable => "readable",
        Expected::Blocked => "blocked",
    };
    reason.map_or_else(
        || outcome.to_owned(),
        |reason| format!("{outcome}, {}", reason.as_str()),
    )
}

impl Reason {
    const ALL: [Self; 6] = [
        Self::Origin,
        Self::Method,
        Self::Header,
        Self::NoCors,
        Self::Malformed,
        Self::Unreadable,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Method => "method",
            Self::Header => "header",
            Self::NoCors => "no_cors",
            Self::Malformed => "malformed",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Subject {
    pub(super) fn routes(config: &Path) -> Result<Self, Failure> {
        let loaded = load(&Input::file(config));
        let metrics = Metrics::new(1);
        let snapshot = loaded
            .snapshot(&metrics, None, 1, false)
            .filter(|_| !loaded.has_errors());
        let snapshot = snapshot.ok_or_else(|| invalid(&loaded.report))?;
        Ok(Self::Routes(Box::new(snapshot)))
    }

    pub(super) fn policy(cors: &Path) -> Result<Self, Failure> {
        let mut report = Report::default();
        let options = Options::default();
        let configuration = check_policy_file(cors, &options, &mut report);
        let policy =
            configuration.and_then(|configuration| Policy::compile(&configuration, options).ok());
        let policy = policy.ok_or_else(|| invalid(&report))?;
        Ok(Self::Policy(Box::new(policy)))
    }

    /// The explanation of a request, as JSON.
    pub(super) fn explain(&self, request: &Hypothetical) -> Result<Value, String> {
        match self {
            Self::Routes(snapshot) => snapshot
                .explain(request)
                .map(|explanation| explanation.to_json())
                .map_err(|error| error.to_string()),
            Self::Policy(policy) => Exchange::new(policy, request, ResourceType::Object)
                .map(|exchange| exchange.judged(policy, request).to_json(request))
                .map_err(|error| error.to_string()),
        }
    }

    fn decide_test(&self, test: &Test) -> Result<Decided, String> {
        if matches!(self, Self::Routes(_)) && test.url.is_none() {
            return Err("a test of a config needs a `url`".to_owned());
        }
        let request = Hypothetical {
            url: test.url.clone().unwrap_or_else(|| SOME_URL.to_owned()),
            origin: test.origin.clone(),
            method: test.method.clone(),
            headers: test.headers.clone(),
            credentials: match test.credentials {
                Some(CredentialsMode::Omit) => Credentials::Omit,
                Some(CredentialsMode::SameOrigin) | None => Credentials::SameOrigin,
                Some(CredentialsMode::Include) => Credentials::Include,
            },
            read: test.read.clone(),
        };
        self.decide(&request)
    }

    /// The result of a script's request.
    pub(super) fn decide(&self, request: &Hypothetical) -> Result<Decided, String> {
        match self {
            Self::Routes(snapshot) => {
                let explanation = snapshot
                    .explain(request)
                    .map_err(|error| error.to_string())?;
                Decided::of_route(&explanation)
            }
            Self::Policy(policy) => {
                let exchange = Exchange::new(policy, request, ResourceType::Object);
                let exchange = exchange
                    .map_err(|error| error.to_string())?
                    .judged(policy, request);
                Ok(Decided::of_exchange(&exchange))
            }
        }
    }
}

impl Decided {
    fn of_route(explanation: &RouteExplanation) -> Result<Self, String> {
        let summary = explanation.summary();
        match (explanation.verdict(), &explanation.exchange) {
            (Verdict::Transparent, _) => {
                Err("the route has no policy, so its upstream decides".to_owned())
            }
            (Verdict::Allowed, _) => Ok(Self {
                outcome: Expected::Readable,
                reason: None,
                summary,
            }),
            (_, Some(exchange)) => Ok(Self::of_exchange(exchange)),
            // No route serves the host.
            (_, None) => Ok(Self {
                outcome: Expected::Blocked,
                reason: Some(Reason::NoCors),
                summary,
            }),
        }
    }

    fn of_exchange(exchange: &Exchange) -> Self {
        let summary = exchange.summary();
        if exchange.is_allowed() {
            return Self {
                outcome: Expected::Readable,
                reason: None,
                summary,
            };
        }
        let reason = match &exchange.deciding().outcome {
            Outcome::Refused(refusal) => {
                let name = refusal.reason().as_str();
                Reason::ALL
                    .into_iter()
                    .find(|reason| reason.as_str() == name)
            }
            Outcome::Allowed(_) | Outcome::NotCors => Some(Reason::Unreadable),
        };
        Self {
            outcome: Expected::Blocked,
            reason,
            summary,
        }
    }
}

fn invalid(report: &Report) -> Failure {
    let text = report.only_errors().render(false);
    Failure::Usage(format!(
        "the config or policy has errors:\n{}",
        text.trim_end()
    ))
}
