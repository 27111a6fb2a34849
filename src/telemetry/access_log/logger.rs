//! The access log's writer thread, and each worker's end, which fills a buffer with lines and hands
//! it over.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use thiserror::Error;

use crate::metrics::Metrics;

use super::line::{Clock, Record};
use super::settings::{AccessLogFormat, AccessLogSettings, Destination};
use super::writer::{AccessLogWriter, FinishedLines, Message};

/// A worker hands its buffer over at this many bytes.
const BUFFER: usize = 64 * 1024;

/// How many buffers may wait for the writer. Together with the buffers being filled, this bounds
/// the log's memory.
const WAITING: usize = 64;

/// Why the access log cannot be started.
#[derive(Debug, Error)]
pub enum AccessLogStartError {
    /// Its file cannot be opened.
    #[error("cannot open the access log {destination} (`access_log.path`)")]
    Open {
        /// Where the lines should go.
        destination: Destination,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its thread cannot be started.
    #[error("cannot start the thread that writes the access log")]
    Thread(#[source] io::Error),
}

/// The access log of the process, with its writer thread.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessLogFormat,
    metrics: Arc<Metrics>,
    sender: SyncSender<Message>,
    /// Closed by the writer's end.
    finished: Receiver<()>,
}

/// One worker's end of the access log.
#[derive(Debug)]
pub struct AccessLogger {
    format: AccessLogFormat,
    metrics: Arc<Metrics>,
    sender: SyncSender<Message>,
    buffer: RefCell<Buffer>,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: FinishedLines,
    clock: Clock,
}

impl AccessLog {
    /// Opens the destination and starts the writer thread.
    ///
    /// # Errors
    ///
    /// [`AccessLogStartError`], which names the file and its key.
    pub fn start(
        settings: &AccessLogSettings,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, AccessLogStartError> {
        let writer = AccessLogWriter::open(settings.path.clone(), Arc::clone(metrics));
        let writer = writer.map_err(|source| AccessLogStartError::Open {
            destination: settings.path.clone(),
            source,
        })?;
        let (sender, receiver) = sync_channel(WAITING);
        let (alive, finished) = sync_channel(0);
        let write = move || {
            writer.run(&receiver);
            drop(alive);
        };
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(write)
            .map_err(AccessLogStartError::Thread)?;
        Ok(Self {
            format: settings.format,
            metrics: Arc::clone(metrics),
            sender,
            finished,
        })
    }

    /// A worker's end.
    #[must_use]
    pub fn logger(&self) -> AccessLogger {
        AccessLogger {
            format: self.format,
            metrics: Arc::clone(&self.metrics),
            sender: self.sender.clone(),
            buffer: RefCell::default(),
        }
    }

    /// Reopens the file after it was moved, as logrotate does before SIGHUP.
    pub fn reopen(&self) {
        if self.sender.try_send(Message::Reopen).is_err() {
            tracing::warn!("access log not reopened: its writer is blocked");
        }
    }

    /// Waits at most `patience` until everything is written; returns whether it was. The workers'
    /// ends must have been dropped, or the wait times out.
    #[must_use]
    pub fn finish(self, patience: Duration) -> bool {
        drop(self.sender);
        self.finished.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

impl AccessLogger {
    /// Adds a request's line.
    pub fn log(&self, record: &Record<'_>) {
        let mut buffer = self.buffer.borrow_mut();
        let Buffer { lines, clock } = &mut *buffer;
        match self.format {
            AccessLogFormat::Json => record.write_json(&mut lines.text, clock),
            AccessLogFormat::Combined => record.write_combined(&mut lines.text, clock),
        }
        lines.count += 1;
        if lines.text.len() >= BUFFER {
            self.hand_over(lines);
        }
    }

    /// Hands over the current lines. Call it every second, so that a quiet log stays up to date.
    pub fn flush(&self) {
        let lines = &mut self.buffer.borrow_mut().lines;
        if lines.count > 0 {
            self.hand_over(lines);
        }
    }

    fn hand_over(&self, lines: &mut FinishedLines) {
        let lines = std::mem::replace(lines, FinishedLines::with_capacity(BUFFER + BUFFER / 8));
        match self.sender.try_send(Message::Write(lines)) {
            Ok(()) => {}
            Err(
                TrySendError::Full(Message::Write(lines))
                | TrySendError::Disconnected(Message::Write(lines)),
            ) => self.metrics.access_log_dropped(lines.count),
            Err(_) => {}
        }
    }
}

impl Drop for AccessLogger {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt;
    use std::path::Path;

    use super::*;
    use crate::telemetry::access_log::try_to_open;
    use std::path::PathBuf;

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("s3cors-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn start(path: &Path, metrics: &Arc<Metrics>) -> Result<AccessLog, AccessLogStartError> {
        let settings = AccessLogSettings {
            format: AccessLogFormat::Json,
            path: Destination::File(path.to_owned()),
        };
        AccessLog::start(&settings, metrics)
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn every_workers_lines_are_written_completely() {
        let path = path("whole");
        let log = start(&path, &Metrics::new(4)).unwrap();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let logger = log.logger();
                scope.spawn(move || {
                    let target = format!("/{worker}");
                    let record = Record {
                        target: &target,
                        ..super::super::line::tests::record()
                    };
                    for _ in 0..1000 {
                        logger.log(&record);
                    }
                });
            }
        });
        assert!(log.finish(PATIENCE));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text.lines().count(), 4000);
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    #[test]
    fn a_moved_file_is_reopened() {
        let (path, moved) = (path("reopen"), path("moved"));
        let log = start(&path, &Metrics::new(1)).unwrap();
        let logger = log.logger();
        logger.log(&super::super::line::tests::record());
        logger.flush();
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        logger.log(&super::super::line::tests::record());
        drop(logger);
        assert!(log.finish(PATIENCE));
        let count = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((count(&moved), count(&path)), (1, 1));
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&moved).unwrap();
    }

