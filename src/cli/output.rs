//! What commands share: exit codes, failures, and how text is printed.

use std::error::Error;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;

use crate::telemetry::LineWriter;

/// Everything went as asked.
pub(crate) const YES: u8 = 0;

/// It was understood, and the answer is no.
pub(crate) const NO: u8 = 1;

/// It was not understood.
pub(crate) const USAGE: u8 = 2;

/// The server that was asked could not be reached.
pub(crate) const UNREACHED: u8 = 3;

/// How long a command that serves waits for standard error before it ends.
pub(crate) const COMPLAINT: Duration = Duration::from_secs(1);

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked makes no sense, or the config does not check out. All is said already, or
    /// is said by this text.
    Usage(String),
    /// It could not be done.
    Failed(Box<dyn Error + Send + Sync>),
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// An error and what it comes from.
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

/// Whether what is written there may have colours: it is a terminal, and nobody minds
/// (<https://no-color.org>), or somebody insists (<https://bixense.com/clicolors>). The rule is
/// the one that the help follows.
pub(crate) fn has_colours(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Writes an answer. A reader that leaves early (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let written = LineWriter::duplicate(&io::stdout())?.write(text.as_bytes());
    match written {
        Err(lost) if lost.source.kind() != io::ErrorKind::BrokenPipe => Err(lost.source.into()),
        _ => Ok(()),
    }
}

/// Writes to standard error. If that fails, the exit code has to be enough.
pub(crate) fn complain(text: &str) {
    if let Ok(mut stderr) = LineWriter::duplicate(&io::stderr()) {
        let _ = stderr.write(text.as_bytes());
    }
}

/// The same for a command that serves: it must end even if nobody reads its standard error.
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

/// The config that the environment names, for commands that may do without one.
pub(crate) fn config_variable() -> Option<PathBuf> {
    let named = std::env::var_os("S3CORS_CONFIG").filter(|path| !path.is_empty());
    named.map(PathBuf::from)
}

/// `1 route`, `2 routes`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
