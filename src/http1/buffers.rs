//! One worker's buffers: borrowed between two waits and never across one, so that a waiting
//! connection holds no memory.

use std::cell::RefCell;

/// How many bytes are read ahead from a client that sends before it is answered.
pub(crate) const READ_AHEAD: usize = 16 * 1024;

/// As much as is read at once of a body that flows.
const INPUT: usize = 256 * 1024;

/// How many of the buffers that go along with requests are kept for the next ones.
const KEPT_SLIPS: usize = 64;

/// The largest of them that is kept, in bytes.
const LARGEST_KEPT: usize = 8 * 1024;

/// What is read into and written from.
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
    /// Sees to it that more can be read behind `length` bytes. What is kept between two waits is
    /// bounded by the limits on heads, and with it this.
    pub fn make_room(&mut self, length: usize) {
        let needed = length.saturating_add(INPUT / 4);
        if self.input.len() < needed {
            self.input = vec![0; needed.next_power_of_two()].into();
        }
    }
}

/// Buffers that go along with a request while it waits for its upstream.
#[derive(Debug, Default)]
pub(crate) struct BufferPool(RefCell<Vec<Vec<u8>>>);

impl BufferPool {
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&self, mut head_buf: Vec<u8>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT_SLIPS && head_buf.capacity() <= LARGEST_KEPT {
            head_buf.clear();
            kept.push(head_buf);
        }
    }
}
