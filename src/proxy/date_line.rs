//! The `Date` line of the proxy's own responses.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// `Date` as the last field of a head, with the head's end; formatted once a second.
#[derive(Debug, Default)]
pub(crate) struct DateLine(RefCell<Option<Second>>);

/// A second as text, and when it ends.
#[derive(Debug)]
pub(crate) struct Second {
    text: Vec<u8>,
    end: Instant,
}

impl DateLine {
    pub(crate) fn write(&self, now: Instant, out: &mut Vec<u8>) {
        let mut second = self.0.borrow_mut();
        let second = match &mut *second {
            Some(second) if now < second.end => second,
            stale => stale.insert(Second::at(now)),
        };
        out.extend_from_slice(&second.text);
    }
}

impl Second {
    fn at(now: Instant) -> Self {
        let time = SystemTime::now();
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_secs(1)
            .saturating_sub(Duration::from_nanos(since.subsec_nanos().into()));
        Self {
            text: format!("date: {}\r\n\r\n", httpdate::HttpDate::from(time)).into_bytes(),
            end: now + left,
        }
    }
}
