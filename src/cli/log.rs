//! The process's own log, on standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::time::Instant;
use std::{io, thread};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::cors::nearest;
use crate::metrics::DroppedLines;
use crate::telemetry::{LineWriter, LogLimiter, LogQueue, LogQueueGuard};

use super::output::Failure;

const DEFAULT: &str = "info";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The flags of the log.
#[derive(Clone, Debug, Args)]
pub(super) struct Log {
    /// What to log: off, error, warn, info, debug or trace, or a level for each module.
    #[arg(
        long = "log",
        env = "S3CORS_LOG",
        value_name = "FILTER",
        default_value = DEFAULT
    )]
    filter: String,
    /// The format of the log.
    #[arg(
        long,
        env = "S3CORS_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    log_format: LogFormat,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// The running log. Dropping it writes the last lines.
#[derive(Debug)]
pub(super) struct RunningLog {
    pub(super) dropped: DroppedLines,
    _guard: LogQueueGuard,
}

impl Log {
    /// Starts the log. No thread waits for standard error, not even on a panic.
    pub(super) fn start(&self) -> Result<RunningLog, Failure> {
        let filter = filter(&self.filter)
            .map_err(|error| Failure::Usage(format!("--log {}: {error}", self.filter)))?;
        let dropped = DroppedLines::default();
        let output = LineWriter::duplicate(&io::stderr())?;
        let (queue, guard) = LogQueue::start(output, dropped.clone())?;
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(queue)
            .log_internal_errors(false)
            .with_ansi(super::output::has_colours(&io::stderr()));
        match self.log_format {
            LogFormat::Human => subscriber.init(),
            LogFormat::Json => subscriber.json().flatten_event(true).init(),
        }
        panic::set_hook(Box::new(log_panic));
        Ok(RunningLog {
            dropped,
            _guard: guard,
        })
    }
}

thread_local! {
    static PANICS: LogLimiter<1> = LogLimiter::default();
}

/// Logs panics, the first few of each second. The standard hook writes to standard error, which
/// may block or fail.
fn log_panic(panic: &PanicHookInfo<'_>) {
    if !PANICS.with(|limiter| limiter.take(0, Instant::now(), |_| {})) {
        return;
    }
    let payload = panic.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let location = panic.location().map(tracing::field::display);
    let backtrace = Backtrace::capture();
    let is_captured = backtrace.status() == BacktraceStatus::Captured;
    tracing::error!(
        thread = thread::current().name(),
        panic = message,
        location,
        backtrace = is_captured.then(|| tracing::field::display(&backtrace)),
        "a bug in s3cors: a thread panicked"
    );
}

/// Parses a filter. An empty one, from a variable set to nothing, is the default.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let text = if text.trim().is_empty() {
        DEFAULT
    } else {
        text
    };
    // The library takes any word that is not a level for a module, and then logs nothing else.
    let is_module = |word: &str| word.contains(['=', ':', '[', ']']);
    let mut words = text.split(',').map(str::trim);
    let odd = words.find(|word| {
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        !word.is_empty() && !is_level && !is_module(word)
    });
    match odd {
        Some(word) => {
            let begins = || LEVELS.into_iter().find(|level| word.starts_with(level));
            let meant = nearest(word, &LEVELS).or_else(begins);
            let meant = meant.map(|level| format!("; did you mean `{level}`?"));
            Err(format!(
                "`{word}` isn't a level{} (for a module, write `{word}=LEVEL`)",
                meant.unwrap_or_default()
            ))
        }
        None => EnvFilter::try_new(text).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_not_a_level_is_refused() {
        for text in [
            "info",
            "WARN",
            "",
            " ",
            "s3cors::proxy=debug,info",
            "hyper=trace",
            "off",
        ] {
            assert!(filter(text).is_ok(), "{text}");
        }
        for (text, said) in [
            ("warning", "`warn`"),
            ("inffo", "`info`"),
            ("info,debgu", "`debug`"),
            ("nonsense", "`nonsense` isn't a level"),
            ("x=y=z", ""),
        ] {
            let error = filter(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
