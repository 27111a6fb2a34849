//! `s3cors explain`: what would become of a script's request, and why.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::config::Input;
use crate::config::Report;
use crate::config::check_policy_file;
use crate::config::load;
use crate::cors::Options;
use crate::cors::Policy;
use crate::cors::ResourceType;
use crate::metrics::Metrics;
use crate::proxy::explain::Exchange;
use crate::proxy::explain::Hypothetical;
use crate::proxy::explain::Verdict;

use super::{Failure, Format, NO, YES, count, has_colours, print};

/// Where a policy without a route would be asked.
const SOME_URL: &str = "http://HOST/KEY";

/// Say what would become of a script's request, rule by rule, and why.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The config.
    #[arg(
        long,
        short,
        value_name = "FILE",
        conflicts_with = "cors",
        requires = "url"
    )]
    config: Option<PathBuf>,
    /// Without a config: the policy, as S3 has it.
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    cors: Option<PathBuf>,
    /// What the script asks for: http://HOST/PATH.
    #[arg(long)]
    url: Option<String>,
    /// Where the script's page comes from.
    #[arg(long)]
    origin: String,
    /// The method that the script uses.
    #[arg(long)]
    method: String,
    /// A header that the script sets: its name, or `name: value`. May stand several times.
    #[arg(long = "header", value_name = "NAME")]
    headers: Vec<String>,
    /// How the answer is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Explain {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let has_url = self.url.is_some();
        let request = Hypothetical {
            url: self.url.unwrap_or_else(|| SOME_URL.to_owned()),
            origin: self.origin,
            method: self.method,
            headers: self.headers,
        };
        let (document, is_refused) = match (&self.config, &self.cors) {
            (Some(config), _) => by_config(config, &request)?,
            (None, Some(cors)) => by_policy(cors, &request)?,
            (None, None) => {
                return Err(Failure::Usage(
                    "name a config (--config) or a policy (--cors)".into(),
                ));
            }
        };
        print(&match self.format {
            Format::Json => format!("{document:#}\n"),
            Format::Human => human(&document, has_url),
        })?;
        Ok(if is_refused { NO } else { YES })
    }
}

/// The explanation, and whether the script is refused.
fn by_config(config: &Path, request: &Hypothetical) -> Result<(Value, bool), Failure> {
    let loaded = load(&Input::file(config));
    let metrics = Metrics::new(1);
    // What a start would refuse is not explained: it would not be what `run` decides.
    let snapshot = loaded.snapshot(&metrics, None, 1, false);
    let snapshot = snapshot.filter(|_| !loaded.has_errors());
    let snapshot = snapshot.ok_or_else(|| refuse(&loaded.report))?;
    let explanation = snapshot.explain(request).map_err(usage)?;
    let is_refused = match explanation.verdict() {
        Verdict::Allowed | Verdict::Transparent => false,
        Verdict::Refused | Verdict::UnknownHost => true,
    };
    Ok((explanation.to_json(), is_refused))
}

fn by_policy(cors: &Path, request: &Hypothetical) -> Result<(Value, bool), Failure> {
    let mut report = Report::default();
    let options = Options::default();
    let configuration = check_policy_file(cors, &options, &mut report);
    let policy =
        configuration.and_then(|configuration| Policy::compile(&configuration, options).ok());
    let policy = policy.ok_or_else(|| refuse(&report))?;
    let exchange = Exchange::new(&policy, request, ResourceType::Object).map_err(usage)?;
    Ok((exchange.to_json(request), !exchange.is_allowed()))
}

fn usage(error: impl ToString) -> Failure {
    Failure::Usage(error.to_string())
}

fn refuse(report: &Report) -> Failure {
    let text = report.only_errors().render(has_colours(&io::stderr()));
    // The exit code tells where this cannot.
    let _ = io::stderr().write_all(text.as_bytes());
    Failure::Usage(format!(
        "{}: nothing is explained",
        count(report.errors(), "error")
    ))
}

/// The explanation for people, made of the one for programs, so that both say the same.
fn human(document: &Value, has_url: bool) -> String {
    let mut text = Text::default();
    let verdict = document["verdict"]
        .as_str()
        .unwrap_or_default()
        .replace('_', " ");
    text.line(
        0,
        format!(
            "{}: {}",
            verdict.to_uppercase(),
            string(&document["summary"])
        ),
    );
    if document["same_origin"] == true {
        text.line(
            0,
            "note: page and URL are of one origin, so the browser asks nobody",
        );
    }
    text.served(document);
    let known: Vec<_> = items(&document["known_hosts"]).map(string).collect();
    if !known.is_empty() {
        text.line(0, format!("hosts    {}", known.join(", ")));
    }
    let (preflight, actual) = (&document["preflight"], &document["actual"]);
    let needed = preflight["needed"] == true;
    if needed {
        let reasons: Vec<_> = items(&preflight["reasons"]).map(string).collect();
        text.blank();
        text.line(
            0,
            format!(
                "The browser asks first (preflight), for {}:",
                reasons.join("; ")
            ),
        );
        text.decision(preflight);
    }
    let is_sent = !needed || preflight["outcome"] != "refused";
    if !actual.is_null() && is_sent {
        text.blank();
        let when = if needed {
            "Then it sends"
        } else {
            "Without a preflight, the browser sends"
        };
        text.line(
            0,
            format!("{when} the {} itself:", string(&actual["method"])),
        );
        text.decision(actual);
    }
    let forbidden: Vec<_> = items(&preflight["forbidden_headers"]).map(string).collect();
    if !forbidden.is_empty() {
        text.blank();
        text.line(
            0,
            format!("note: no script can set {}", forbidden.join(", ")),
        );
    }
    let deciding = if is_sent { actual } else { preflight };
    text.advice(&deciding["advice"]);
    let curl = deciding["curl"].as_str().filter(|_| has_url);
    if let Some(curl) = curl {
        text.blank();
        text.line(0, "See for yourself:");
        text.line(1, curl);
    }
    text.0
}

