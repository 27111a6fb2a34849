//! The commands: `run`, `check`, `explain`, `import` and `demo`. May use all rooms.
//!
//! Exit codes: 0 yes (drained, valid, allowed), 1 no (failed, invalid, refused), 2 the question
//! was wrong (usage, config).

mod check;
mod demo;
mod explain;
mod import;
mod log;
mod notify;
mod process;
mod run;
mod store;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Everything went as asked.
const YES: u8 = 0;

/// It was understood, and the answer is no.
const NO: u8 = 1;

/// It was not understood.
const USAGE: u8 = 2;

/// S3's CORS in front of any upstream.
#[derive(Debug, Parser)]
#[command(name = "s3cors", version, about, long_about = None, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve.
    Run(run::Run),
    /// Check a config, or policy files, as a start would.
    Check(check::Check),
    /// Say what would become of a script's request, rule by rule, and why.
    Explain(explain::Explain),
    /// Turn other systems' CORS settings into S3's XML, and say what that loses.
    Import(import::Import),
    /// Serve an object store in memory behind a policy, to try things out.
    Demo(demo::Demo),
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// Why a command ends early.
#[derive(Debug)]
enum Failure {
    /// What was asked makes no sense, or the config does not check out. All is said already, or
    /// is said by this text.
    Usage(String),
    /// It could not be done.
    Failed(Box<dyn Error>),
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Nobody is left to tell where that fails.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { YES });
        }
    };
    let result = match command {
        Command::Run(run) => run.execute(),
        Command::Check(check) => check.execute(),
        Command::Explain(explain) => explain.execute(),
        Command::Import(import) => import.execute(),
        Command::Demo(demo) => demo.execute(),
    };
    let (code, message) = match result {
        Ok(code) => return ExitCode::from(code),
        Err(Failure::Usage(message)) => (USAGE, message),
        Err(Failure::Failed(error)) => (NO, chain(&*error)),
    };
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "s3cors: {message}");
    ExitCode::from(code)
}

/// An error and what it comes from.
fn chain(error: &dyn Error) -> String {
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
/// (<https://no-color.org>).
fn has_colours(stream: &impl IsTerminal) -> bool {
    let minds = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !minds
}

/// Writes an answer. That nobody reads it to its end (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// `1 route`, `2 routes`.
fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
