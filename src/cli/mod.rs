//! The commands. May use all rooms.
//!
//! Exit codes: 0 yes (drained, valid, allowed), 1 no (failed, invalid, refused), 2 bad usage or
//! config. `probe` also has 3: the server could not be reached.

mod access_log_file;
mod admin_client;
mod check;
mod completions;
mod config;
mod demo;
mod diagnose;
mod expectations;
mod explain;
mod explain_text;
mod health;
mod import;
mod json_text;
mod late_address;
mod log;
mod logged_request;
mod man;
mod manual;
mod next_step;
mod notify;
pub(crate) mod output;
mod prepare;
mod probe;
mod process;
mod ready;
mod record;
mod redact;
mod routes;
mod run;
mod signals;
mod test;
mod top;
mod verdict;

use std::process::ExitCode;

use clap::builder::{Resettable, StyledStr};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::text::visible::visible;

use manual::Manual;
use output::{Failure, NO, USAGE, YES, chain, complain, complain_briefly};

const MANUAL: Manual = Manual {
    examples: &[
        ("See it work, with nothing else installed", "s3cors demo"),
        (
            "Put S3's CORS in front of a server, under one policy",
            "s3cors run --upstream http://127.0.0.1:9000 --cors cors.xml",
        ),
        (
            "Find out why a browser was refused",
            "s3cors explain --cors cors.xml --origin https://app.example --method PUT",
        ),
        (
            "Start a config, and check it",
            "s3cors config defaults > s3cors.toml && s3cors check --config s3cors.toml",
        ),
    ],
    exit_codes: &[
        ("0", "yes: drained, valid, allowed"),
        ("1", "no: failed, invalid, refused"),
        ("2", "bad usage, or an invalid config"),
    ],
    environment: &[
        ("S3CORS_*", "set flags; each command's help names them"),
        ("NO_COLOR", "if set, disables colours"),
        (
            "CLICOLOR_FORCE",
            "if set, forces colours in files and pipes too",
        ),
    ],
    files: &[("/etc/s3cors/s3cors.toml", "the config of the service")],
};

/// The help text of each command besides its flags, by command line.
static MANUALS: [(&str, Manual); 17] = [
    ("", MANUAL),
    ("run", run::MANUAL),
    ("check", check::MANUAL),
    ("explain", explain::MANUAL),
    ("verdict", verdict::MANUAL),
    ("probe", probe::MANUAL),
    ("diagnose", diagnose::MANUAL),
    ("test", test::MANUAL),
    ("import", import::MANUAL),
    ("demo", demo::MANUAL),
    ("health", health::MANUAL),
    ("top", top::MANUAL),
    ("config", config::MANUAL),
    ("config defaults", config::MANUAL),
    ("config schema", config::SCHEMA_MANUAL),
    ("completions", completions::MANUAL),
    ("man", man::MANUAL),
];

/// A reverse proxy that adds S3-compliant CORS to any upstream.
///
/// Reads Amazon S3's own CORS configuration, answers preflights as S3 does, forwards everything
/// else and adds the CORS fields to the responses. Says why a browser's request was refused.
#[derive(Debug, Parser)]
#[command(
    name = "s3cors",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Explain(explain::Explain),
    Verdict(verdict::Verdict),
    Probe(probe::Probe),
    Diagnose(diagnose::Diagnose),
    Test(test::Test),
    Import(import::Import),
    Demo(demo::Demo),
    Health(health::Health),
    Top(top::Top),
    Config(config::Config),
    Completions(completions::Completions),
    Man(man::Man),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let parsed = command().try_get_matches();
    let parsed = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
    let command = match parsed {
        Ok(cli) => cli.command,
        Err(error) => {
            // If this fails, there is nowhere left to report it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { YES });
        }
    };
    let serves = matches!(command, Command::Run(_) | Command::Demo(_));
    let result = match command {
        Command::Run(run) => run.execute(),
        Command::Check(check) => check.execute(),
        Command::Explain(explain) => explain.execute(),
        Command::Verdict(verdict) => verdict.execute(),
        Command::Probe(probe) => probe.execute(),
        Command::Diagnose(diagnose) => diagnose.execute(),
        Command::Test(test) => test.execute(),
        Command::Import(import) => import.execute(),
        Command::Demo(demo) => demo.execute(),
        Command::Health(health) => health.execute(),
        Command::Top(top) => top.execute(),
        Command::Config(config) => config.execute(),
        Command::Completions(completions) => completions.execute(self::command()),
        Command::Man(man) => man.execute(Cli::command(), &MANUALS),
    };
    let (code, message, next) = match result {
        Ok(code) => return ExitCode::from(code),
        Err(Failure::Usage(message)) => (USAGE, message, None),
        Err(Failure::Failed(error)) => (NO, chain(&*error), next_step::after(&*error)),
    };
    let message: Vec<String> = message.lines().map(visible).collect();
    let mut text = format!("s3cors: {}\n", message.join("\n"));
    if let Some(next) = next {
        text.push_str(&format!(" = help: {next}\n"));
    }
    if serves {
        complain_briefly(text);
    } else {
        complain(&text);
    }
    ExitCode::from(code)
}

/// Builds the command line, with each command's help text.
fn command() -> clap::Command {
    MANUALS
        .iter()
        .fold(Cli::command(), |command, (words, manual)| {
            let help = manual.help(command.get_styles());
            let words: Vec<&str> = words.split_whitespace().collect();
            with_help(command, &words, help)
        })
        .mut_subcommands(|command| command.mut_args(without_empty_variable))
}

/// Treats an empty variable as unset, because Compose's `${NAME:-}` and the like cannot unset
/// one.
fn without_empty_variable(arg: clap::Arg) -> clap::Arg {
    let variable = arg.get_env().and_then(std::env::var_os);
    match variable {
        Some(value) if value.is_empty() => arg.env(Resettable::Reset),
        _ => arg,
    }
}

fn with_help(command: clap::Command, words: &[&str], help: StyledStr) -> clap::Command {
    match words {
        [] => command.after_long_help(help),
        [first, rest @ ..] => command.mut_subcommand(first, |below| with_help(below, rest, help)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command lines of all commands, subcommands included.
    fn words_of(command: &clap::Command, words: &str, found: &mut Vec<String>) {
        found.push(words.to_owned());
        for below in command.get_subcommands() {
            let words = format!("{words} {}", below.get_name());
            words_of(below, words.trim_start(), found);
        }
    }

    #[test]
    fn every_command_has_a_manual() {
        let mut commands = Vec::new();
        words_of(&Cli::command(), "", &mut commands);
        commands.sort();
        let mut manuals = MANUALS.map(|(words, _)| words.to_owned());
        manuals.sort();
        assert_eq!(commands, manuals);
        for (words, manual) in MANUALS {
            assert!(!manual.examples.is_empty(), "{words}");
            assert!(!manual.exit_codes.is_empty(), "{words}");
        }
    }

    #[test]
    fn every_example_parses() {
        for (_, manual) in MANUALS {
            for (_, line) in manual.examples {
                let line = line.replace("\\\n", "");
                let programs = line.split(['|', '>', '&']).map(str::trim);
                let mut ours = programs
                    .filter(|line| line.starts_with("s3cors "))
                    .peekable();
                assert!(ours.peek().is_some(), "{line}");
                for line in ours {
                    let parsed = command().try_get_matches_from(line.split_whitespace());
                    let parsed = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
                    assert!(parsed.is_ok(), "{line}: {parsed:?}");
                }
            }
        }
    }

    #[test]
    fn the_command_line_passes_claps_own_checks() {
        command().debug_assert();
    }
}
