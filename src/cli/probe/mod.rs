//! `s3cors probe`: sends a live server what a browser would send.

mod checks;
mod client;
mod exchange;
mod finding;
mod fix;
mod reason;
mod report;
mod response_findings;
mod server;
mod target;
mod tls;
mod wanted;

use std::io;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::task::LocalSet;

use crate::cors::fetch::{Credentials, Mode, ScriptRequest, normalized_method};
use crate::text::visible::visible;

use super::manual::Manual;
use super::output::{Failure, Format, NO, UNREACHED, YES, complain, has_colours, print};
use super::process;
use client::Client;
use exchange::conduct;
use fix::Fix;
use report::{ProbeOutcome, Report};
use server::Server;
use target::Resolve;
use wanted::Wanted;

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "Whether a page can read an object, and what to change if not",
            "s3cors probe https://photos.s3.eu-central-1.amazonaws.com/cat.jpg --origin https://app.example.com",
        ),
        (
            "An upload, with the response field that multipart uploads need",
            "s3cors probe https://s3.example.com/photos/cat.jpg --origin https://app.example.com \\\n      \
             --method PUT --header content-type:image/jpeg --read etag",
        ),
        (
            "A server that is not in the DNS yet",
            "s3cors probe https://s3.example.com/photos/ --origin https://app.example.com \\\n      \
             --resolve s3.example.com:443:192.0.2.1 --insecure",
        ),
    ],
    exit_codes: &[
        (
            "0",
            "the script can read the response, or the preflight passed and nothing else was sent",
        ),
        ("1", "it cannot, or cannot read every field of --read"),
        ("2", "bad usage"),
        (
            "3",
            "the server could not be reached, or did not answer in time",
        ),
    ],
    environment: &[(
        "SSL_CERT_FILE, SSL_CERT_DIR",
        "certificates to trust instead of the system's",
    )],
    files: &[],
};

/// Send a live server what a browser would send, and report whether a script can read the
/// response.
///
/// Sends the preflight if the browser needs one, then the request, and follows redirects as browsers do. Shows the
/// exchange, the verdict, and how to allow the request in the settings of that server (Amazon S3, MinIO, R2, nginx, …).
///
/// Then sends up to seven more requests, which only read, to find problems that no single request
/// shows: responses that depend on Origin without `Vary`, caches that give one site's response to
/// another, errors without CORS fields.
#[derive(Debug, Args)]
pub(super) struct Probe {
    /// The URL that the script requests: http://HOST/PATH or https://HOST/PATH.
    #[arg(value_name = "URL")]
    url: String,
    /// The origin of the script's page: scheme, host and port.
    #[arg(long)]
    origin: String,
    /// The method that the script uses.
    #[arg(long, default_value = "GET")]
    method: String,
    /// A header that the script sets: `name: value`, or a name alone, which gets a sample value. Repeatable.
    #[arg(long = "header", value_name = "NAME[: VALUE]")]
    headers: Vec<String>,
    /// Whether the script sends credentials. The probe itself has no cookies.
    #[arg(long, value_enum, default_value_t)]
    credentials: CredentialsMode,
    /// A response header that the script wants to read. Repeatable.
    #[arg(long, value_name = "NAME")]
    read: Vec<String>,
    /// Also send requests other than GET and HEAD, without a body. They may change or delete the
    /// object at the URL.
    #[arg(long)]
    send: bool,
    /// The address to connect to for a host and port, in curl's form. Repeatable.
    #[arg(long, value_name = "HOST:PORT:ADDRESS")]
    resolve: Vec<Resolve>,
    /// Accept any TLS certificate.
    #[arg(long)]
    insecure: bool,
    /// The time limit of each request; all together may take six times as long.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
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

impl Probe {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let read = target::names(&self.read).map_err(usage)?;
        let request = ScriptRequest {
            origin: target::origin(&self.origin).map_err(usage)?,
            url: target::url(&self.url).map_err(usage)?,
            method: target::method(&self.method).map_err(usage)?,
            headers: target::headers(&self.headers).map_err(usage)?,
            credentials: match self.credentials {
                CredentialsMode::Omit => Credentials::Omit,
                CredentialsMode::Include => Credentials::Include,
            },
            mode: Mode::Cors,
        };
        let client = Client::new(
            Duration::from_secs(self.timeout),
            self.resolve,
            self.insecure,
        );
        let probing = probe(client, request, read, self.send);
        let report = process::run(LocalSet::new().run_until(probing))??;
        print(&match self.format {
            Format::Json => format!("{:#}\n", report.to_json()),
            Format::Human => report.to_text(has_colours(&io::stdout())),
        })?;
        if report.result() == ProbeOutcome::Unreached {
            let error = report
                .exchanged
                .steps
                .iter()
                .find_map(|step| step.answer.as_ref().err());
            let error = error.map_or_else(|| "no answer".to_owned(), ToString::to_string);
            complain(&format!("s3cors: {}\n", visible(&error)));
            return Ok(UNREACHED);
        }
        Ok(if report.is_satisfied() { YES } else { NO })
    }
}

async fn probe(
    mut client: Client,
    request: ScriptRequest,
    read: Vec<String>,
    may_send: bool,
) -> Result<Report, Failure> {
    let exchanged = conduct(&mut client, request, may_send).await;
    if exchanged.is_unsent && exchanged.preflight().is_none() {
        let method = normalized_method(&exchanged.exchange.request.method);
        return Err(Failure::Usage(format!(
            "a browser sends this {method} without a preflight, so only the request itself shows the server's answer; --send sends it"
        )));
    }
    let mut findings = response_findings::look(&exchanged, &read);
    let mut checks = Vec::new();
    if response_findings::is_reached(&exchanged) {
        let checked = checks::check(&mut client, &exchanged).await;
        findings.extend(checked.findings);
        checks = checked.steps;
    }
    findings.sort_by_key(|finding| finding.severity);
    let url = exchanged
        .last
        .as_ref()
        .map_or(&*exchanged.exchange.request.url, |hop| &*hop.url);
    let answers = exchanged.steps.iter().chain(&checks);
    let answers = answers
        .filter(|step| same_server(&step.sent.url, url))
        .filter_map(|step| step.answer.as_ref().ok());
    let server = Server::of(url, answers);
    let fix = Fix::of(&server, url, &Wanted::of(&exchanged, &read));
    let mut report = Report {
        exchanged,
        checks,
        findings,
        server,
        fix: Some(fix),
    };
    if report.is_satisfied() || report.result() == ProbeOutcome::Unreached {
        report.fix = None;
    }
    Ok(report)
}

fn same_server(one: &str, other: &str) -> bool {
    crate::cors::fetch::origin_of(one) == crate::cors::fetch::origin_of(other)
}

fn usage(error: String) -> Failure {
    Failure::Usage(visible(&error))
}
