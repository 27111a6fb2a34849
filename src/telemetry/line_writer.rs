//! Writes lines to a descriptor that may be slow, full, non-blocking or closed by its reader.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use thiserror::Error;

/// Writes whole lines, and counts those that are lost.
///
/// It may block for as long as the reader does not read, so it belongs to its own thread. It writes
/// to a duplicate of standard output or standard error and takes none of std's locks: a blocked
/// write delays neither another writer nor the end of the process.
#[derive(Debug)]
pub struct LineWriter {
    file: File,
    /// Whether the last write ended within a line.
    is_torn: bool,
}

/// Lines that could not be written.
#[derive(Debug, Error)]
#[error("{lines} lines were lost")]
pub struct LostLines {
    /// How many; a partly written line counts.
    pub lines: u64,
    /// Why.
    pub source: io::Error,
}

impl LineWriter {
    /// A writer to a file that is open for writing.
    #[must_use]
    pub fn new(file: File) -> Self {
        Self {
            file,
            is_torn: false,
        }
    }

    /// A writer to the file behind `stream`.
    ///
    /// # Errors
    ///
    /// If the descriptor cannot be duplicated.
    pub fn duplicate(stream: &impl AsFd) -> io::Result<Self> {
        let descriptor = stream.as_fd().try_clone_to_owned()?;
        Ok(Self::new(descriptor.into()))
    }

    /// Writes `text`, which must end with a line break.
    ///
    /// Waits while a pipe or socket is full, even in non-blocking mode.
    ///
    /// # Errors
    ///
    /// [`LostLines`] for any other failure.
    pub fn write(&mut self, text: &[u8]) -> Result<(), LostLines> {
        // An earlier failure cut a line: end it before the next one.
        if self.is_torn {
            self.write_bytes(b"\n", text)?;
            self.is_torn = false;
        }
        self.write_bytes(text, b"")
    }

    /// Writes `bytes`; on failure, `after` is lost too.
    fn write_bytes(&mut self, bytes: &[u8], after: &[u8]) -> Result<(), LostLines> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let error = match self.file.write(rest) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    let (done, left) = rest.split_at(written.min(rest.len()));
                    self.is_torn = done.last() != Some(&b'\n');
                    rest = left;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => match self.wait() {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            return Err(LostLines {
                lines: count_lines(rest) + count_lines(after),
                source: error,
            });
        }
        Ok(())
    }

    /// Waits until the descriptor accepts bytes again, or fails.
    fn wait(&self) -> io::Result<()> {
        let mut descriptors = [PollFd::new(&self.file, PollFlags::OUT)];
        match poll(&mut descriptors, None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    fn socket_pair() -> (LineWriter, UnixStream) {
        let (writing, reading) = UnixStream::pair().unwrap();
        writing.set_nonblocking(true).unwrap();
        (LineWriter::duplicate(&writing).unwrap(), reading)
    }

    #[test]
    fn a_full_non_blocking_descriptor_is_waited_for() {
        let (mut writer, mut reading) = socket_pair();
        let text = "0123456789abcde\n".repeat(100_000);
        let read = thread::spawn(move || {
            let mut all = Vec::new();
            reading.read_to_end(&mut all).unwrap();
            all
        });
        writer.write(text.as_bytes()).unwrap();
        drop(writer);
        assert!(read.join().unwrap() == text.as_bytes());
    }

    #[test]
    fn lines_without_a_reader_are_lost_and_counted() {
        let (mut writer, reading) = socket_pair();
        drop(reading);
        for (text, lost) in [("one\n", 1), ("one\ntwo\nthree\n", 3)] {
            let error = writer.write(text.as_bytes()).unwrap_err();
            assert_eq!(error.lines, lost);
            assert_eq!(error.source.kind(), ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn a_full_disk_loses_lines() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = LineWriter::new(full).write(b"one\ntwo\n").unwrap_err();
        assert_eq!(error.lines, 2);
        assert_eq!(error.source.kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn a_cut_line_does_not_run_into_the_next_one() {
        let (mut writer, mut reading) = socket_pair();
        writer.write_bytes(b"cu", b"").unwrap();
        writer.write(b"whole\n").unwrap();
        writer.write(b"next\n").unwrap();
        drop(writer);
        let mut text = String::new();
        reading.read_to_string(&mut text).unwrap();
        assert_eq!(text, "cu\nwhole\nnext\n");
    }
}
