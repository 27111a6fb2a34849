//! The process' own log, on standard error.

use std::io;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::Failure;

/// What is logged, and how.
#[derive(Clone, Debug, Args)]
pub(super) struct Log {
    /// What is logged: off, error, warn, info, debug or trace, or by module.
    #[arg(
        long = "log",
        env = "S3CORS_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    filter: String,
    /// How a line of the log looks.
    #[arg(
        long,
        env = "S3CORS_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    log_format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// A JSON object a line.
    Json,
}

impl Log {
    /// Begins to log.
    pub(super) fn start(&self) -> Result<(), Failure> {
        let filter = EnvFilter::try_new(&self.filter)
            .map_err(|error| Failure::Usage(format!("--log {}: {error}", self.filter)))?;
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(super::has_colours(&io::stderr()));
        match self.log_format {
            LogFormat::Human => subscriber.init(),
            LogFormat::Json => subscriber.json().flatten_event(true).init(),
        }
        Ok(())
    }
}
