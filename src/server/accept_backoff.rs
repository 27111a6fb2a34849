//! Shortages of descriptors or memory for connections: each is logged once when it begins and once when
//! it ends.

use std::io;
use std::time::{Duration, Instant};

/// For how long connections have to be accepted without a failure until it is over: as long as
/// there is room only for who takes the place of another, it is not.
const CALM: Duration = Duration::from_secs(5);

/// One listener's.
#[derive(Debug, Default)]
pub(super) struct Shortage(Option<Lasting>);

/// A shortage that is not over yet.
#[derive(Debug)]
struct Lasting {
    last: Instant,
    failures: u64,
}

impl Shortage {
    /// Counts a failure to accept; true: with it, the shortage begins.
    pub(super) fn met(&mut self, now: Instant) -> bool {
        let failures = self.0.as_ref().map_or(0, |lasting| lasting.failures);
        self.0 = Some(Lasting {
            last: now,
            failures: failures + 1,
        });
        failures == 0
    }

    /// Notes that a connection was accepted. `Some`: the shortage is over, and was met so often.
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
    fn it_is_told_when_it_begins_and_when_it_is_over() {
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
        assert!(shortage.met(now), "it begins anew");
    }
}
