//! Shared by all commands: exit codes, failures and printing.

use std::error::Error;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;

use crate::telemetry::LineWriter;

/// The command succeeded.
pub(crate) const YES: u8 = 0;

/// The command ran, and its answer is no.
pub(crate) const NO: u8 = 1;

/// Bad usage, input or config.
pub(crate) const USAGE: u8 = 2;

/// The probed server could not be reached.
pub(crate) const UNREACHED: u8 = 3;

/// How long a serving command waits for standard error before it ends.
pub(crate) const COMPLAINT: Duration = Duration::from_secs(1);

/// The output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// Why a command fails.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad usage, input or config. The text is empty if everything was printed already.
    Usage(String),
    /// The command could not do its work.
    Failed(Box<dyn Error + Send + Sync>),
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Formats an error with its sources.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Whether to print colours: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>), or
/// always with `CLICOLOR_FORCE` (<https://bixense.com/clicolors>). The help follows the same
/// rule.
pub(crate) fn has_colours(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Prints the result. A reader that closes the pipe early (`| head`) is not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let written = LineWriter::duplicate(&io::stdout())?.write(text.as_bytes());
    match written {
        Err(lost) if lost.source.kind() != io::ErrorKind::BrokenPipe => Err(lost.source.into()),
        _ => Ok(()),
    }
}

/// Writes to standard error. If that fails, only the exit code is left.
pub(crate) fn complain(text: &str) {
    if let Ok(mut stderr) = LineWriter::duplicate(&io::stderr()) {
        let _ = stderr.write(text.as_bytes());
    }
}

/// The same for a serving command: it must end even if nothing reads its standard error.
pub(crate) fn complain_briefly(text: String) {
    let (done, waiting) = mpsc::channel();
    let write = move || {
        complain(&text);
        let _ = done.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = waiting.recv_timeout(COMPLAINT);
    }
}

/// The config from the environment, for commands where a config is optional.
pub(crate) fn config_variable() -> Option<PathBuf> {
    let named = std::env::var_os("S3CORS_CONFIG").filter(|path| !path.is_empty());
    named.map(PathBuf::from)
}

/// `1 route`, `2 routes`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
