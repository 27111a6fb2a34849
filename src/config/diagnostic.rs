//! Diagnostics: what is wrong with a file, where, and how to fix it; for people and for programs.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use crate::cors;
use crate::cors::Severity;
use crate::text::visible::visible;

use super::source::{Place, Position, SourceFile};

/// An error or warning about a file or a setting.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    severity: Severity,
    pub(super) code: &'static str,
    message: String,
    detail: Option<String>,
    help: Option<String>,
    place: Option<Place>,
    /// A related place and its label.
    related: Option<(Place, String)>,
}

impl Diagnostic {
    fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            message: message.into(),
            detail: None,
            help: None,
            place: None,
            related: None,
        }
    }

    /// An error: the file cannot be used.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A warning: probably a mistake.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// A finding of the engine about a document.
    #[must_use]
    pub fn problem(file: &Arc<SourceFile>, problem: cors::Problem) -> Self {
        Self {
            detail: problem.detail,
            help: problem.hint,
            place: Some(Place {
                file: Arc::clone(file),
                span: problem.span,
            }),
            ..Self::new(problem.severity, problem.code, problem.message)
        }
    }

    /// Adds the file and the place in it.
    #[must_use]
    pub fn at(self, file: &Arc<SourceFile>, span: Range<usize>) -> Self {
        let file = Arc::clone(file);
        let place = Some(Place {
            file,
            span: Some(span),
        });
        Self { place, ..self }
    }

    /// Adds the file as a whole.
    #[must_use]
    pub fn of(self, file: &Arc<SourceFile>) -> Self {
        let file = Arc::clone(file);
        let place = Some(Place { file, span: None });
        Self { place, ..self }
    }

    /// Adds the flag, or the environment variable that sets it.
    #[must_use]
    pub(super) fn of_flag(self, flag: &str) -> Self {
        let message = format!("{flag}: {}", self.message);
        Self { message, ..self }
    }

    /// Adds the exact error.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        let detail = Some(detail.into());
        Self { detail, ..self }
    }

    /// Adds how to fix it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        let help = Some(help.into());
        Self { help, ..self }
    }

    /// Adds a related place.
    #[must_use]
    pub fn also(
        self,
        file: &Arc<SourceFile>,
        span: Range<usize>,
        label: impl Into<String>,
    ) -> Self {
        let place = Place {
            file: Arc::clone(file),
            span: Some(span),
        };
        Self {
            related: Some((place, label.into())),
            ..self
        }
    }

    /// Whether it is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The place.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.place.as_ref()?.position()
    }

    /// The file that it is about.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        Some(&self.place.as_ref()?.file.path)
    }

    pub(super) fn offset(&self) -> Option<usize> {
        let span = self.place.as_ref()?.span.as_ref()?;
        Some(span.start)
    }

    /// Formats it like rustc.
    pub(super) fn render(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(visible(&self.message)).id(self.code);
        let mut group = Group::with_title(title);
        // The library prints labels and paths unescaped.
        let mut detail = self.detail.as_deref().map(visible);
        let label = self.related.as_ref().map(|(_, label)| visible(label));
        if let Some(place) = &self.place {
            match place.excerpt() {
                Some((text, line, span)) => {
                    let primary = AnnotationKind::Primary.span(span).label(detail.take());
                    let mut snippet = Snippet::source(text)
                        .line_start(line)
                        .path(place.path())
                        .annotation(primary);
                    if let Some((related, _)) = &self.related
                        && let Some(span) = related.within(place)
                    {
                        snippet = snippet
                            .annotation(AnnotationKind::Context.span(span).label(label.clone()));
                    }
                    group = group.element(snippet);
                }
                None => {
                    let mut origin = Origin::path(place.path());
                    if let Some(position) = place.position() {
                        origin = origin.line(position.line).char_column(position.column);
                    }
                    group = group.element(origin);
                }
            }
        }
        if let Some(detail) = detail {
            group = group.element(Level::NOTE.message(detail));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(visible(help)));
        }
        let mut groups = vec![group];
        if let Some((related, _)) = &self.related
            && self
                .place
                .as_ref()
                .is_none_or(|place| related.within(place).is_none())
            && let Some((text, line, span)) = related.excerpt()
        {
            let snippet = Snippet::source(text)
                .line_start(line)
                .path(related.path())
                .annotation(AnnotationKind::Context.span(span));
            let title = Level::NOTE.secondary_title(label.unwrap_or_default());
            groups.push(Group::with_title(title).element(snippet));
        }
        renderer.render(&groups)
    }

    pub(super) fn json(&self) -> Value {
        let position = self.position();
        json!({
            "file": self.place.as_ref().map(Place::path),
            "line": position.map(|position| position.line),
            "column": position.map(|position| position.column),
            "severity": match self.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "code": self.code,
            "message": self.message,
            "detail": self.detail,
            "help": self.help,
            "related": self.related.as_ref().map(|(place, label)| {
                let position = place.position();
                json!({
                    "file": place.path(),
                    "line": position.map(|position| position.line),
                    "column": position.map(|position| position.column),
                    "message": label,
                })
            }),
        })
    }
}

/// One line, for logs and `/status`: `s3cors.toml:3:8: unknown key: «hots»`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:", place.path())?;
            if let Some(Position { line, column }) = place.position() {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&visible(&self.message))?;
        if let Some(detail) = &self.detail {
            write!(f, ": {}", visible(detail))?;
        }
        Ok(())
    }
}

pub(crate) fn with_help(diagnostic: Diagnostic, help: Option<String>) -> Diagnostic {
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::report::Report;

    fn file(text: &str) -> Arc<SourceFile> {
        SourceFile::new(Path::new("a.toml"), text.as_bytes())
    }

    #[test]
    fn a_diagnostic_looks_like_rustcs() {
        let file = file("[[route]]\nhots = \"x\"\nhost = \"y\"\n");
        let mut report = Report::default();
        report.push(
            Diagnostic::error("unknown-key", "unknown key `hots`")
                .at(&file, 10..14)
                .help("did you mean `host`?"),
        );
        assert_eq!(
            report.render(false),
            "error[unknown-key]: unknown key `hots`
 --> a.toml:2:1
  |
2 | hots = \"x\"
  | ^^^^
  |
  = help: did you mean `host`?

"
        );
        assert_eq!(
            report.diagnostics()[0].to_string(),
            "a.toml:2:1: unknown key `hots`"
        );
    }

    #[test]
    fn any_place_can_be_shown() {
        let text = "ab\r\n\r\nß\u{1b}[31m\u{9b}1m\n".to_owned() + &"x".repeat(3 * 2000) + "\n\n";
        let file = file(&text);
        for start in 0..30 {
            for length in [0, 1, 2, 5, 10_000] {
                let mut report = Report::default();
                report.push(
                    Diagnostic::warning("w", "m\u{1b}[31m")
                        .at(&file, start..start + length)
                        .detail("d\u{1b}[31m")
                        .help("h\u{1b}[31m")
                        .also(&file, 0..1, "l\u{1b}[31m"),
                );
                let text = report.render(false);
                let obeyed = |one: char| one.is_control() && one != '\n';
                assert!(!text.contains(obeyed), "{text:?}");
                assert!(!report.diagnostics()[0].to_string().contains('\u{1b}'));
                assert!(report.json()[0]["line"].is_u64());
            }
        }
    }
}
