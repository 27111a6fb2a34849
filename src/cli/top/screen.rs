//! Draws a view on a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Sparkline, Table, TableState, Wrap};

use super::view::{COLUMNS, RefusedRow, View};

/// The user's selection and settings.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The id of the selected group.
    pub(super) group: Option<u64>,
    pub(super) is_paused: bool,
}

impl Choice {
    /// Moves the selection.
    pub(super) fn step(&mut self, view: &View, down: bool) {
        let last = view.refused.len().saturating_sub(1);
        let next = match (self.place(view), down) {
            (None, _) => 0,
            (Some(place), true) => (place + 1).min(last),
            (Some(place), false) => place.saturating_sub(1),
        };
        self.group = view.refused.get(next).map(|row| row.id);
    }

    fn place(&self, view: &View) -> Option<usize> {
        let id = self.group?;
        view.refused.iter().position(|row| row.id == id)
    }
}

const HEADING: Style = Style::new().add_modifier(Modifier::BOLD);
const QUIET: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, choice: &Choice) {
    let area = frame.area();
    let is_large = area.height >= 40;
    let [head, charts, refused, why, rest, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(3),
        Constraint::Min(5),
        Constraint::Length(4),
        Constraint::Length(if is_large { 14 } else { 5 }),
        Constraint::Length(1),
    ])
    .areas(area);
    let lines = vec![
        Line::styled(view.process.as_str(), HEADING),
        Line::raw(view.totals.as_str()),
    ];
    frame.render_widget(Paragraph::new(lines), head);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(charts);
    chart(
        frame,
        left,
        "requests per minute",
        &view.requests,
        Color::Green,
    );
    chart(
        frame,
        right,
        "refused per minute",
        &view.refused_per_minute,
        Color::Red,
    );
    groups(frame, refused, view, choice);
    reason(frame, why, view, choice);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(rest);
    let [allowed, events] = match is_large {
        true => {
            Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(left)
        }
        false => [left, Rect::ZERO],
    };
    let rows = view
        .allowed
        .iter()
        .map(|[origin, route, count]| format!("{count:>8}  {origin}  {route}"));
    list(
        frame,
        allowed,
        "allowed origins",
        rows.collect(),
        "none yet",
    );
    if is_large {
        list(
            frame,
            events,
            "last requests",
            view.events.clone(),
            "none since this screen opened",
        );
    }
    let none = "none: all files are in force, all upstreams are healthy";
    list(frame, right, "problems", view.problems.clone(), none);
    let paused = if choice.is_paused { "  PAUSED" } else { "" };
    let text = format!("q quit   p pause   up, down choose{paused}");
    frame.render_widget(Paragraph::new(text).style(QUIET), keys);
}

fn block(title: &str) -> Block<'_> {
    Block::new()
        .borders(Borders::TOP)
        .title(Span::styled(format!(" {title} "), HEADING))
}

fn chart(frame: &mut Frame<'_>, area: Rect, title: &str, minutes: &[u64], color: Color) {
    let last = minutes.last().copied().unwrap_or_default();
    let title = format!("{title}: {last} now");
    let width = usize::from(area.width);
    // The newest minutes, where not all have room.
    let shown = minutes
        .get(minutes.len().saturating_sub(width)..)
        .unwrap_or_default();
    let chart = Sparkline::default()
        .data(shown)
        .style(Style::new().fg(color))
        .block(block(&title));
    frame.render_widget(chart, area);
}

