//! Log lines and `/status` text about a reload.

use std::path::Path;

use crate::metrics::ReloadResult;
use crate::text::visible::visible;

use super::diagnostic::Diagnostic;
use super::files::Files;
use super::report::Report;

/// The maximum number of problems logged one by one.
const MAX_LOGGED: usize = 20;

/// The maximum number of problems in `/status`.
const MAX_SHOWN: usize = 5;

/// The maximum number of files named in one log line.
const MAX_NAMED: usize = 5;

/// Logs the result of a reload in one line: which files are now in force, and which are not and
/// why.
pub(super) fn log_outcome(result: ReloadResult, generation: u64, files: &Files, before: &Files) {
    let rejected = files.rejected();
    let changed = files.changed_since(before);
    let applied = changed.iter().filter(|path| !rejected.contains_key(**path));
    let applied = named(applied.map(|path| display(path)), "no file");
    let not_applied = rejected.iter().map(|(path, error)| {
        let path = display(path);
        if error.contains(&path) {
            (*error).to_owned()
        } else {
            format!("{path}: {error}")
        }
    });
    let not_applied = named(not_applied, "nothing");
    match result {
        ReloadResult::Applied => {
            tracing::info!(generation, "config reloaded: {applied} changed");
        }
        ReloadResult::Partial => tracing::error!(
            generation,
            errors = rejected.len(),
            "config partly reloaded: {applied} changed; not applied, last good version stays in force: {not_applied}"
        ),
        ReloadResult::Rejected => tracing::error!(
            generation,
            errors = rejected.len(),
            "config not reloaded; not applied, last good version stays in force: {not_applied}"
        ),
    }
}

fn display(path: &Path) -> String {
    visible(&path.display().to_string())
}

/// Lists the first few, and counts the rest.
fn named(all: impl Iterator<Item = String>, none: &str) -> String {
    let all: Vec<String> = all.collect();
    let Some(more) = all.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) else {
        return if all.is_empty() {
            none.to_owned()
        } else {
            all.join(", ")
        };
    };
    let shown: Vec<&str> = all.iter().take(MAX_NAMED).map(|one| &**one).collect();
    format!("{} and {more} more", shown.join(", "))
}

/// Logs each problem on its own line, errors first.
pub fn log(report: &Report) {
    let all = report.diagnostics();
    let errors = all.iter().filter(|there| there.is_error());
    let warnings = all.iter().filter(|there| !there.is_error());
    for diagnostic in errors.chain(warnings).take(MAX_LOGGED) {
        if diagnostic.is_error() {
            tracing::error!(code = diagnostic.code(), "{diagnostic}");
        } else {
            tracing::warn!(code = diagnostic.code(), "{diagnostic}");
        }
    }
    let more = all.len().saturating_sub(MAX_LOGGED);
    if more > 0 {
        tracing::warn!(more, "more problems not logged; `s3cors check` shows all");
    }
}

/// The first errors in one line, for `/status`.
pub(super) fn summary(report: &Report) -> String {
    let errors = report.diagnostics().iter().filter(|there| there.is_error());
    let lines: Vec<String> = errors.take(MAX_SHOWN).map(Diagnostic::to_string).collect();
    let mut summary = lines.join("; ");
    let more = report.errors().saturating_sub(MAX_SHOWN);
    if more > 0 {
        summary.push_str(&format!("; and {more} more"));
    }
    summary
}