/// Lines, each with nothing in it that a terminal obeys.
#[derive(Default)]
struct Text(String);

impl Text {
    fn blank(&mut self) {
        self.0.push('\n');
    }

    fn line(&mut self, depth: usize, line: impl AsRef<str>) {
        for line in line.as_ref().lines() {
            let line = crate::config::visible(line);
            let written = writeln!(self.0, "{:depth$}{line}", "", depth = 2 * depth);
            written.expect("a string takes every text");
        }
    }

    /// Which route, bucket and policy.
    fn served(&mut self, document: &Value) {
        let (route, bucket, policy) =
            (&document["route"], &document["bucket"], &document["policy"]);
        if route.is_null() {
            return;
        }
        self.blank();
        let (name, pattern) = (string(&route["name"]), string(&route["host_pattern"]));
        self.line(0, format!("route    {name} (host {pattern})"));
        let upstreams: Vec<_> = items(&route["upstreams"]).map(string).collect();
        self.line(0, format!("upstream {}", upstreams.join(", ")));
        if !bucket.is_null() {
            let name = bucket["name"]
                .as_str()
                .unwrap_or("none: the request is for the service");
            let own = if bucket["has_policy"] == true {
                ""
            } else {
                ", without a policy of its own"
            };
            self.line(0, format!("bucket   {name}{own}"));
        }
        if !policy.is_null() {
            let file = policy["file"]
                .as_str()
                .unwrap_or("none: CORS is not enabled");
            self.line(
                0,
                format!("policy   {file} ({})", string(&policy["semantics"])),
            );
        }
    }

    /// What each rule says, and the response's fields.
    fn decision(&mut self, decision: &Value) {
        let matched = &decision["matched"];
        for rule in items(&decision["rules"]) {
            let id = rule["id"].as_str().map(|id| format!(" ({id})"));
            let title = format!("rule {}{}", rule["rule"], id.unwrap_or_default());
            if rule["matches"] == true {
                let is_first = matched["rule"] == rule["rule"];
                let answer = if is_first {
                    "matches"
                } else {
                    "would match, but an earlier one did"
                };
                self.line(1, format!("{title} {answer}"));
                continue;
            }
            let is_nearest = decision["nearest_rule"] == rule["rule"];
            let nearest = if is_nearest {
                ", but comes nearest"
            } else {
                ""
            };
            self.line(1, format!("{title} does not match{nearest}:"));
            for failure in items(&rule["failures"]) {
                self.line(2, string(&failure["text"]));
            }
        }
        if items(&decision["rules"]).next().is_none()
            && let Some(message) = decision["message"].as_str()
        {
            self.line(1, message);
        }
        if let Some(status) = decision["status"].as_u64() {
            let error = &decision["error"];
            let code = error["code"].as_str();
            let code = code.map(|code| format!(" {code}: {}", string(&error["message"])));
            self.line(1, format!("answer: {status}{}", code.unwrap_or_default()));
        }
        let fields = items(&decision["fields"]);
        let fields: Vec<_> = fields
            .map(|field| (title_case(string(&field["name"])), string(&field["value"])))
            .collect();
        if fields.is_empty() {
            self.line(1, "response fields: none");
        } else {
            self.line(1, "response fields:");
        }
        for (name, value) in fields {
            self.line(2, format!("{name}: {value}"));
        }
        for note in items(&decision["notes"]) {
            self.line(1, format!("note: {}", string(&note["text"])));
        }
    }

    /// What would let the request in, and what else that would let in.
    fn advice(&mut self, advice: &Value) {
        let Some(what) = advice["text"].as_str() else {
            return;
        };
        self.blank();
        self.line(0, format!("To allow it: {what}"));
        for edit in items(&advice["edits"]) {
            self.line(1, format!("{}:", string(&edit["text"])));
            self.line(2, string(&edit["xml"]));
        }
        let lets_in: Vec<_> = items(&advice["lets_in"]).map(string).collect();
        if !lets_in.is_empty() {
            self.line(0, "That lets in:");
            for one in lets_in {
                self.line(1, one);
            }
        }
    }
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `access-control-allow-origin` as S3 writes it.
fn title_case(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let mut characters = part.chars();
        let first = characters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(characters).collect()
    });
    parts.collect::<Vec<String>>().join("-")
}
