//! The thread that writes the access log.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rustix::fs::{Access, OFlags, access};

use crate::metrics::Metrics;
use crate::telemetry::LineWriter;

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
    output: LineWriter,
    metrics: Arc<Metrics>,
    /// Whether the last lines could not be written, so that this is said once and not for each.
    is_failing: bool,
}

impl Writer {
    pub(super) fn open(destination: Destination, metrics: Arc<Metrics>) -> io::Result<Self> {
        let output = match &destination {
            Destination::StandardOutput => LineWriter::duplicate(&io::stdout())?,
            Destination::File(path) => LineWriter::new(open(path)?),
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
        let written = self.output.write(lines.text.as_bytes());
        if let Err(lost) = &written {
            self.metrics.access_log_dropped(lost.lines);
            if !self.is_failing {
                let error = &lost.source;
                let path = &self.destination;
                tracing::error!(%error, %path, "cannot write the access log: lines are lost");
            }
        }
        self.is_failing = written.is_err();
    }

    fn reopen(&mut self) {
        let Destination::File(path) = &self.destination else {
            return;
        };
        match open(path) {
            Ok(file) => self.output = LineWriter::new(file),
            Err(error) => {
                let path = path.display();
                tracing::error!(%error, %path, "cannot reopen the access log (`access_log.path`): the old file stays");
            }
        }
    }
}

/// Opens the file for the user and the group: clients' addresses are private.
///
/// A named pipe is opened for reading too: Linux then waits for no reader, and readers may come and
/// go ([fifo(7)]). Nothing else is waited for either, so that a start always ends.
///
/// [fifo(7)]: https://man7.org/linux/man-pages/man7/fifo.7.html
fn open(path: &Path) -> io::Result<File> {
    options(path).create(!is_pipe(path)).open(path)
}

/// Says why a file could not be opened. It is not created or changed.
///
/// # Errors
///
/// What a start would meet.
pub fn try_to_open(path: &Path) -> io::Result<()> {
    match options(path).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map(drop),
    }
    // It would be created.
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

fn options(path: &Path) -> OpenOptions {
    const FLAGS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);
    let mut options = OpenOptions::new();
    options
        .mode(0o640)
        .custom_flags(i32::try_from(FLAGS.bits()).unwrap_or_default());
    if is_pipe(path) {
        options.read(true).write(true);
    } else {
        options.append(true);
    }
    options
}

fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}
