//! `s3cors explain`: what would become of a script's request, and why.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::builder::styling::{AnsiColor, Style};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::config::{Input, Report, check_policy_file, load};
use crate::cors::fetch::{Credentials, Engine};
use crate::cors::{Options, Policy, ResourceType};
use crate::explain::{Exchange, Hypothetical, Verdict};
use crate::metrics::Metrics;
use crate::server::ListenerSettings;

use super::json_text::{items, string, title_case};
use super::manual::Manual;
use super::output::{
    Failure, Format, NO, YES, complain, config_variable, count, has_colours, print,
};

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "What `run` would decide, of the URL, page and method that the browser names",
            "s3cors explain --config s3cors.toml --url http://photos.example.com/cat.jpg \\\n      \
             --origin https://app.example.com --method PUT --header content-type",
        ),
        (
            "Whether the script may send cookies and read the ETag",
            "s3cors explain --cors cors.xml --origin https://app.example.com --method GET \\\n      \
             --credentials include --read etag",
        ),
        (
            "A policy by itself",
            "s3cors explain --cors cors.xml --origin https://app.example.com --method GET",
        ),
    ],
    exit_codes: &[
        ("0", "allowed"),
        ("1", "refused"),
        ("2", "bad usage, or a config that does not check out"),
    ],
    environment: &[("S3CORS_CONFIG", "the config, where no file is named")],
    files: &[],
};

/// Where a policy without a route would be asked.
const SOME_URL: &str = "http://HOST/KEY";

/// Explain, rule by rule, whether a script's request would be allowed and why.
///
/// For a refused request, it names the condition that the nearest rule does not meet, the smallest
/// change of the policy that would allow the request, and what else that change would allow.
#[derive(Debug, Args)]
#[command(override_usage = "\
s3cors explain [OPTIONS] --config <FILE> --url <URL> --origin <ORIGIN> --method <METHOD>
       s3cors explain [OPTIONS] --cors <FILE> --origin <ORIGIN> --method <METHOD>")]
