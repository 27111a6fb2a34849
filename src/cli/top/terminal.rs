//! The terminal: reads keys, draws screens.

use std::io;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::feed::{Feed, FeedEvent};
use super::screen::{Choice, draw};
use super::view::View;

/// How often the screen is redrawn without input.
const INTERVAL: Duration = Duration::from_millis(250);

/// Shows the feed until the user quits or the feed ends.
pub(super) fn show(view: &mut View, feed: Feed) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let shown = follow(view, feed, &mut terminal);
    ratatui::restore();
    shown
}

fn follow(view: &mut View, feed: Feed, terminal: &mut ratatui::DefaultTerminal) -> io::Result<()> {
    let events = feed.spawn();
    let mut choice = Choice::default();
    loop {
        terminal.draw(|frame| draw(frame, view, &choice))?;
        if event::poll(INTERVAL)?
            && let Event::Key(key) = event::read()?
            && is_leaving(key, view, &mut choice)
        {
            return Ok(());
        }
        loop {
            match events.try_recv() {
                Ok(Ok(_)) if choice.is_paused => {}
                Ok(Ok(FeedEvent::Snapshot(snapshot))) => view.take(&snapshot),
                Ok(Ok(FeedEvent::Cors(event))) => view.add(&event),
                Ok(Err(error)) => return Err(error),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Err(io::Error::other("s3cors closed the stream"));
                }
            }
        }
    }
}

/// Handles a key; returns whether to quit.
fn is_leaving(key: KeyEvent, view: &View, choice: &mut Choice) -> bool {
    if key.kind == KeyEventKind::Release {
        return false;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('p' | ' ') => choice.is_paused = !choice.is_paused,
        KeyCode::Down | KeyCode::Char('j') => choice.step(view, true),
        KeyCode::Up | KeyCode::Char('k') => choice.step(view, false),
        _ => {}
    }
    false
}
