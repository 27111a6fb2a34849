//! Places in files: stored as byte offsets, reported as line and column, shown with an excerpt.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::text::visible::{is_unsafe, visible};

/// The longest line shown, in bytes: minified files have lines of megabytes.
const MAX_LINE: usize = 2000;

/// The maximum number of a span's lines shown.
const MAX_LINES: usize = 6;

/// A file that diagnostics refer to.
#[derive(Debug)]
pub struct SourceFile {
    pub(super) path: PathBuf,
    text: String,
    /// The offset of each line's start.
    lines: OnceLock<Vec<usize>>,
}

/// A place in a file, or a whole file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: Arc<SourceFile>,
    pub(super) span: Option<Range<usize>>,
}

/// A line and a column, both counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl SourceFile {
    /// A file with its text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn new(path: &Path, bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            text: String::from_utf8_lossy(bytes).into_owned(),
            lines: OnceLock::new(),
        })
    }

    /// An unreadable file.
    #[must_use]
    pub fn unread(path: &Path) -> Arc<Self> {
        Self::new(path, b"")
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
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

    /// The line that contains an offset, counted from 0, and the line's start.
    fn line(&self, offset: usize) -> (usize, usize) {
        let lines = self.lines();
        let index = lines
            .partition_point(|start| *start <= offset)
            .saturating_sub(1);
        (index, lines.get(index).copied().unwrap_or_default())
    }

    /// The nearest character boundary at or before this offset.
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
    pub(super) fn position(&self) -> Option<Position> {
        let offset = self.file.floor(self.span.as_ref()?.start);
        let (line, start) = self.file.line(offset);
        Some(Position {
            line: line + 1,
            column: self.file.between(start, offset).chars().count() + 1,
        })
    }

    pub(super) fn path(&self) -> String {
        visible(&self.file.path.display().to_string())
    }

    /// The lines to show, the number of the first counted from 1, and the span in them; `None` if
    /// there is nothing to show.
    pub(super) fn excerpt(&self) -> Option<(Cow<'_, str>, usize, Range<usize>)> {
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
        Some((without_unsafe_characters(text), first + 1, start..end))
    }
}

impl Place {
    /// This place within the excerpt of another place, if it is in there.
    pub(super) fn within(&self, other: &Self) -> Option<Range<usize>> {
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

/// Replaces unsafe characters that the renderer prints as they are by others of equal length in
/// UTF-8, so that spans stay valid. The renderer makes ASCII control characters visible itself.
fn without_unsafe_characters(text: &str) -> Cow<'_, str> {
    let is_unsafe = |character: char| !character.is_ascii() && is_unsafe(character);
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let replaced = |character: char| match character.len_utf8() {
        _ if !is_unsafe(character) => character.to_string(),
        2 => "·".to_owned(),
        3 => "\u{fffd}".to_owned(),
        _ => "··".to_owned(),
    };
    text.chars().map(replaced).collect::<String>().into()
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
}