pub(super) struct Explain {
    /// The config; the URL selects the route and the bucket.
    #[arg(
        long,
        short,
        value_name = "FILE",
        conflicts_with = "cors",
        requires = "url"
    )]
    config: Option<PathBuf>,
    /// Without a config: the policy, S3's CORSConfiguration.
    #[arg(long, value_name = "FILE")]
    cors: Option<PathBuf>,
    /// What the script asks for: http://HOST/PATH.
    #[arg(long)]
    url: Option<String>,
    /// Where the script's page comes from: scheme, host and port.
    #[arg(long)]
    origin: String,
    /// The method that the script uses.
    #[arg(long)]
    method: String,
    /// A header that the script sets: its name, or `name: value`. Repeatable.
    #[arg(long = "header", value_name = "NAME")]
    headers: Vec<String>,
    /// Whether cookies and HTTP authentication travel with the request.
    #[arg(long, value_enum, default_value_t)]
    credentials: CredentialsMode,
    /// A response header that the script wants to read. Repeatable.
    #[arg(long, value_name = "NAME")]
    read: Vec<String>,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The credentials mode of `fetch()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum CredentialsMode {
    /// Never, or to the page's own origin only.
    #[default]
    Omit,
    /// Always.
    Include,
}

impl Explain {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let config = self.config.or_else(|| {
            let named = config_variable();
            named.filter(|_| self.cors.is_none())
        });
        let has_url = self.url.is_some();
        if config.is_some() && !has_url {
            let usage = "name what the script asks for (--url): the config that S3CORS_CONFIG names \
                         has routes";
            return Err(Failure::Usage(usage.into()));
        }
        let request = Hypothetical {
            url: self.url.unwrap_or_else(|| SOME_URL.to_owned()),
            origin: self.origin,
            method: self.method,
            headers: self.headers,
            credentials: match self.credentials {
                CredentialsMode::Omit => Credentials::Omit,
                CredentialsMode::Include => Credentials::Include,
            },
            read: self.read,
        };
        let (document, is_refused) = match (&config, &self.cors) {
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
            Format::Human => human(&document, has_url, has_colours(&io::stdout())),
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
    let mut explanation = snapshot.explain(request).map_err(usage)?;
    let listeners = loaded
        .config
        .iter()
        .flat_map(|config| &config.server.listeners);
    explanation.entrances = listeners.filter_map(ListenerSettings::entrance).collect();
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
    let exchange = exchange.judged(&policy, request);
    Ok((exchange.to_json(request), !exchange.is_allowed()))
}

fn usage(error: impl ToString) -> Failure {
    Failure::Usage(error.to_string())
}

fn refuse(report: &Report) -> Failure {
    let text = report.only_errors().render(has_colours(&io::stderr()));
    complain(&text);
    Failure::Usage(format!(
        "{}: nothing is explained",
        count(report.errors(), "error")
    ))
}

/// The explanation for people, made of the one for programs, so that both say the same.
fn human(document: &Value, has_url: bool, has_colours: bool) -> String {
    let mut text = Text {
        has_colours,
        ..Text::default()
    };
    let verdict = string(&document["verdict"]);
    let colour = match verdict {
        "allowed" => AnsiColor::Green,
        "refused" => AnsiColor::Red,
        _ => AnsiColor::Yellow,
    };
    let verdict = verdict.replace('_', " ").to_uppercase();
    text.styled(
        colour.on_default().bold(),
        0,
        format!("{verdict}: {}", string(&document["summary"])),
    );
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
        text.title(format!(
            "The browser asks first (preflight), for {}:",
            reasons.join("; ")
        ));
        text.decision(preflight);
    }
    let is_sent = !needed || preflight["outcome"] != "refused";
    if !actual.is_null() && is_sent {
        text.blank();
        let method = string(&actual["method"]);
        text.title(if document["same_origin"] == true {
            format!(
                "What the policy says of the {method}, of no consequence for a page of the same \
                 origin:"
            )
        } else if needed {
            format!("Then it sends the {method} itself:")
        } else {
            format!("Without a preflight, the browser sends the {method} itself:")
        });
        text.decision(actual);
    }
    text.consoles(document);
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
        text.title("See for yourself:");
        text.line(1, curl);
    }
    text.written
}

/// Lines, each with nothing in it that a terminal obeys but the styles that are given here.
#[derive(Default)]
struct Text {
    written: String,
    has_colours: bool,
}

impl Text {
    fn blank(&mut self) {
        self.written.push('\n');
    }

    fn line(&mut self, depth: usize, line: impl AsRef<str>) {
        self.styled(Style::new(), depth, line);
    }

    fn title(&mut self, line: impl AsRef<str>) {
        self.styled(Style::new().bold(), 0, line);
    }

    fn styled(&mut self, style: Style, depth: usize, line: impl AsRef<str>) {
        let style = if self.has_colours {
            style
        } else {
            Style::new()
        };
        for line in line.as_ref().lines() {
            let line = crate::config::visible(line);
            let indent = 2 * depth;
            let written = writeln!(self.written, "{:indent$}{style}{line}{style:#}", "");
            written.expect("a string takes every text");
        }
    }

    /// What each browser's console prints.
    fn consoles(&mut self, document: &Value) {
        let messages = document["browser"].get("messages").unwrap_or(&Value::Null);
        if document["verdict"] != "refused" || document["same_origin"] == true {
            return;
        }
        let engines = Engine::ALL.into_iter();
        let printed =
            engines.filter_map(|engine| Some((engine, messages[engine.as_str()].as_str()?)));
        let printed: Vec<_> = printed.collect();
        if printed.is_empty() {
            return;
        }
        self.blank();
        self.title("The browser's console says:");
        for (engine, message) in printed {
            self.line(1, format!("{engine}: {message}"));
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
        if bucket["ambiguous"].is_string() {
            self.line(0, "bucket   ambiguous");
        } else if !bucket.is_null() {
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
                if is_first {
                    let green = AnsiColor::Green.on_default();
                    self.styled(green, 1, format!("{title} matches"));
                } else {
                    self.line(1, format!("{title} would match, but an earlier one did"));
                }
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
        self.title(format!("To allow it: {what}"));
        let green = AnsiColor::Green.on_default();
        if let Some(whole) = advice["configuration"].as_str() {
            self.styled(green, 1, whole);
        } else {
            for edit in items(&advice["edits"]) {
                self.line(1, format!("{}:", string(&edit["text"])));
                self.styled(green, 2, string(&edit["xml"]));
            }
        }
        let lets_in: Vec<_> = items(&advice["lets_in"]).map(string).collect();
        if !lets_in.is_empty() {
            self.title("That lets in:");
            for one in lets_in {
                self.line(1, one);
            }
        }
        let places: Vec<_> = items(&advice["applies_to"]).collect();
        if !places.is_empty() {
            self.title("It applies to:");
            for place in places {
                self.line(1, string(&place["text"]));
            }
        }
    }
}
