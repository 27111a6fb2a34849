//! `s3cors config`: what there is to configure.

use clap::{Args, Subcommand};

use super::manual::Manual;
use super::output::{Failure, YES, print};

/// Every key with its default and a comment.
const DEFAULTS: &str = include_str!("../../config/s3cors.toml");

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        ("Begin a config", "s3cors config defaults > s3cors.toml"),
        (
            "Look a key up",
            "s3cors config defaults | grep -B 3 keep_alive",
        ),
    ],
    exit_codes: &[("0", "printed"), ("2", "bad usage")],
    environment: &[],
    files: &[],
};

/// Show the config keys.
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a config with every key, its default and a comment.
    ///
    /// All keys but `host` and `upstream` of a route may be left out. The policies that it names
    /// are examples: `s3cors check` lists the files that do not exist yet.
    Defaults,
}

impl Config {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        match self.command {
            Command::Defaults => print(DEFAULTS)?,
        }
        Ok(YES)
    }
}