fn groups(frame: &mut Frame<'_>, area: Rect, view: &View, choice: &Choice) {
    let widths = |widest: u16, column: usize, name: &str| {
        let cells = view.refused.iter().filter_map(|row| row.cells.get(column));
        let longest = cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default();
        let longest = u16::try_from(longest.max(name.len())).unwrap_or(u16::MAX);
        longest.min(widest)
    };
    let is_wide = area.width >= 120;
    let most: [u16; 7] = match is_wide {
        true => [8, 7, 24, 34, 8, 50, 200],
        false => [8, 6, 14, 12, 7, 27, 200],
    };
    let constraints = COLUMNS
        .iter()
        .enumerate()
        .map(|(column, name)| match most.get(column) {
            Some(200) | None => Constraint::Min(4),
            Some(most) => Constraint::Length(widths(*most, column, name)),
        });
    let title = match view.refused.len() {
        0 => "refused: nothing".to_owned(),
        count => format!("refused: {count} groups"),
    };
    let rows = view
        .refused
        .iter()
        .map(|row| Row::new(row.cells.iter().map(String::as_str)));
    let table = Table::new(rows, constraints)
        .header(Row::new(COLUMNS).style(QUIET))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(block(&title));
    let mut state = TableState::default().with_selected(choice.place(view));
    frame.render_stateful_widget(table, area, &mut state);
}

/// Why the selected group is refused; without a selection, the most recent one.
fn reason(frame: &mut Frame<'_>, area: Rect, view: &View, choice: &Choice) {
    let row: Option<&RefusedRow> = choice
        .place(view)
        .and_then(|place| view.refused.get(place))
        .or_else(|| view.refused.first());
    let lines = row.map_or_else(Vec::new, |row| {
        vec![
            Line::raw(row.why.as_str()),
            Line::styled(row.explain.as_str(), QUIET),
        ]
    });
    let text = Paragraph::new(lines)
        .wrap(Wrap { trim: true })
        .block(block("why"));
    frame.render_widget(text, area);
}

fn list(frame: &mut Frame<'_>, area: Rect, title: &str, rows: Vec<String>, none: &str) {
    let lines: Vec<Line<'_>> = match rows.is_empty() {
        true => vec![Line::styled(none.to_owned(), QUIET)],
        false => rows.into_iter().map(Line::raw).collect(),
    };
    let text = Paragraph::new(lines).wrap(Wrap { trim: true });
    frame.render_widget(text.block(block(title)), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::view::tests::snapshot;
    use super::*;

    fn drawn(width: u16, height: u16, choice: &Choice) -> String {
        let mut view = View::new("127.0.0.1:9901");
        view.take(&snapshot());
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &view, choice)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn both_sizes_show_every_section() {
        for (width, height) in [(80, 24), (200, 50)] {
            let screen = drawn(width, height, &Choice::default());
            for part in [
                "s3cors 0.1.0 at 127.0.0.1:9901 · serving · generation 3",
                "last 2 min: 150 requests",
                "requests per minute: 50 now",
                "refused per minute: 7 now",
                "refused: 2 groups",
                "photos/cats",
                "https://app.example",
                "header x-amz-acl is not in AllowedHeader",
                "https://*.app.example",
                "not in force: cors.xml",
                "q quit",
            ] {
                assert!(screen.contains(part), "{part}\n{screen}");
            }
            assert!(!screen.contains('\u{1b}') && !screen.contains('\u{202e}'));
        }
    }

    #[test]
    fn a_tiny_terminal_does_not_panic() {
        for (width, height) in [(1, 1), (10, 3), (20, 10), (80, 1)] {
            drawn(width, height, &Choice::default());
        }
    }

    #[test]
    fn the_choice_stays_with_its_group_and_within_the_list() {
        let mut view = View::new("x");
        view.take(&snapshot());
        let mut choice = Choice::default();
        choice.step(&view, true);
        assert_eq!(choice.group, Some(1));
        choice.step(&view, true);
        choice.step(&view, true);
        assert_eq!(choice.group, Some(2));
        view.refused.swap(0, 1);
        assert_eq!(choice.place(&view), Some(0));
        choice.step(&view, false);
        assert_eq!(choice.group, Some(2));
        view.refused.clear();
        choice.step(&view, true);
        assert_eq!(choice.group, None);
    }
}
