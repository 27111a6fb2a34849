//! The log of failing upstreams: enough lines to see what is wrong, at a limited rate, however many
//! requests are affected.

use std::time::Instant;

use crate::metrics::UpstreamFailure;

use super::LogLimiter;

thread_local! {
    /// One per worker, because a worker is a thread. A response's body outlives any owner that it
    /// could borrow this from.
    static QUOTA: LogLimiter<{ UpstreamFailure::ALL.len() }> = LogLimiter::default();
}

/// Calls `write` to log a line, at a limited rate for each failure.
pub(crate) fn log(failure: UpstreamFailure, write: impl FnOnce()) {
    let index = UpstreamFailure::ALL.iter().position(|one| *one == failure);
    let shows = QUOTA.with(|quota| {
        quota.take(index.unwrap_or(usize::MAX), Instant::now(), |suppressed| {
            tell(failure, suppressed);
        })
    });
    if shows {
        write();
    }
}

/// Logs how many failures were not logged. Call it regularly.
pub(crate) fn summarise(now: Instant) {
    QUOTA.with(|quota| {
        quota.summarise(now, |index, suppressed| {
            if let Some(failure) = UpstreamFailure::ALL.get(index) {
                tell(*failure, suppressed);
            }
        });
    });
}

fn tell(failure: UpstreamFailure, suppressed: u64) {
    let reason = failure.as_str();
    tracing::warn!(reason, suppressed, "more upstream failures");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{LINES, PERIOD};

    #[test]
    fn a_flood_is_limited_to_a_few_lines_for_each_reason() {
        // The quota belongs to the thread, and tests of one binary share threads.
        std::thread::spawn(|| {
            let mut shown = 0;
            for _ in 0..1000 {
                log(UpstreamFailure::Connect, || shown += 1);
            }
            assert!((LINES..=2 * LINES).contains(&shown), "{shown}");
            log(UpstreamFailure::Tls, || shown = 0);
            assert_eq!(shown, 0);
            summarise(Instant::now() + PERIOD);
            log(UpstreamFailure::Connect, || shown = 1);
            assert_eq!(shown, 1);
        })
        .join()
        .unwrap();
    }
}
