//! One worker's counts for one route.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};

use crate::cors::fetch::AnswerVerdict;
use crate::cors::{Kind, Reason};

use super::histogram::{Histogram, HistogramTotals};
use super::traffic::{RetryReason, Transfer};
use super::upstream_failure::UpstreamFailure;

/// One worker's counts for one route. Only that worker writes them; a scrape reads them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Cells {
    requests: RequestCounts,
    decisions: [AtomicU64; DECISIONS],
    verdicts: [AtomicU64; AnswerVerdict::COUNT],
    failures: [AtomicU64; UpstreamFailure::ALL.len()],
    durations: Histogram,
    first_byte: Histogram,
    in_flight: AtomicI64,
    bytes: [AtomicU64; Transfer::COUNT],
    retries: [AtomicU64; RetryReason::ALL.len()],
}

impl Cells {
    pub(super) fn request(&self, method: &Method, status: StatusCode, to_head: Duration) {
        self.requests.count(method_index(method), status.as_u16());
        self.durations.observe(to_head);
    }

    pub(super) fn first_byte(&self, waited: Duration) {
        self.first_byte.observe(waited);
    }

    pub(super) fn in_flight(&self, by: i64) {
        self.in_flight.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self, transfer: Transfer, bytes: u64) {
        add(self.bytes.get(transfer as usize), bytes);
    }

    pub(super) fn retry(&self, reason: RetryReason) {
        add(self.retries.get(reason as usize), 1);
    }

    pub(super) fn decision(&self, kind: Kind, outcome: Result<(), Reason>) {
        let first = match kind {
            Kind::Preflight => 0,
            Kind::Actual => OUTCOMES,
        };
        let outcome = match outcome {
            Ok(()) => 0,
            Err(reason) => {
                1 + Reason::ALL
                    .iter()
                    .take_while(|known| **known != reason)
                    .count()
            }
        };
        add(self.decisions.get(first + outcome), 1);
    }

    pub(super) fn verdict(&self, verdict: AnswerVerdict) {
        add(self.verdicts.get(verdict.index()), 1);
    }

    pub(super) fn failure(&self, failure: UpstreamFailure) {
        let place = UpstreamFailure::ALL
            .iter()
            .position(|known| *known == failure);
        add(place.and_then(|place| self.failures.get(place)), 1);
    }
}

/// A route's counts, summed over all workers.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// By index into [`METHODS`] and by status; [`OTHER_STATUS`] for those beyond the limit.
    pub(super) requests: std::collections::BTreeMap<(usize, u16), u64>,
    decisions: [u64; DECISIONS],
    verdicts: [u64; AnswerVerdict::COUNT],
    /// In the order of [`UpstreamFailure::ALL`].
    pub(super) failures: [u64; UpstreamFailure::ALL.len()],
    pub(super) durations: HistogramTotals,
    pub(super) first_byte: HistogramTotals,
    pub(super) in_flight: i64,
    /// In the order of [`Transfer`].
    pub(super) bytes: [u64; Transfer::COUNT],
    /// As [`RetryReason::ALL`].
    pub(super) retries: [u64; RetryReason::ALL.len()],
}

impl Totals {
    pub(super) fn add(&mut self, cells: &Cells) {
        cells.requests.each(&mut |method, status, count| {
            *self.requests.entry((method, status)).or_default() += count;
        });
        sum(&mut self.decisions, &cells.decisions);
        sum(&mut self.verdicts, &cells.verdicts);
        sum(&mut self.failures, &cells.failures);
        self.durations.add(&cells.durations);
        self.first_byte.add(&cells.first_byte);
        self.in_flight += cells.in_flight.load(Ordering::Relaxed);
        sum(&mut self.bytes, &cells.bytes);
        sum(&mut self.retries, &cells.retries);
    }

    /// Every kind and outcome with its count, including zeros.
    pub(super) fn decisions(&self) -> impl Iterator<Item = (Kind, Result<(), Reason>, u64)> {
        let outcomes = || {
            let denied = Reason::ALL.into_iter().map(Err);
            std::iter::once(Ok(())).chain(denied)
        };
        let kinds = [Kind::Preflight, Kind::Actual];
        kinds
            .into_iter()
            .flat_map(move |kind| outcomes().map(move |outcome| (kind, outcome)))
            .zip(self.decisions)
            .map(|((kind, outcome), count)| (kind, outcome, count))
    }
}

