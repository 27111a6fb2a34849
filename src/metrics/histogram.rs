//! Histograms of durations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in nanoseconds.
const BOUNDS: [u64; 16] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// The number of buckets; the last one is above all bounds.
const BUCKETS: usize = BOUNDS.len() + 1;

/// The upper bounds of the buckets, but for the last.
pub(super) fn bounds() -> impl Iterator<Item = Duration> {
    BOUNDS.into_iter().map(Duration::from_nanos)
}

/// One worker's counts of durations.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// The sum of all durations in nanoseconds: enough for 584 years.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, duration: Duration) {
        let duration = nanoseconds(duration);
        let bucket = BOUNDS.partition_point(|bound| *bound < duration);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(duration, Ordering::Relaxed);
    }
}

/// All workers' counts of durations.
#[derive(Debug, Default)]
pub(super) struct HistogramTotals {
    /// Not cumulative.
    pub(super) buckets: [u64; BUCKETS],
    pub(super) sum: Duration,
}

impl HistogramTotals {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (total, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        self.sum += Duration::from_nanos(histogram.sum.load(Ordering::Relaxed));
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        let durations = [
            (Duration::ZERO, 0),
            (Duration::from_micros(500), 0),
            (Duration::from_nanos(500_001), 1),
            (Duration::from_secs(60), 15),
            (Duration::from_secs(61), 16),
        ];
        for (duration, bucket) in durations {
            let before = histogram.buckets[bucket].load(Ordering::Relaxed);
            histogram.observe(duration);
            let after = histogram.buckets[bucket].load(Ordering::Relaxed);
            assert_eq!(after, before + 1, "{duration:?}");
        }
        let mut totals = HistogramTotals::default();
        totals.add(&histogram);
        assert_eq!(totals.buckets.iter().sum::<u64>(), 5);
        let sum: Duration = durations.iter().map(|(one, _)| *one).sum();
        assert_eq!(totals.sum, sum);
    }
}
