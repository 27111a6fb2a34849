//! Shortages of descriptors or memory: each is logged once when it begins and once when it ends.

use std::io;
use std::time::{Duration, Instant};

/// How long connections must be accepted without a failure before a shortage is over: while every
/// new connection needs the place of another, it is not.
const CALM: Duration = Duration::from_secs(5);

/// The shortage of one listener.
#[derive(Debug, Default)]
pub(super) struct Shortage(Option<Lasting>);

/// An ongoing shortage.
#[derive(Debug)]
struct Lasting {
    last: Instant,
    failures: u64,
}

impl Shortage {
    /// Counts a failure to accept; returns whether a shortage begins with it.
    pub(super) fn met(&mut self, now: Instant) -> bool {
        let failures = self.0.as_ref().map_or(0, |lasting| lasting.failures);
        self.0 = Some(Lasting {
            last: now,
            failures: failures + 1,
        });
        failures == 0
    }

    /// Records an accepted connection. Returns the number of failures if the shortage is over.
    pub(super) fn accepted(&mut self, now: impl FnOnce() -> Instant) -> Option<u64> {
        let is_over = |lasting: &mut Lasting| now().duration_since(lasting.last) >= CALM;
        self.0.take_if(is_over).map(|over| over.failures)
    }
}

/// The client left before it was accepted: the next one is fine.
pub(super) fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_reported_when_it_begins_and_when_it_ends() {
        let mut shortage = Shortage::default();
        let mut now = Instant::now();
        assert_eq!(shortage.accepted(|| now), None);
        assert!(shortage.met(now));
        for _ in 0..1000 {
            now += CALM / 100;
            assert_eq!(shortage.accepted(|| now), None);
            assert!(!shortage.met(now));
        }
        now += CALM;
        assert_eq!(shortage.accepted(|| now), Some(1001));
        assert_eq!(shortage.accepted(|| now), None);
        assert!(shortage.met(now), "a new one begins");
    }
}