/// CORS counts, summed over all routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorsTotals {
    /// All requests.
    pub requests: u64,
    /// Requests answered with a status of 500 or more.
    pub server_errors: u64,
    /// Allowed preflights, and allowed actual requests.
    pub allowed: [u64; 2],
    /// Denied requests, in the order of [`Reason::ALL`].
    pub denied: [u64; Reason::ALL.len()],
    /// Answers that are readable, passed on, and blocked.
    pub verdicts: [u64; 3],
}

impl CorsTotals {
    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let less = |now: u64, before: u64| now.saturating_sub(before);
        let each = |now: [u64; 3], before: [u64; 3]| {
            let [a, b, c] = now;
            let [x, y, z] = before;
            [less(a, x), less(b, y), less(c, z)]
        };
        let mut denied = self.denied;
        for (now, before) in denied.iter_mut().zip(before.denied) {
            *now = less(*now, before);
        }
        let [preflights, actual] = self.allowed;
        let [preflights_before, actual_before] = before.allowed;
        Self {
            requests: less(self.requests, before.requests),
            server_errors: less(self.server_errors, before.server_errors),
            allowed: [
                less(preflights, preflights_before),
                less(actual, actual_before),
            ],
            denied,
            verdicts: each(self.verdicts, before.verdicts),
        }
    }
}

impl Totals {
    /// Adds one route's counts to the sum.
    pub(super) fn add_to(&self, all: &mut CorsTotals) {
        for ((_, status), count) in &self.requests {
            all.requests += count;
            if *status >= 500 {
                all.server_errors += count;
            }
        }
        for (kind, outcome, count) in self.decisions() {
            let [preflights, actual] = &mut all.allowed;
            let cell = match (kind, outcome) {
                (Kind::Preflight, Ok(())) => Some(preflights),
                (Kind::Actual, Ok(())) => Some(actual),
                (_, Err(reason)) => {
                    let place = Reason::ALL.iter().position(|known| *known == reason);
                    place.and_then(|place| all.denied.get_mut(place))
                }
            };
            if let Some(cell) = cell {
                *cell += count;
            }
        }
        let [readable, passed, blocked] = &mut all.verdicts;
        for (verdict, count) in self.verdicts() {
            *match verdict {
                AnswerVerdict::Readable => &mut *readable,
                AnswerVerdict::Passed => &mut *passed,
                AnswerVerdict::Blocked(_) => &mut *blocked,
            } += count;
        }
    }

    /// Every verdict with its count, including zeros.
    pub(super) fn verdicts(&self) -> impl Iterator<Item = (AnswerVerdict, u64)> {
        AnswerVerdict::all().zip(self.verdicts)
    }
}

fn add(cell: Option<&AtomicU64>, amount: u64) {
    if let Some(cell) = cell {
        cell.fetch_add(amount, Ordering::Relaxed);
    }
}

fn sum(totals: &mut [u64], cells: &[AtomicU64]) {
    for (total, cell) in totals.iter_mut().zip(cells) {
        *total += cell.load(Ordering::Relaxed);
    }
}

/// Allowed, or one of the reasons.
const OUTCOMES: usize = 1 + Reason::ALL.len();
const DECISIONS: usize = 2 * OUTCOMES;

/// The methods with a label of their own ([RFC 9110 §9], [RFC 5789]); all others are `other`.
///
/// [RFC 9110 §9]: https://www.rfc-editor.org/rfc/rfc9110#section-9
/// [RFC 5789]: https://www.rfc-editor.org/rfc/rfc5789
pub(super) const METHODS: [&str; 10] = [
    "GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "other",
];

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::PUT => 2,
        Method::POST => 3,
        Method::DELETE => 4,
        Method::OPTIONS => 5,
        Method::PATCH => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        _ => 9,
    }
}

/// Stands for all statuses beyond the limit.
pub(super) const OTHER_STATUS: u16 = 0;

/// Counts by method and status. A route sees few of the 9,000 pairs, so they are kept in a hash
/// table of 32 places. When it is full, another table is chained to it, up to 4. An upstream that
/// keeps sending new statuses cannot create more series than that.
#[derive(Debug, Default)]
struct RequestCounts {
    slots: [CountSlot; SLOTS],
    more: OnceLock<Box<Self>>,
    overflow: AtomicU64,
}

