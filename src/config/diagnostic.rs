//! What is wrong with a file, where, and how to mend it; for people and for programs.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use crate::cors;
use crate::cors::Severity;

use super::file::SYNTAX;

/// The longest line that is shown, in bytes: minified files have lines of megabytes.
const MAX_LINE: usize = 2000;

/// The most lines of a span that are shown.
const MAX_LINES: usize = 6;

/// A file that diagnostics speak of.
#[derive(Debug)]
pub struct SourceFile {
    path: PathBuf,
    text: String,
    /// Where each line begins.
    lines: OnceLock<Vec<usize>>,
}

/// Something to say of a file or of a setting.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    severity: Severity,
    code: &'static str,
    message: String,
    detail: Option<String>,
    help: Option<String>,
    place: Option<Place>,
    /// Another place that it is about, and what is there.
    related: Option<(Place, String)>,
}

/// A place in a file, or a file as a whole.
#[derive(Clone, Debug)]
struct Place {
    file: Arc<SourceFile>,
    span: Option<Range<usize>>,
}

/// A line and a column, both counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Everything that there is to say of a config and its files.
#[derive(Clone, Debug, Default)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
}

impl SourceFile {
    /// A file with its text; what is no UTF-8 is replaced.
    #[must_use]
    pub fn new(path: &Path, bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            text: String::from_utf8_lossy(bytes).into_owned(),
            lines: OnceLock::new(),
        })
    }

    /// A file that could not be read.
    #[must_use]
    pub fn unread(path: &Path) -> Arc<Self> {
        Self::new(path, b"")
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let ends = self.text.bytes().enumerate();
            let starts = ends
                .filter(|(_, byte)| *byte == b'\n')
                .map(|(at, _)| at + 1);
            std::iter::once(0).chain(starts).collect()
        })
    }

    /// Which line an offset lies in, counted from 0, and where that line begins.
    fn line(&self, offset: usize) -> (usize, usize) {
        let lines = self.lines();
        let index = lines
            .partition_point(|start| *start <= offset)
            .saturating_sub(1);
        (index, lines.get(index).copied().unwrap_or_default())
    }

    /// The offset nearest to this one, not behind it, at which a character begins.
    fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    fn between(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to).unwrap_or_default()
    }
}

impl Place {
    fn position(&self) -> Option<Position> {
        let offset = self.file.floor(self.span.as_ref()?.start);
        let (line, start) = self.file.line(offset);
        Some(Position {
            line: line + 1,
            column: self.file.between(start, offset).chars().count() + 1,
        })
    }

    fn path(&self) -> String {
        visible(&self.file.path.display().to_string())
    }

    /// The lines to show, the first of them counted from 1, and the span in them; `None` where
    /// there is nothing to show.
    fn excerpt(&self) -> Option<(&str, usize, Range<usize>)> {
        let file = &*self.file;
        let span = self.span.as_ref()?;
        let (start, end) = (file.floor(span.start), file.floor(span.end.max(span.start)));
        let (first, from) = file.line(start);
        let (last, _) = file.line(end.saturating_sub(1).max(start));
        let last = last.min(first + MAX_LINES - 1);
        let to = file.lines().get(last + 1).copied();
        let text = file.between(from, to.unwrap_or(file.text.len()));
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() || text.split('\n').any(|line| line.len() > MAX_LINE) {
            return None;
        }
        let start = (start - from).min(text.len());
        let end = (end - from).clamp(start, text.len());
        Some((text, first + 1, start..end))
    }
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

    /// Something that keeps a file from being used.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// Something that is probably not meant.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// What the engine says of a document.
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

    /// In which file and where in it.
    #[must_use]
    pub fn at(self, file: &Arc<SourceFile>, span: Range<usize>) -> Self {
        let file = Arc::clone(file);
        let place = Some(Place {
            file,
            span: Some(span),
        });
        Self { place, ..self }
    }

    /// In which file, as a whole.
    #[must_use]
    pub fn of(self, file: &Arc<SourceFile>) -> Self {
        let file = Arc::clone(file);
        let place = Some(Place { file, span: None });
        Self { place, ..self }
    }

