//! `s3cors completions`: prints shell completion scripts.

use clap::Args;
use clap_complete::Shell;

use super::manual::Manual;
use super::output::{Failure, YES, print};

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "bash, for one user",
            "s3cors completions bash > ~/.local/share/bash-completion/completions/s3cors",
        ),
        (
            "zsh, in a folder of $fpath",
            "s3cors completions zsh > ~/.zfunc/_s3cors",
        ),
        (
            "fish",
            "s3cors completions fish > ~/.config/fish/completions/s3cors.fish",
        ),
    ],
    exit_codes: &[("0", "printed"), ("2", "no such shell")],
    environment: &[],
    files: &[],
};

/// Print a script that completes commands and flags in a shell.
///
/// The Debian package installs the scripts for bash, zsh and fish.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(self, mut command: clap::Command) -> Result<u8, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "s3cors", &mut script);
        print(&String::from_utf8_lossy(&script))?;
        Ok(YES)
    }
}
