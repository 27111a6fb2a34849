//! The process log: a bounded queue of lines and the thread that writes them.
//!
//! Logging never waits for standard error. A line is dropped and counted if the queue is full or
//! the line cannot be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use tracing_subscriber::fmt::MakeWriter;

use crate::metrics::DroppedLines;

use super::line_writer::LineWriter;

/// The most lines that wait for the writer.
const MAX_LINES: usize = 4096;

/// The most bytes that wait for the writer.
const MAX_BYTES: usize = 1024 * 1024;

/// Waiting lines are written together, up to this many bytes plus one line.
const BATCH: usize = 64 * 1024;

/// How long the process waits at its end for the last lines.
const FLUSH: Duration = Duration::from_secs(1);

/// The minimum time between the log's own reports of dropped lines.
const REPORT: Duration = Duration::from_secs(10);

/// Where log lines go; clones share the queue.
#[derive(Clone, Debug)]
pub struct LogQueue {
    /// `None` wakes the writer.
    lines: SyncSender<Option<Box<[u8]>>>,
    state: Arc<QueueState>,
}

#[derive(Debug)]
struct QueueState {
    waiting_bytes: AtomicUsize,
    is_ending: AtomicBool,
    dropped: DroppedLines,
}

/// Writes the last lines when dropped, but waits at most one second: a blocked writer must not keep
/// the process from ending.
#[derive(Debug)]
pub struct LogQueueGuard {
    queue: LogQueue,
    /// Closed when the writer ends.
    finished: Receiver<()>,
}

impl LogQueue {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    ///
    /// If the system cannot create a thread.
    pub fn start(output: LineWriter, dropped: DroppedLines) -> io::Result<(Self, LogQueueGuard)> {
        let (sender, lines) = sync_channel(MAX_LINES);
        let (alive, finished) = sync_channel(0);
        let queue = Self {
            lines: sender,
            state: Arc::new(QueueState {
                waiting_bytes: AtomicUsize::new(0),
                is_ending: AtomicBool::new(false),
                dropped,
            }),
        };
        let writer = QueueWriter {
            lines,
            output,
            state: Arc::clone(&queue.state),
            reported: 0,
            reported_at: None,
        };
        let write = move || {
            writer.run();
            drop(alive);
        };
        thread::Builder::new().name("log".to_owned()).spawn(write)?;
        let guard = LogQueueGuard {
            queue: queue.clone(),
            finished,
        };
        Ok((queue, guard))
    }

    /// Queues a line, or drops it.
    fn push(&self, line: &[u8]) {
        let state = &self.state;
        let waiting = state.waiting_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let has_room = waiting.saturating_add(line.len()) <= MAX_BYTES;
        if !has_room || self.lines.try_send(Some(line.into())).is_err() {
            state.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            state.dropped.add(1);
        }
    }
}

impl<'q> MakeWriter<'q> for LogQueue {
    type Writer = &'q Self;

    fn make_writer(&'q self) -> Self::Writer {
        self
    }
}

