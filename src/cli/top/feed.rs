//! Reads the admin listener's `/cors/live`.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use serde_json::Value;

use crate::cli::admin_client::{AdminStream, left, too_late};

/// The longest line of the stream.
const MAX_LINE: u64 = 16 * 1024 * 1024;

/// How many events may wait for the screen.
const WAITING: usize = 256;

/// An item of the stream.
#[derive(Debug)]
pub(super) enum FeedEvent {
    Snapshot(Value),
    Cors(Value),
}

/// The rest of the stream.
pub(super) struct Feed {
    reader: BufReader<Box<dyn AdminStream>>,
}

impl Feed {
    /// Opens the stream and reads the first snapshot.
    pub(super) fn join(
        mut stream: Box<dyn AdminStream>,
        deadline: Instant,
    ) -> io::Result<(Self, Value)> {
        // HTTP/1.0: the body has no framing.
        stream.write_all(b"GET /cors/live HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        stream.limit_reads(Some(left(deadline)?))?;
        let mut feed = Self {
            reader: BufReader::new(stream),
        };
        let status = feed.line()?;
        let mut is_stream = false;
        loop {
            let line = feed.line()?.to_ascii_lowercase();
            is_stream |= line == "content-type: text/event-stream";
            if line.is_empty() {
                break;
            }
        }
        if !is_stream {
            let mut text = String::new();
            let rest = feed.reader.by_ref().take(1024);
            let _ = BufReader::new(rest).read_line(&mut text);
            let is_http = status.starts_with("HTTP/1.");
            return Err(io::Error::other(
                match is_http && status.contains(" 503 ") {
                    true => text.trim().to_owned(),
                    false => {
                        "the answer is not from an admin listener of s3cors that has /cors/live"
                            .to_owned()
                    }
                },
            ));
        }
        loop {
            if let FeedEvent::Snapshot(snapshot) = feed.event()? {
                feed.reader.get_ref().limit_reads(None)?;
                return Ok((feed, snapshot));
            }
        }
    }

    /// Reads on its own thread until the stream ends.
    pub(super) fn spawn(self) -> Receiver<io::Result<FeedEvent>> {
        let (sender, receiver) = sync_channel(WAITING);
        std::thread::spawn(move || self.run(&sender));
        receiver
    }

    fn run(mut self, sender: &SyncSender<io::Result<FeedEvent>>) {
        loop {
            let event = self.event();
            let is_over = event.is_err();
            if sender.send(event).is_err() || is_over {
                return;
            }
        }
    }

    fn event(&mut self) -> io::Result<FeedEvent> {
        loop {
            let line = self.line()?;
            let Some(name) = line.strip_prefix("event: ").map(str::to_owned) else {
                continue;
            };
            let data = self.line()?;
            let data = data.strip_prefix("data: ").unwrap_or_default();
            let data = serde_json::from_str(data).map_err(io::Error::other)?;
            match &*name {
                "snapshot" => return Ok(FeedEvent::Snapshot(data)),
                "cors" => return Ok(FeedEvent::Cors(data)),
                _ => {}
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let read = self
            .reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line);
        match read {
            Ok(0) => Err(io::Error::other("s3cors closed the stream")),
            Ok(_) => Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(too_late()),
            Err(error) => Err(error),
        }
    }
}
