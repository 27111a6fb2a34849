//! `s3cors explain`: what happens to a script's request, and why.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::config::{Input, Report, check_policy_file, load};
use crate::cors::fetch::Credentials;
use crate::cors::{Options, Policy, ResourceType};
use crate::explain::{Exchange, Hypothetical, Verdict};
use crate::metrics::Metrics;
use crate::server::ListenerSettings;

use super::explain_text::human;
use super::manual::Manual;
use super::output::{
    Failure, Format, NO, YES, complain, config_variable, count, has_colours, print,
};

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "What `run` would decide, for the URL, page and method that the browser names",
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
        ("2", "bad usage, or an invalid config"),
    ],
    environment: &[("S3CORS_CONFIG", "the config, if no file is given")],
    files: &[],
};

/// The URL used for a policy without a route.
const SOME_URL: &str = "http://HOST/KEY";

/// Explain, rule by rule, whether a script's request would be allowed and why.
///
/// For a refused request, it names the condition that the nearest rule does not meet, the
/// smallest change of the policy that would allow the request, and what else that change would
/// allow.
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
    /// The URL that the script requests: http://HOST/PATH.
    #[arg(long)]
    url: Option<String>,
    /// The origin of the script's page: scheme, host and port.
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
            let usage = "--url is missing: S3CORS_CONFIG names a config, whose routes are selected by the URL";
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
    // An invalid config is not explained: `run` would not use it.
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
        "{}; not explained",
        count(report.errors(), "error")
    ))
}
