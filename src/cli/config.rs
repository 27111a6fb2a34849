//! `s3cors config`: shows the config keys.

use clap::{Args, Subcommand};

use crate::config;

use super::manual::Manual;
use super::output::{Failure, YES, print};

/// Every key with its default and a comment.
const DEFAULTS: &str = include_str!("../../config/s3cors.toml");

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        ("Start a config", "s3cors config defaults > s3cors.toml"),
        (
            "Look up a key",
            "s3cors config defaults | grep -B 3 keep_alive",
        ),
    ],
    exit_codes: &[("0", "printed"), ("2", "bad usage")],
    environment: &[],
    files: &[],
};

pub(super) const SCHEMA_MANUAL: Manual = Manual {
    examples: &[(
        "Have editors complete and check keys",
        "s3cors config schema > s3cors.schema.json",
    )],
    ..MANUAL
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
    /// A config may leave out every key except `host` and `upstream` of a route. The policies
    /// that it names are examples: `s3cors check` lists the files that do not exist yet.
    Defaults,
    /// Print the JSON Schema of the config, for editors.
    ///
    /// Editors with a TOML language server (Even Better TOML, taplo) complete, explain and check keys
    /// with it once the first line of the config names it: `#:schema ./s3cors.schema.json`.
    Schema,
}

impl Config {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        match self.command {
            Command::Defaults => print(DEFAULTS)?,
            Command::Schema => print(&format!("{:#}\n", config::schema()))?,
        }
        Ok(YES)
    }
}
