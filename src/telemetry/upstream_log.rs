//! The log of upstreams that fail: enough lines to see what is wrong, and never more than a few a
//! second, however many requests meet it.

use std::time::Instant;

use crate::metrics::UpstreamFailure;

use super::LogLimiter;

thread_local! {
    /// A worker is a thread, and a response's body outlives whoever could lend it this.
    static QUOTA: LogLimiter<{ UpstreamFailure::ALL.len() }> = LogLimiter::default();
}

/// Has `write` write a line, unless the failure had its lines already.
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

/// Logs how many failures had no line. Call it regularly.
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
    tracing::warn!(reason, suppressed, "upstreams failed more often");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{LINES, PERIOD};

    #[test]
    fn a_flood_has_a_few_lines_for_each_reason() {
        // The quota is the thread's, and the tests of one binary share threads.
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
