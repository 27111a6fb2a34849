//! Outcomes per minute: the increases of the counters.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::admin::answer::time;
use crate::cors::Reason;
use crate::metrics::CorsTotals;

/// The maximum number of minutes, the current one included.
const MAX_MINUTES: usize = 60;

/// The last minutes.
#[derive(Debug)]
pub(super) struct Minutes {
    /// The past minutes, oldest first.
    ended: VecDeque<(u64, CorsTotals)>,
    /// The current minute, counted from 1970.
    current: u64,
    /// The counters at its start.
    at_start: CorsTotals,
    now: CorsTotals,
}

impl Minutes {
    pub(super) fn new(now: SystemTime, totals: CorsTotals) -> Self {
        Self {
            ended: VecDeque::new(),
            current: minute(now),
            at_start: totals,
            now: totals,
        }
    }

    /// Whether the current minute has ended, so that the counters must be read.
    pub(super) fn has_ended(&self, now: SystemTime) -> bool {
        minute(now) != self.current
    }

    /// Records the counters.
    pub(super) fn update(&mut self, now: SystemTime, totals: CorsTotals) {
        let minute = minute(now);
        if minute != self.current {
            // Increases since the last reading belong to the minute that ended.
            self.ended
                .push_back((self.current, totals.since(&self.at_start)));
            self.at_start = totals;
            // The clock was set, or the process was stopped for a while: the minutes in between
            // are empty.
            let first = (self.current + 1).max(minute.saturating_sub(MAX_MINUTES as u64));
            let missed = first..minute;
            self.ended
                .extend(missed.map(|minute| (minute, CorsTotals::default())));
            self.current = minute;
            while self.ended.len() >= MAX_MINUTES {
                self.ended.pop_front();
            }
        }
        self.now = totals;
    }

    /// Oldest first; the last one is the current minute.
    pub(super) fn to_json(&self) -> Vec<Value> {
        let current = (self.current, self.now.since(&self.at_start));
        let minutes = self.ended.iter().copied().chain([current]);
        minutes
            .map(|(minute, counts)| one(minute, &counts))
            .collect()
    }
}

fn minute(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() / 60
}

fn one(minute: u64, counts: &CorsTotals) -> Value {
    let [preflight, actual] = counts.allowed;
    let [readable, passed, blocked] = counts.verdicts;
    let denied: Map<_, _> = Reason::ALL
        .iter()
        .zip(counts.denied)
        .map(|(reason, count)| (reason.as_str().to_owned(), count.into()))
        .collect();
    json!({
        "time": time(UNIX_EPOCH + Duration::from_secs(minute * 60)),
        "requests": counts.requests,
        "allowed": { "preflight": preflight, "actual": actual },
        "denied": denied,
        "verdicts": { "readable": readable, "passed": passed, "blocked": blocked },
        "server_errors": counts.server_errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn requests(requests: u64) -> CorsTotals {
        CorsTotals {
            requests,
            ..CorsTotals::default()
        }
    }

    fn shown(minutes: &Minutes) -> Vec<(String, u64)> {
        let minutes = minutes.to_json().into_iter();
        let minutes = minutes.map(|minute| {
            let time = minute["time"].as_str().unwrap()[11..16].to_owned();
            (time, minute["requests"].as_u64().unwrap())
        });
        minutes.collect()
    }

    #[test]
    fn a_minute_has_the_increase_of_the_counters() {
        let mut minutes = Minutes::new(at(30), requests(100));
        minutes.update(at(59), requests(103));
        assert_eq!(shown(&minutes), [("00:00".to_owned(), 3)]);
        assert!(!minutes.has_ended(at(59)) && minutes.has_ended(at(60)));
        minutes.update(at(60), requests(104));
        minutes.update(at(61), requests(109));
        assert_eq!(
            shown(&minutes),
            [("00:00".to_owned(), 4), ("00:01".to_owned(), 5)]
        );
    }

    #[test]
    fn minutes_without_a_reading_are_empty_and_there_are_never_more_than_an_hour() {
        let mut minutes = Minutes::new(at(0), requests(0));
        minutes.update(at(180), requests(1));
        let expected = [("00:00", 1), ("00:01", 0), ("00:02", 0), ("00:03", 0)];
        assert_eq!(
            shown(&minutes),
            expected.map(|(time, count)| (time.to_owned(), count))
        );
        minutes.update(at(1_000_000_000), requests(2));
        assert_eq!(minutes.to_json().len(), MAX_MINUTES);
        // A clock that was set back.
        minutes.update(at(60), requests(3));
        assert_eq!(minutes.to_json().len(), MAX_MINUTES);
    }

    #[test]
    fn a_removed_routes_counters_do_not_make_a_minute_negative() {
        let mut minutes = Minutes::new(at(0), requests(100));
        minutes.update(at(1), requests(5));
        assert_eq!(shown(&minutes), [("00:00".to_owned(), 0)]);
    }
}
