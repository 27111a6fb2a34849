//! The text of a command's help besides its flags, and the manual pages made from both.

use std::fmt::{self, Write};
use std::io;

use clap::Command;
use clap::builder::styling::Style;
use clap::builder::{Resettable, StyledStr, Styles};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// A name and its meaning.
type Entry = (&'static str, &'static str);

/// The text of a command's help besides its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manual {
    /// Purposes and command lines.
    pub(super) examples: &'static [Entry],
    /// What each exit code means.
    pub(super) exit_codes: &'static [Entry],
    /// Environment variables that are read without a flag.
    pub(super) environment: &'static [Entry],
    /// Files and folders, and their purpose.
    pub(super) files: &'static [Entry],
}

/// The manuals of all commands, by command line.
pub(super) type Manuals = &'static [(&'static str, Manual)];

impl Manual {
    /// The text below the flags in `--help`.
    pub(super) fn help(&self, styles: &Styles) -> StyledStr {
        let mut text = StyledStr::new();
        self.write_help(&mut text, styles.get_header(), styles.get_literal())
            .expect("a string takes every text");
        text
    }

    fn write_help(&self, text: &mut StyledStr, header: &Style, literal: &Style) -> fmt::Result {
        write!(text, "{header}Examples:{header:#}")?;
        for (purpose, line) in self.examples {
            write!(text, "\n  {purpose}:\n    {literal}{line}{literal:#}")?;
        }
        let lists = [
            ("Exit codes", self.exit_codes),
            ("Environment", self.environment),
            ("Files", self.files),
        ];
        for (title, entries) in lists.iter().filter(|(_, entries)| !entries.is_empty()) {
            write!(text, "\n\n{header}{title}:{header:#}")?;
            let width = entries.iter().map(|(name, _)| name.len()).max();
            let width = width.unwrap_or_default();
            for (name, meaning) in *entries {
                write!(text, "\n  {literal}{name:width$}{literal:#}  {meaning}")?;
            }
        }
        Ok(())
    }

    /// The sections of the manual page after the flags.
    fn sections(&self) -> Roff {
        let mut roff = Roff::new();
        let lists = [
            ("EXIT STATUS", self.exit_codes),
            ("ENVIRONMENT", self.environment),
            ("FILES", self.files),
        ];
        for (title, entries) in lists.iter().filter(|(_, entries)| !entries.is_empty()) {
            roff.control("SH", [*title]);
            for (name, meaning) in *entries {
                roff.control("TP", []);
                roff.text([bold(*name)]).text([roman(*meaning)]);
            }
        }
        roff.control("SH", ["EXAMPLES"]);
        for (index, (purpose, line)) in self.examples.iter().enumerate() {
            if index > 0 {
                roff.control("PP", []);
            }
            roff.text([roman(format!("{purpose}:"))]);
            roff.control("PP", []).control("RS", ["4"]);
            roff.control("nf", []).text([bold(*line)]);
            roff.control("fi", []).control("RE", []);
        }
        roff
    }
}

/// The manual page, section 1, of a command of a built command line.
pub(super) fn page(command: &Command, manual: Option<&Manual>) -> io::Result<String> {
    let mut page = Vec::new();
    // The version is in the page's footer already.
    Man::new(command.clone().version(Resettable::Reset))
        // No date, so that builds are reproducible. An empty date would be replaced, so it is a
        // space.
        .date(" ")
        .source(concat!("s3cors ", env!("CARGO_PKG_VERSION")))
        .manual("s3cors")
        .render(&mut page)?;
    if let Some(manual) = manual {
        let mut sections = manual.sections();
        if command.get_display_name() != Some("s3cors") {
            sections.control("SH", ["SEE ALSO"]);
            sections.text([bold("s3cors"), roman("(1)")]);
        }
        sections.to_writer(&mut page)?;
    }
    String::from_utf8(page).map_err(io::Error::other)
}
