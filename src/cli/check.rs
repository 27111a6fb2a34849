//! `s3cors check`: what a start and a reload do, without serving.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{Input, Report, check_policy, check_policy_file, load};
use crate::cors::{MAX_DOCUMENT, Options};

use super::manual::Manual;
use super::output::{Failure, Format, NO, YES, config_variable, count, has_colours, print};

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "A config and all files that it names",
            "s3cors check --config s3cors.toml",
        ),
        (
            "Policies, before a bucket or a route uses them",
            "s3cors check cors.xml buckets/photos.xml",
        ),
        (
            "In CI: fail on warnings, print JSON",
            "s3cors check --deny-warnings --format json cors.xml",
        ),
    ],
    exit_codes: &[
        ("0", "no errors; there may be warnings"),
        ("1", "there are errors, or warnings with --deny-warnings"),
        ("2", "bad usage"),
    ],
    environment: &[("S3CORS_CONFIG", "the config, if no file is given")],
    files: &[],
};

/// Check a config or policy files, as a start would.
///
/// Reports every error and warning with its file, line, column and fix: what S3 rejects, under
/// S3's own error code, and what S3 accepts but is rarely intended.
#[derive(Debug, Args)]
#[command(override_usage = "\
s3cors check [OPTIONS] --config <FILE>
       s3cors check [OPTIONS] <FILE.xml>...")]
pub(super) struct Check {
    /// The config; every file that it names is checked too.
    #[arg(long, short, value_name = "FILE", conflicts_with = "files")]
    config: Option<PathBuf>,
    /// CORS configurations, as S3 has them; `-` is standard input.
    #[arg(value_name = "FILE.xml")]
    files: Vec<PathBuf>,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Exit with 1 if there are warnings.
    #[arg(long)]
    deny_warnings: bool,
}

impl Check {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let config = self.config.or_else(|| {
            let named = config_variable();
            named.filter(|_| self.files.is_empty())
        });
        let (report, checked) = match config {
            Some(path) => {
                let mut loaded = load(&Input::file(path));
                loaded.try_start();
                let routes = loaded
                    .config
                    .as_ref()
                    .map_or(0, |config| config.routes.len());
                let policies = loaded.policy_count();
                let checked = format!("{}, {}", count(routes, "route"), policies_text(policies));
                (loaded.report, checked)
            }
            None if self.files.is_empty() => {
                let usage = "nothing to check: name a config (--config FILE) or policy files";
                return Err(Failure::Usage(usage.into()));
            }
            None => {
                let mut report = Report::default();
                let mut good = 0;
                for path in &self.files {
                    let options = Options::default();
                    let checked = if path == Path::new("-") {
                        let name = Path::new("<stdin>");
                        check_policy(name, &standard_input()?, &options, &mut report)
                    } else {
                        check_policy_file(path, &options, &mut report)
                    };
                    good += usize::from(checked.is_some());
                }
                let checked = policies_text(good);
                (report, checked)
            }
        };
        let (errors, warnings) = (report.errors(), report.warnings());
        match self.format {
            Format::Json => print(&format!("{:#}\n", report.json()))?,
            Format::Human => {
                let mut text = report.render(has_colours(&io::stdout()));
                text.push_str(&match (errors, warnings) {
                    (0, 0) => format!("ok: {checked}\n"),
                    (0, _) => format!("ok: {checked}; {}\n", count(warnings, "warning")),
                    (_, 0) => format!("{}\n", count(errors, "error")),
                    _ => format!(
                        "{}, {}\n",
                        count(errors, "error"),
                        count(warnings, "warning")
                    ),
                });
                print(&text)?;
            }
        }
        let is_bad = errors > 0 || (self.deny_warnings && warnings > 0);
        Ok(if is_bad { NO } else { YES })
    }
}

/// Reads standard input up to one byte beyond S3's limit.
fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = MAX_DOCUMENT as u64 + 1;
    let read = io::stdin().lock().take(limit).read_to_end(&mut bytes);
    read.map_err(|error| Failure::Usage(format!("cannot read standard input: {error}")))?;
    Ok(bytes)
}

fn policies_text(number: usize) -> String {
    match number {
        1 => "1 policy".to_owned(),
        _ => format!("{number} policies"),
    }
}
