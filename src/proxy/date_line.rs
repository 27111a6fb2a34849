//! The `Date` of responses that come without one.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// The current time as `Date` has it; formatted once a second.
#[derive(Debug, Default)]
pub(crate) struct DateLine(RefCell<Option<Second>>);

/// A second as text, and when it ends.
#[derive(Debug)]
pub(crate) struct Second {
    value: HeaderValue,
    /// The last line of a head, and the head's end.
    line: Vec<u8>,
    end: Instant,
}

impl DateLine {
    /// Writes `Date` as the last field of a head, and the head's end.
    pub(crate) fn write(&self, now: Instant, out: &mut Vec<u8>) {
        self.with_second(now, |second| out.extend_from_slice(&second.line));
    }

    /// The value of `Date`.
    pub(crate) fn value(&self, now: Instant) -> HeaderValue {
        self.with_second(now, |second| second.value.clone())
    }

    fn with_second<R>(&self, now: Instant, then: impl FnOnce(&Second) -> R) -> R {
        let mut second = self.0.borrow_mut();
        then(match &mut *second {
            Some(second) if now < second.end => second,
            stale => stale.insert(Second::at(now)),
        })
    }
}

impl Second {
    fn at(now: Instant) -> Self {
        let time = SystemTime::now();
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_secs(1)
            .saturating_sub(Duration::from_nanos(since.subsec_nanos().into()));
        let date = httpdate::fmt_http_date(time);
        Self {
            line: format!("date: {date}\r\n\r\n").into_bytes(),
            value: HeaderValue::try_from(date).expect("a date is visible ASCII"),
            end: now + left,
        }
    }
}