#[derive(Debug, Default)]
struct CountSlot {
    /// 0 if free; otherwise 1 + 1000 × method + status.
    key: AtomicU32,
    count: AtomicU64,
}

const SLOTS: usize = 32;
const TABLES: usize = 4;

impl RequestCounts {
    fn count(&self, method: usize, status: u16) {
        let key = u32::try_from(method * 1000).unwrap_or_default() + u32::from(status) + 1;
        let mut table = self;
        for depth in 1..=TABLES {
            if let Some(count) = table.slot(key) {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
            if depth < TABLES {
                table = table.more.get_or_init(Box::default);
            }
        }
        table.overflow.fetch_add(1, Ordering::Relaxed);
    }

    fn slot(&self, key: u32) -> Option<&AtomicU64> {
        let (before, from) = self.slots.split_at(key as usize % SLOTS);
        let found = from.iter().chain(before).find(|slot| {
            let there = match slot.key.load(Ordering::Relaxed) {
                0 => slot
                    .key
                    .compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed)
                    .err(),
                there => Some(there),
            };
            there.is_none_or(|there| there == key)
        });
        found.map(|slot| &slot.count)
    }

    fn each(&self, tell: &mut impl FnMut(usize, u16, u64)) {
        for slot in &self.slots {
            let Some(key) = slot.key.load(Ordering::Relaxed).checked_sub(1) else {
                continue;
            };
            let status = u16::try_from(key % 1000).unwrap_or_default();
            tell(
                key as usize / 1000,
                status,
                slot.count.load(Ordering::Relaxed),
            );
        }
        let overflow = self.overflow.load(Ordering::Relaxed);
        if overflow > 0 {
            tell(METHODS.len() - 1, OTHER_STATUS, overflow);
        }
        if let Some(more) = self.more.get() {
            more.each(tell);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_method_and_status_are_counted_up_to_a_limit() {
        let cells = Cells::default();
        let mut expected = 0;
        for status in 100..1000 {
            let status = StatusCode::from_u16(status).unwrap();
            for method in [Method::GET, Method::from_bytes(b"BREW").unwrap()] {
                cells.request(&method, status, Duration::ZERO);
                cells.request(&method, status, Duration::ZERO);
                expected += 2;
            }
        }
        let mut totals = Totals::default();
        totals.add(&cells);
        assert_eq!(totals.requests.values().sum::<u64>(), expected);
        assert_eq!(totals.requests.len(), SLOTS * TABLES + 1);
        assert_eq!(totals.requests[&(0, 100)], 2);
        assert_eq!(totals.requests[&(9, 100)], 2);
    }

    #[test]
    fn each_outcome_has_its_own_count() {
        let cells = Cells::default();
        let outcomes: Vec<_> = [Kind::Preflight, Kind::Actual]
            .into_iter()
            .flat_map(|kind| {
                std::iter::once(Ok(()))
                    .chain(Reason::ALL.map(Err))
                    .map(move |outcome| (kind, outcome))
            })
            .collect();
        for (times, (kind, outcome)) in outcomes.iter().enumerate() {
            (0..=times).for_each(|_| cells.decision(*kind, *outcome));
        }
        let mut totals = Totals::default();
        totals.add(&cells);
        let counted: Vec<_> = totals.decisions().collect();
        let expected: Vec<_> = (1..)
            .zip(outcomes)
            .map(|(times, (kind, outcome))| (kind, outcome, times))
            .collect();
        assert_eq!(counted, expected);
    }

    #[test]
    fn each_transfer_and_retry_has_a_count_of_its_own() {
        let cells = Cells::default();
        let transfers = [
            Transfer::ClientReceived,
            Transfer::ClientSent,
            Transfer::UpstreamSent,
            Transfer::UpstreamReceived,
        ];
        for (bytes, transfer) in (1..).zip(transfers) {
            cells.bytes(transfer, bytes);
        }
        for (times, reason) in (1..).zip(RetryReason::ALL) {
            (0..times).for_each(|_| cells.retry(reason));
        }
        let mut totals = Totals::default();
        totals.add(&cells);
        assert_eq!(totals.bytes, [1, 2, 3, 4]);
        assert_eq!(totals.retries, [1, 2, 3, 4]);
    }
}
