//! One worker's buffers. They are borrowed between two waits and never held across one, so that a
//! waiting connection holds no memory.

use std::cell::RefCell;

/// How many bytes are read ahead from a client that sends before its request is answered.
pub(crate) const READ_AHEAD: usize = 16 * 1024;

/// How much of a streaming body is read at once.
const INPUT: usize = 256 * 1024;

/// How many per-request buffers are kept for reuse.
const KEPT_BUFFERS: usize = 64;

/// The largest per-request buffer that is kept, in bytes.
const LARGEST_KEPT: usize = 8 * 1024;

/// The buffers for one read and one write.
#[derive(Debug)]
pub struct Scratch {
    /// For reading.
    pub input: Box<[u8]>,
    /// For writing.
    pub output: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            input: vec![0; INPUT].into(),
            output: Vec::new(),
        }
    }
}

impl Scratch {
    /// Makes room to read more after the first `length` bytes. The limits on heads bound what is
    /// kept between two waits, and so the size of this buffer.
    pub fn make_room(&mut self, length: usize) {
        let needed = length.saturating_add(INPUT / 4);
        if self.input.len() < needed {
            self.input = vec![0; needed.next_power_of_two()].into();
        }
    }
}

/// Per-request buffers, held while a request waits for its upstream.
#[derive(Debug, Default)]
pub(crate) struct BufferPool(RefCell<Vec<Vec<u8>>>);

impl BufferPool {
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&self, mut head_buf: Vec<u8>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT_BUFFERS && head_buf.capacity() <= LARGEST_KEPT {
            head_buf.clear();
            kept.push(head_buf);
        }
    }
}