    /// In a flag, or the environment variable that stands for it.
    #[must_use]
    pub(super) fn of_flag(self, flag: &str) -> Self {
        let message = format!("{flag}: {}", self.message);
        Self { message, ..self }
    }

    /// What precisely is wrong.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        let detail = Some(detail.into());
        Self { detail, ..self }
    }

    /// How to mend it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        let help = Some(help.into());
        Self { help, ..self }
    }

    /// Another place that it is about.
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

    /// Whether it keeps a file from being used.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.place.as_ref()?.position()
    }

    /// The file that it is about.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        Some(&self.place.as_ref()?.file.path)
    }

    fn offset(&self) -> Option<usize> {
        let span = self.place.as_ref()?.span.as_ref()?;
        Some(span.start)
    }

    /// In rustc's shape.
    fn render(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(visible(&self.message)).id(self.code);
        let mut group = Group::with_title(title);
        // The library shows labels and paths as they are.
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

    fn json(&self) -> Value {
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

impl Place {
    /// This place in the excerpt of another one, where it is there.
    fn within(&self, other: &Self) -> Option<Range<usize>> {
        if !Arc::ptr_eq(&self.file, &other.file) {
            return None;
        }
        let (text, first, _) = other.excerpt()?;
        let from = self.file.lines().get(first - 1)?;
        let span = self.span.as_ref()?;
        let (start, end) = (span.start.checked_sub(*from)?, span.end.checked_sub(*from)?);
        (end <= text.len()).then_some(start..end)
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

impl Report {
    /// Adds what there is to say.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Adds all of another report.
    pub fn extend(&mut self, other: Self) {
        self.diagnostics.extend(other.diagnostics);
    }

    /// Brings what was said of one file into the order in which it stands there.
    pub(super) fn sort_by_place(&mut self) {
        self.diagnostics.sort_by_key(Diagnostic::offset);
    }

    /// Drops what only follows from the errors in the TOML itself: what is missing may be what
    /// could not be read, and a value that could not be read has no type.
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

    /// All of it.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many errors there are.
    #[must_use]
    pub fn errors(&self) -> usize {
        let errors = self.diagnostics.iter().filter(|there| there.is_error());
        errors.count()
    }

    /// How many warnings there are.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors()
    }

    /// The errors alone.
    #[must_use]
    pub fn only_errors(&self) -> Self {
        let errors = self.diagnostics.iter().filter(|there| there.is_error());
        Self {
            diagnostics: errors.cloned().collect(),
        }
    }

    /// For people, in rustc's shape; empty where there is nothing to say.
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

    /// For programs: an array with an object for each diagnostic.
    #[must_use]
    pub fn json(&self) -> Value {
        self.diagnostics.iter().map(Diagnostic::json).collect()
    }
}

/// Text of files in one line, and nothing in it that a terminal obeys.
pub(crate) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        let obeyed = character.is_control()
            || matches!(
                character,
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            );
        if obeyed {
            visible.extend(character.escape_default());
        } else {
            visible.push(character);
        }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Arc<SourceFile> {
        SourceFile::new(Path::new("a.toml"), text.as_bytes())
    }

    #[test]
    fn places_are_counted_from_one_and_in_characters() {
        let file = file("a\nß = x\r\n\n");
        for (offset, line, column) in [
            (0, 1, 1),
            (1, 1, 2),
            (2, 2, 1),
            (3, 2, 1),
            (4, 2, 2),
            (10, 3, 1),
            (99, 4, 1),
        ] {
            let place = Place {
                file: Arc::clone(&file),
                span: Some(offset..offset),
            };
            assert_eq!(
                place.position(),
                Some(Position { line, column }),
                "{offset}"
            );
        }
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
        let text = "ab\r\n\r\nß\u{1b}[31m\n".to_owned() + &"x".repeat(3 * MAX_LINE) + "\n\n";
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
                assert!(!text.contains('\u{1b}'), "{text:?}");
                assert!(!report.diagnostics()[0].to_string().contains('\u{1b}'));
                assert!(report.json()[0]["line"].is_u64());
            }
        }
    }
}
