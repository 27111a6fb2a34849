//! Moves large bodies between two plain TCP connections through a kernel pipe, with splice(2),
//! without copying them to user space.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::descriptor_reserve::outside_reserve;

/// Bodies of at least this size, in bytes, use a pipe.
pub(crate) const WORTH_IT: u64 = 64 * 1024;

/// A pipe's capacity in bytes, if the system allows it.
const CAPACITY: usize = 1024 * 1024;

/// How many idle pipes are kept.
const KEPT: usize = 8;

/// One worker's pipes.
#[derive(Debug, Default)]
pub(crate) struct Pipes(RefCell<Vec<Pipe>>);

/// A pipe, and how much is in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    from: OwnedFd,
    into: OwnedFd,
    held: usize,
}

/// The side on which a transfer failed.
#[derive(Debug)]
pub(crate) enum Side {
    Source(io::Error),
    /// The source ended in an orderly way, but too early. A truncated TLS connection, which gives
    /// the same kind of error, is not this.
    Ended,
    /// The source sent an invalid body.
    Invalid,
    Sink(io::Error),
}

impl Pipes {
    /// Returns an empty pipe; `None` if the system cannot provide one.
    pub(crate) fn take(&self) -> Option<Pipe> {
        self.0.borrow_mut().pop().or_else(|| Pipe::new().ok())
    }

    /// Closes one idle pipe. Call it now and then.
    pub(crate) fn shrink(&self) {
        self.0.borrow_mut().pop();
    }

    /// Keeps an emptied pipe for later use.
    pub(crate) fn give_back(&self, pipe: Pipe) {
        let mut kept = self.0.borrow_mut();
        if pipe.held == 0 && kept.len() < KEPT {
            kept.push(pipe);
        }
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (from, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let from = outside_reserve(from)?;
        let into = outside_reserve(into)?;
        // A smaller pipe works too, only slower.
        let _ = fcntl_setpipe_size(&into, CAPACITY);
        let held = 0;
        Ok(Self { from, into, held })
    }

    /// Moves as much of `left` as possible now. Ready when something was moved, or when nothing is
    /// left.
    pub(crate) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
        sink: &TcpStream,
        left: &mut u64,
    ) -> Poll<Result<usize, Side>> {
        if self.held == 0 && *left > 0 {
            let most = usize::try_from(*left).unwrap_or(usize::MAX).min(CAPACITY);
            let filled = loop {
                ready!(source.poll_read_ready(cx)).map_err(Side::Source)?;
                match source.try_io(Interest::READABLE, || once(source, &self.into, most)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    filled => break filled.map_err(Side::Source)?,
                }
            };
            if filled == 0 {
                return Poll::Ready(Err(Side::Ended));
            }
            self.held = filled;
            *left -= filled as u64;
        }
        let mut moved = 0;
        while self.held > 0 {
            match sink.poll_write_ready(cx) {
                Poll::Ready(ready) => ready.map_err(Side::Sink)?,
                Poll::Pending if moved > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
            match sink.try_io(Interest::WRITABLE, || once(&self.from, sink, self.held)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(written) => {
                    self.held -= written;
                    moved += written;
                }
                Err(error) => return Poll::Ready(Err(Side::Sink(error))),
            }
        }
        Poll::Ready(Ok(moved))
    }

    /// How many bytes are in it.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Whether everything written to the pipe has been read.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }
}

fn once(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(splice(from, None, to, None, most, flags)?)
}