    #[test]
    fn a_blocked_writer_drops_and_counts_lines_without_delay() {
        // An unread pipe accepts 64 KiB and then blocks its writer.
        let path = path("stuck");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert!(path.metadata().unwrap().file_type().is_fifo());
        let reader = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();

        let metrics = Metrics::new(1);
        let log = start(&path, &metrics).unwrap();
        let logger = log.logger();
        let target = format!("/{}", "a".repeat(4000));
        let record = Record {
            target: &target,
            ..super::super::line::tests::record()
        };
        // Twice what the buffers can hold.
        let lines = 2 * BUFFER * WAITING / 4000;
        (0..lines).for_each(|_| logger.log(&record));

        let dropped = metrics
            .encode()
            .lines()
            .find_map(|line| line.strip_prefix("s3cors_access_log_dropped_lines_total "))
            .map(|count| count.parse::<usize>().unwrap())
            .unwrap();
        assert!(
            dropped > lines / 4 && dropped < lines,
            "{dropped} of {lines}"
        );
        drop(logger);
        assert!(!log.finish(Duration::ZERO));
        drop(reader);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_at_the_start() {
        let error = start(Path::new("/nowhere/access.log"), &Metrics::new(1)).unwrap_err();
        let expected = "cannot open the access log /nowhere/access.log (`access_log.path`)";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_check_reports_what_a_start_would_and_creates_nothing() {
        let folder = path("try");
        std::fs::create_dir(&folder).unwrap();
        let new = folder.join("access.log");
        try_to_open(&new).unwrap();
        assert!(!new.exists());
        std::fs::write(&new, "a line\n").unwrap();
        try_to_open(&new).unwrap();
        assert_eq!(std::fs::read_to_string(&new).unwrap(), "a line\n");
        for wrong in [
            folder.clone(),
            folder.join("missing/access.log"),
            new.join("access.log"),
        ] {
            assert!(try_to_open(&wrong).is_err(), "{}", wrong.display());
            assert!(start(&wrong, &Metrics::new(1)).is_err());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
