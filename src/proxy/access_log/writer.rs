//! The thread that writes the access log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::metrics::Metrics;

use super::{Destination, Message};

/// Finished lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) text: String,
    pub(super) count: u64,
}

impl Lines {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            count: 0,
        }
    }
}

pub(super) struct Writer {
    destination: Destination,
    output: Output,
    metrics: Arc<Metrics>,
    /// Whether the last lines could not be written, so that this is said once and not for each.
    is_failing: bool,
}

enum Output {
    Standard(io::Stdout),
    File(File),
}

impl Writer {
    pub(super) fn open(destination: Destination, metrics: Arc<Metrics>) -> io::Result<Self> {
        let output = match &destination {
            Destination::StandardOutput => Output::Standard(io::stdout()),
            Destination::File(path) => Output::File(open(path)?),
        };
        Ok(Self {
            destination,
            output,
            metrics,
            is_failing: false,
        })
    }

    /// Writes until nobody is left who could send.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        for message in messages {
            match message {
                Message::Write(lines) => self.write(&lines),
                Message::Reopen => self.reopen(),
            }
        }
    }

    fn write(&mut self, lines: &Lines) {
        let written = match &mut self.output {
            Output::Standard(output) => {
                let mut output = output.lock();
                let written = output.write_all(lines.text.as_bytes());
                written.and_then(|()| output.flush())
            }
            Output::File(file) => file.write_all(lines.text.as_bytes()),
        };
        if let Err(error) = &written {
            self.metrics.access_log_dropped(lines.count);
            if !self.is_failing {
                tracing::error!(%error, "cannot write the access log: lines are lost");
            }
        }
        self.is_failing = written.is_err();
    }

    fn reopen(&mut self) {
        let Destination::File(path) = &self.destination else {
            return;
        };
        match open(path) {
            Ok(file) => self.output = Output::File(file),
            Err(error) => {
                let path = path.display();
                tracing::error!(%error, %path, "cannot open the access log anew: the old file stays");
            }
        }
    }
}

/// For the user and the group: addresses of clients are nobody else's business.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}
