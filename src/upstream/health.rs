//! An upstream's health, derived from the requests it answers or fails; shared by all workers,
//! without a lock.
//!
//! After several failures in a row, an upstream is ejected: it is tried only if there is no other.
//! After a time it is reinstated, but only once a connection to it succeeds, so that no client's
//! request has to test it. Each further ejection before an answer lasts twice as long, up to a
//! limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;

use crate::metrics::UpstreamHealth;

/// When an upstream is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HealthSettings {
    /// Failures in a row that eject it.
    pub failures: usize,
    /// How long the first ejection lasts.
    pub ejection: Duration,
    /// How long any ejection lasts at most.
    pub max_ejection: Duration,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            failures: 3,
            ejection: Duration::from_secs(1),
            max_ejection: Duration::from_secs(30),
        }
    }
}

/// An upstream's health.
#[derive(Debug, Default)]
pub(crate) struct HealthTracker {
    /// Failures since the last answer.
    failures: AtomicUsize,
    /// Ejections since the last answer.
    ejections: AtomicU32,
    /// When the last ejection ends, in milliseconds since 1970.
    ejected_until: AtomicU64,
    /// Whether an active check runs.
    is_checked: AtomicBool,
    /// [`EJECTED`], [`FAILING`], both or none; shared with the metrics.
    problems: Arc<AtomicU8>,
    /// Why the checks fail, if they do.
    failed_check: ArcSwapOption<String>,
}

/// An upstream's health, for status pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// Whether it is used normally; if not, only when there is no other.
    pub is_healthy: bool,
    /// Failures since the last answer.
    pub failures: usize,
    /// If it is ejected, the earliest time at which it is reinstated; after that, a connection must
    /// succeed.
    pub ejected_until: Option<SystemTime>,
    /// Whether its active checks fail.
    pub fails_checks: bool,
    /// Why they fail.
    pub failed_check: Option<Arc<String>>,
}

/// Ejected after too many failures in a row.
const EJECTED: u8 = 1;

/// Its active checks fail.
const FAILING: u8 = 2;

impl HealthTracker {
    /// Whether it is used normally; if not, only when there is no other.
    pub(crate) fn is_healthy(&self) -> bool {
        self.problems.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn condition(&self) -> HealthReport {
        let problems = self.problems.load(Ordering::Relaxed);
        let until = Duration::from_millis(self.ejected_until.load(Ordering::Relaxed));
        HealthReport {
            is_healthy: problems == 0,
            failures: self.failures.load(Ordering::Relaxed),
            ejected_until: (problems & EJECTED != 0).then(|| UNIX_EPOCH + until),
            fails_checks: problems & FAILING != 0,
            failed_check: self.failed_check.load_full(),
        }
    }

    /// Its health, for metrics.
    pub(crate) fn shown(&self, label: String) -> UpstreamHealth {
        UpstreamHealth {
            label: label.into(),
            problems: Arc::clone(&self.problems),
        }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self) {
        // The usual case writes nothing, because workers share the cache line.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a failure. `Some`: this failure ejects the upstream, and the caller must
    /// [reinstate](reinstate_after) it after that time.
    pub(crate) fn failed(&self, settings: &HealthSettings) -> Option<Duration> {
        let failures = self
            .failures
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        let is_on_trial = self.ejections.load(Ordering::Relaxed) > 0;
        if failures < settings.failures && !is_on_trial {
            return None;
        }
        if self.problems.fetch_or(EJECTED, Ordering::Relaxed) & EJECTED != 0 {
            return None;
        }
        let before = self.ejections.fetch_add(1, Ordering::Relaxed);
        let doubled = settings.ejection.saturating_mul(1 << before.min(30));
        let ejection = doubled.min(settings.max_ejection);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let until = since.unwrap_or_default().saturating_add(ejection);
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.ejected_until.store(until, Ordering::Relaxed);
        Some(ejection)
    }

    pub(crate) fn reinstate(&self) {
        self.problems.fetch_and(!EJECTED, Ordering::Relaxed);
    }

    /// Marks active checks as running; returns false if they already were.
    pub(crate) fn begin_checks(&self) -> bool {
        !self.is_checked.swap(true, Ordering::Relaxed)
    }

    /// Sets why its checks fail; `None`: they pass.
    pub(crate) fn set_failing(&self, cause: Option<&str>) {
        let shown = cause.map(|cause| Arc::new(cause.to_owned()));
        self.failed_check.store(shown);
        if cause.is_some() {
            self.problems.fetch_or(FAILING, Ordering::Relaxed);
        } else {
            self.problems.fetch_and(!FAILING, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_ejected_after_failures_in_a_row_and_longer_each_time() {
        let settings = HealthSettings::default();
        let health = HealthTracker::default();
        assert_eq!(health.failed(&settings), None);
        assert_eq!(health.failed(&settings), None);
        health.answered();
        assert_eq!(health.failed(&settings), None);
        assert_eq!(health.failed(&settings), None);
        assert!(health.is_healthy());
        assert_eq!(health.condition().ejected_until, None);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let ejection = health.failed(&settings);
            assert_eq!(ejection, Some(Duration::from_secs(seconds)));
            assert!(!health.is_healthy());
            assert_eq!(health.failed(&settings), None, "already ejected");
            let condition = health.condition();
            assert!(!condition.is_healthy && !condition.fails_checks);
            let until = condition.ejected_until.unwrap();
            assert!(until > SystemTime::now());
            assert!(until <= SystemTime::now() + Duration::from_secs(seconds));
            health.reinstate();
        }
        health.answered();
        assert_eq!(health.failed(&settings), None, "the count starts again");
    }
}
