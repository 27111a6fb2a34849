//! The diagnostics of a config, for people and for programs.

use std::collections::HashSet;

use annotate_snippets::Renderer;
use annotate_snippets::renderer::DecorStyle;
use serde_json::Value;

use super::diagnostic::Diagnostic;

/// All diagnostics of a config and its files.
#[derive(Clone, Debug, Default)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Adds a diagnostic.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Adds shared diagnostics.
    pub(super) fn push_all(&mut self, diagnostics: &[Diagnostic]) {
        self.diagnostics.extend_from_slice(diagnostics);
    }

    /// Adds all of another report.
    pub fn extend(&mut self, other: Self) {
        self.diagnostics.extend(other.diagnostics);
    }

    /// Sorts the diagnostics of one file by place.
    pub(super) fn sort_by_place(&mut self) {
        self.diagnostics.sort_by_key(Diagnostic::offset);
    }

    /// Drops errors that only follow from syntax errors: a missing key may be one that could not
    /// be parsed, and an unparsed value has no type.
    pub(super) fn drop_followers(&mut self) {
        let is_syntax = |there: &&Diagnostic| there.code == SYNTAX;
        let broken: HashSet<usize> = self
            .diagnostics
            .iter()
            .filter(is_syntax)
            .filter_map(Diagnostic::offset)
            .collect();
        if broken.is_empty() {
            return;
        }
        self.diagnostics.retain(|there| {
            let follows = matches!(there.code, "no-route" | "missing-key")
                || there.offset().is_some_and(|at| broken.contains(&at));
            is_syntax(&there) || !follows
        });
    }

    /// All diagnostics.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// The number of errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        let errors = self.diagnostics.iter().filter(|there| there.is_error());
        errors.count()
    }

    /// The number of warnings.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors()
    }

    /// The first error.
    pub(super) fn first_error(&self) -> Option<&Diagnostic> {
        self.diagnostics.iter().find(|there| there.is_error())
    }

    /// The errors only.
    #[must_use]
    pub fn only_errors(&self) -> Self {
        let errors = self.diagnostics.iter().filter(|there| there.is_error());
        Self {
            diagnostics: errors.cloned().collect(),
        }
    }

    /// For people, in rustc's format; empty if there are none.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut text = String::new();
        for diagnostic in &self.diagnostics {
            text.push_str(&diagnostic.render(&renderer));
            text.push_str("\n\n");
        }
        text
    }

    /// For programs: an array with one object per diagnostic.
    #[must_use]
    pub fn json(&self) -> Value {
        self.diagnostics.iter().map(Diagnostic::json).collect()
    }
}

/// The code of a TOML syntax error.
pub(crate) const SYNTAX: &str = "toml";