/// Each write is one line. Never fails, so that the subscriber has no error to report on standard
/// error.
impl io::Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogQueueGuard {
    /// Ends the writer once it has written the waiting lines; returns whether it has.
    fn finish(&self, patience: Duration) -> bool {
        self.queue.state.is_ending.store(true, Ordering::Release);
        // If the queue is full, the writer is either awake or blocked.
        let _ = self.queue.lines.try_send(None);
        self.finished.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Drop for LogQueueGuard {
    fn drop(&mut self) {
        let _ = self.finish(FLUSH);
    }
}

struct QueueWriter {
    lines: Receiver<Option<Box<[u8]>>>,
    output: LineWriter,
    state: Arc<QueueState>,
    /// How many dropped lines were already reported.
    reported: u64,
    reported_at: Option<Instant>,
}

impl QueueWriter {
    fn run(mut self) {
        let mut batch = Vec::new();
        while let Some(first) = self.next() {
            let mut next = Some(first);
            while let Some(line) = next {
                batch.extend_from_slice(line.as_deref().unwrap_or_default());
                let has_room = batch.len() < BATCH;
                next = has_room.then(|| self.lines.try_recv().ok()).flatten();
            }
            let written = self.output.write(&batch);
            self.state
                .waiting_bytes
                .fetch_sub(batch.len(), Ordering::Relaxed);
            match written {
                Ok(()) => self.report_dropped(),
                Err(lost) => self.state.dropped.add(lost.lines),
            }
            batch.clear();
        }
    }

    /// Waits for the next line. `None`: the process is ending, and no lines wait.
    fn next(&self) -> Option<Option<Box<[u8]>>> {
        if self.state.is_ending.load(Ordering::Acquire) {
            self.lines.try_recv().ok()
        } else {
            self.lines.recv().ok()
        }
    }

    /// Reports dropped lines, now that lines can be written again.
    fn report_dropped(&mut self) {
        let dropped = self.state.dropped.get();
        let lines = dropped - self.reported;
        let is_early = self.reported_at.is_some_and(|at| at.elapsed() < REPORT);
        if lines > 0 && !is_early {
            self.reported = dropped;
            self.reported_at = Some(Instant::now());
            tracing::warn!(
                lines,
                "log lines dropped: standard error was full, closed or too slow"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn start() -> (LogQueue, LogQueueGuard, UnixStream, DroppedLines) {
        let (writing, reading) = UnixStream::pair().unwrap();
        let dropped = DroppedLines::default();
        let output = LineWriter::duplicate(&writing).unwrap();
        let (queue, guard) = LogQueue::start(output, dropped.clone()).unwrap();
        (queue, guard, reading, dropped)
    }

    #[test]
    fn every_line_arrives_in_order_before_the_end() {
        let (queue, guard, mut reading, dropped) = start();
        let lines: Vec<String> = (0..MAX_LINES).map(|number| format!("{number}\n")).collect();
        for line in &lines {
            (&queue).write_all(line.as_bytes()).unwrap();
        }
        assert!(guard.finish(Duration::from_secs(20)));
        drop((guard, queue));
        let mut text = String::new();
        reading.read_to_string(&mut text).unwrap();
        assert_eq!(text, lines.concat());
        assert_eq!(dropped.get(), 0);
    }

    #[test]
    fn a_blocked_writer_drops_lines_and_does_not_delay_the_end() {
        for line in ["x\n".to_owned(), format!("{}\n", "x".repeat(4000))] {
            let (queue, guard, mut reading, dropped) = start();
            let lines = 10 * MAX_LINES;
            for _ in 0..lines {
                (&queue).write_all(line.as_bytes()).unwrap();
            }
            let waiting = queue.state.waiting_bytes.load(Ordering::Relaxed);
            assert!(waiting <= MAX_BYTES, "{waiting}");
            let lost = dropped.get();
            assert!(lost > 0 && lost < lines as u64, "{lost}");
            if line.len() > 1000 {
                assert!(!guard.finish(Duration::ZERO), "the socket is full");
            }
            // Once the socket is read, everything that was not dropped arrives.
            let kept = (lines as u64 - lost) as usize * line.len();
            let mut text = vec![0; kept];
            reading.read_exact(&mut text).unwrap();
        }
    }

    #[test]
    fn failed_writes_are_counted_and_writing_continues() {
        let (queue, guard, reading, dropped) = start();
        drop(reading);
        for _ in 0..3 {
            (&queue).write_all(b"lost\n").unwrap();
        }
        assert!(guard.finish(Duration::from_secs(20)));
        assert_eq!(dropped.get(), 3);
    }

    #[test]
    fn dropped_lines_are_reported_once_lines_can_be_written() {
        let (queue, _guard, reading, dropped) = start();
        dropped.add(7);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(queue.clone())
            .finish();
        // The writer logs through the process's subscriber; in this test, through this thread's.
        tracing::subscriber::with_default(subscriber, || {
            let (_sender, lines) = sync_channel(1);
            let mut writer = QueueWriter {
                lines,
                output: LineWriter::duplicate(&reading).unwrap(),
                state: Arc::clone(&queue.state),
                reported: 0,
                reported_at: None,
            };
            writer.report_dropped();
            dropped.add(1);
            writer.report_dropped();
        });
        let mut lines = BufReader::new(reading).lines();
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains("log lines dropped"), "{line}");
        assert!(line.contains("lines=7"), "{line}");
    }
}
