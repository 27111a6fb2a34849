//! `s3cors diagnose`: finds CORS failures in a recording of a browser's network traffic.

mod advice;
mod blocked;
mod bounded;
mod file;
mod har;
mod head;
mod loose;
mod netlog;
mod pending;
mod report;
mod requests;
mod synthetic;

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::text::visible::visible;

use super::manual::Manual;
use super::output::{Failure, Format, NO, YES, has_colours, print};
use advice::Advisor;

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "A NetLog that a user recorded with chrome://net-export",
            "s3cors diagnose chrome-net-export-log.json",
        ),
        (
            "With the smallest change of the policy for each blocked request",
            "s3cors diagnose --config s3cors.toml chrome-net-export-log.json",
        ),
        (
            "As JSON, for programs: the reasons",
            "s3cors diagnose --format json net.json | jq '.blocked[].error'",
        ),
    ],
    exit_codes: &[
        ("0", "no request is blocked"),
        ("1", "at least one is"),
        (
            "2",
            "bad usage, or a file that is neither a NetLog nor a HAR",
        ),
    ],
    environment: &[],
    files: &[],
};

/// Find the requests that CORS blocked in a recording of a browser.
///
/// Reads a Chrome NetLog (chrome://net-export, or `--log-net-log=FILE`), complete or broken off,
/// or a HAR, which has less detail. Groups the blocked cross-origin requests and says why each
/// was blocked, with Chrome's error name and each browser's console message. Never prints
/// cookies, authorization, signatures or the values of queries.
#[derive(Debug, Args)]
pub(super) struct Diagnose {
    /// The NetLog or HAR; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A config: shows the smallest change of its policies that allows each request.
    #[arg(long, short, value_name = "FILE", conflicts_with = "cors")]
    config: Option<PathBuf>,
    /// A policy, S3's CORSConfiguration, instead of a config.
    #[arg(long, value_name = "FILE")]
    cors: Option<PathBuf>,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Diagnose {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let advisor = Advisor::new(self.config.as_deref(), self.cors.as_deref())?;
        let recording = file::read(&self.file).map_err(|error| Failure::Usage(visible(&error)))?;
        let document = report::to_json(&recording, advisor.as_ref());
        print(&match self.format {
            Format::Json => format!("{document:#}\n"),
            Format::Human => report::to_text(&document, has_colours(&io::stdout())),
        })?;
        let document = &document;
        let is_clean = document["blocked"].as_array().is_none_or(Vec::is_empty);
        Ok(if is_clean { YES } else { NO })
    }
}
