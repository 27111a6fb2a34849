//! `s3cors man`: the manual pages.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command};

use super::manual;
use super::manual::{Manual, Manuals};
use super::output::{Failure, YES, print};

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        ("Read a command's page", "s3cors man run | man -l -"),
        (
            "Install every page",
            "s3cors man --all /usr/local/share/man/man1",
        ),
    ],
    exit_codes: &[
        ("0", "printed, or written"),
        ("1", "a page cannot be written"),
        ("2", "no such command"),
    ],
    environment: &[],
    files: &[],
};

/// Print a manual page, or write all of them to a folder.
///
/// The pages have the same text as `--help`. The Debian package installs them: `man s3cors`, `man
/// s3cors-run`.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// The command, such as `run` or `config defaults`; by default, s3cors itself.
    #[arg(value_name = "COMMAND", conflicts_with = "all")]
    words: Vec<String>,
    /// Write every page to an existing folder: s3cors.1, s3cors-run.1, and so on.
    #[arg(long, value_name = "FOLDER")]
    all: Option<PathBuf>,
}

impl Man {
    /// Prints or writes the pages of `command`, with the text of `manuals`.
    pub(super) fn execute(self, mut command: Command, manuals: Manuals) -> Result<u8, Failure> {
        command.build();
        match &self.all {
            Some(folder) => write_all(&command, manuals, "", folder)?,
            None => {
                let asked_for = self.words.iter().try_fold(&command, |command, word| {
                    command.find_subcommand(word).ok_or_else(|| {
                        let name = self.words.join(" ");
                        Failure::Usage(format!(
                            "unknown command `{name}`; `s3cors --help` lists all commands"
                        ))
                    })
                })?;
                let page = manual::page(asked_for, manual_of(manuals, &self.words.join(" ")))?;
                print(&page)?;
            }
        }
        Ok(YES)
    }
}

/// Writes the pages of a command and of its subcommands.
fn write_all(
    command: &Command,
    manuals: Manuals,
    words: &str,
    folder: &Path,
) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = folder.join(format!("{name}.1"));
    let page = manual::page(command, manual_of(manuals, words))?;
    fs::write(&path, page).map_err(|error| {
        Failure::Failed(format!("cannot write {}: {error}", path.display()).into())
    })?;
    for below in command.get_subcommands() {
        let words = format!("{words} {}", below.get_name());
        write_all(below, manuals, words.trim_start(), folder)?;
    }
    Ok(())
}

fn manual_of(manuals: Manuals, words: &str) -> Option<&'static Manual> {
    manuals
        .iter()
        .find_map(|(name, manual)| (*name == words).then_some(manual))
}
