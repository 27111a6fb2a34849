//! The writer thread of the access log.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rustix::fs::{Access, OFlags, access};
use rustix::io::Errno;

use crate::metrics::Metrics;
use crate::telemetry::LineWriter;

use super::Destination;

/// Finished lines.
#[derive(Debug, Default)]
pub(crate) struct FinishedLines {
    pub(crate) text: Vec<u8>,
    pub(crate) count: u64,
}

impl FinishedLines {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            count: 0,
        }
    }
}

pub(crate) struct AccessLogWriter {
    destination: Destination,
    output: LineWriter,
    metrics: Arc<Metrics>,
    /// Whether the last write failed, so that a failure is reported once and not for each line.
    is_failing: bool,
}

impl AccessLogWriter {
    pub(crate) fn open(destination: Destination, metrics: Arc<Metrics>) -> io::Result<Self> {
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

    /// Writes until all senders are gone.
    pub(crate) fn run(mut self, messages: &Receiver<Message>) {
        for message in messages {
            match message {
                Message::Write(lines) => self.write(&lines),
                Message::Reopen => self.reopen(),
            }
        }
    }

    fn write(&mut self, lines: &FinishedLines) {
        let written = self.output.write(&lines.text);
        if let Err(lost) = &written {
            self.metrics.access_log_dropped(lost.lines);
            if !self.is_failing {
                let error = &lost.source;
                let path = &self.destination;
                tracing::error!(%error, %path, "cannot write the access log: dropping lines");
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
                tracing::error!(%error, %path, "cannot reopen the access log (`access_log.path`): still writing to the old file");
            }
        }
    }
}

/// Opens the file with access for user and group only, because client addresses are private.
///
/// Never blocks. A named pipe without a reader is an error ([fifo(7)]), because its lines would be
/// lost.
///
/// [fifo(7)]: https://man7.org/linux/man-pages/man7/fifo.7.html
fn open(path: &Path) -> io::Result<File> {
    let opened = options().create(!is_pipe(path)).open(path);
    opened.map_err(|error| explained(path, error))
}

/// Checks whether a file could be opened, without creating or changing it.
///
/// # Errors
///
/// The error that a start would report.
pub fn try_to_open(path: &Path) -> io::Result<()> {
    match options().open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(explained(path, error)),
        Ok(_) => return Ok(()),
    }
    // The file would be created.
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

fn options() -> OpenOptions {
    const FLAGS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);
    let mut options = OpenOptions::new();
    options
        .append(true)
        .mode(0o640)
        .custom_flags(i32::try_from(FLAGS.bits()).unwrap_or_default());
    options
}

/// Adds what to do where the system only reports "no such device or address".
fn explained(path: &Path, error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(Errno::NXIO.raw_os_error()) {
        return error;
    }
    let Ok(kind) = fs::metadata(path).map(|found| found.file_type()) else {
        return error;
    };
    let cause = if kind.is_fifo() {
        "no process reads this named pipe: start its reader first, or write to a file"
    } else if kind.is_socket() {
        "this is a socket: write to a file, to a named pipe or to standard output (`-`)"
    } else {
        return error;
    };
    io::Error::new(error.kind(), cause)
}

fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

/// A message to the writer.
#[derive(Debug)]
pub(crate) enum Message {
    Write(FinishedLines),
    Reopen,
}
