//! Ring buffers of events, one pair for each worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::metrics::{Counter, Metrics, Worker};
use crate::telemetry::access_log::Record;

use super::event::LiveEvent;
use super::note::LiveNote;

/// The most refused requests of one worker that wait to be read.
const REFUSED: usize = 128;

/// The most other requests of one worker that wait to be read.
const OTHERS: usize = 32;

/// The events of all workers; clones share them.
#[derive(Clone, Debug)]
pub struct LiveFeed(Arc<FeedState>);

#[derive(Debug)]
struct FeedState {
    rings: Box<[Ring]>,
    viewers: AtomicUsize,
    dropped: Counter,
}

#[derive(Debug)]
struct Ring {
    refused: ArrayQueue<LiveEvent>,
    others: ArrayQueue<LiveEvent>,
}

/// One worker's end.
#[derive(Debug)]
pub struct LiveWriter {
    feed: LiveFeed,
    worker: Worker,
}

impl LiveFeed {
    /// Empty rings for each of the workers of `metrics`.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let ring = |_| Ring {
            refused: ArrayQueue::new(REFUSED),
            others: ArrayQueue::new(OTHERS),
        };
        Self(Arc::new(FeedState {
            rings: (0..metrics.workers().max(1)).map(ring).collect(),
            viewers: AtomicUsize::new(0),
            dropped: metrics.live_dropped_events(),
        }))
    }

    /// A worker's end.
    #[must_use]
    pub fn writer(&self, worker: Worker) -> LiveWriter {
        LiveWriter {
            feed: self.clone(),
            worker,
        }
    }

    /// Sets the number of viewers.
    pub fn set_viewers(&self, viewers: usize) {
        self.0.viewers.store(viewers, Ordering::Relaxed);
    }

    /// How many events were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.get()
    }

    /// Takes the waiting events, at most one ring's length from each worker, so that a flood cannot
    /// keep the reader busy.
    pub fn drain(&self) -> impl Iterator<Item = LiveEvent> + '_ {
        let rings = self.0.rings.iter();
        rings.flat_map(|ring| {
            let refused = (0..REFUSED).map_while(|_| ring.refused.pop());
            refused.chain((0..OTHERS).map_while(|_| ring.others.pop()))
        })
    }
}

impl LiveWriter {
    /// Whether there are viewers.
    pub(crate) fn is_watched(&self) -> bool {
        self.feed.0.viewers.load(Ordering::Relaxed) > 0
    }

    /// Whether there are viewers, and room for a request that is not refused.
    pub(crate) fn has_room_for_others(&self) -> bool {
        self.is_watched() && self.ring().is_some_and(|ring| !ring.others.is_full())
    }

    /// Whether there is room for a refused request.
    pub(crate) fn has_room(&self) -> bool {
        self.ring().is_some_and(|ring| !ring.refused.is_full())
    }

    /// Counts a request without room.
    pub(crate) fn drop_event(&self) {
        self.feed.0.dropped.inc(self.worker);
    }

    /// Adds the event of a CORS request that ended.
    pub(crate) fn write(&self, record: &Record<'_>, note: Option<&LiveNote>) {
        let is_denied = record.decision.is_some_and(|(_, outcome)| outcome.is_err());
        let is_blocked = record
            .verdict
            .is_some_and(|verdict| verdict.blocked().is_some());
        let is_refused = is_denied || is_blocked;
        if !is_refused && (record.decision.is_none() && record.verdict.is_none()) {
            return;
        }
        if !is_refused && !self.is_watched() {
            return;
        }
        let Some(ring) = self.ring() else { return };
        let ring = if is_refused {
            &ring.refused
        } else {
            &ring.others
        };
        // Checked first, so that an event is created only if it has room.
        if ring.is_full() || ring.push(LiveEvent::new(record, note)).is_err() {
            self.drop_event();
        }
    }

    fn ring(&self) -> Option<&Ring> {
        let rings = &self.feed.0.rings;
        rings.get(self.worker.0).or_else(|| rings.first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cors::Kind;
    use crate::cors::fetch::AnswerVerdict;
    use crate::telemetry::access_log::line_tests::record;

    fn allowed() -> Record<'static> {
        Record {
            decision: Some((Kind::Actual, Ok(()))),
            verdict: Some(AnswerVerdict::Readable),
            ..record()
        }
    }

    fn dropped(metrics: &Metrics) -> u64 {
        metrics.live_dropped_events().get()
    }

    #[test]
    fn only_refused_requests_are_kept_without_a_viewer() {
        let metrics = Metrics::new(2);
        let feed = LiveFeed::new(&metrics);
        let writer = feed.writer(Worker(1));
        writer.write(&record(), None);
        writer.write(&allowed(), None);
        assert_eq!(feed.drain().count(), 1);
        feed.set_viewers(1);
        writer.write(&record(), None);
        writer.write(&allowed(), None);
        let not_cors = Record {
            decision: None,
            verdict: None,
            ..record()
        };
        writer.write(&not_cors, None);
        assert_eq!(feed.drain().count(), 2);
        assert_eq!(dropped(&metrics), 0);
    }

    #[test]
    fn events_without_room_are_dropped_and_counted() {
        let metrics = Metrics::new(1);
        let feed = LiveFeed::new(&metrics);
        feed.set_viewers(1);
        let writer = feed.writer(Worker(0));
        for _ in 0..1000 {
            writer.write(&record(), None);
            writer.write(&allowed(), None);
        }
        assert!(!writer.has_room() && !writer.has_room_for_others());
        assert_eq!(dropped(&metrics), 2000 - (REFUSED + OTHERS) as u64);
        assert_eq!(feed.drain().count(), REFUSED + OTHERS);
        assert!(writer.has_room() && writer.has_room_for_others());
    }

    #[test]
    fn workers_write_while_one_thread_reads() {
        let metrics = Metrics::new(4);
        let feed = LiveFeed::new(&metrics);
        let mut read = 0;
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let writer = feed.writer(Worker(worker));
                scope.spawn(move || (0..1000).for_each(|_| writer.write(&record(), None)));
            }
            for _ in 0..100 {
                read += feed.drain().count() as u64;
            }
        });
        read += feed.drain().count() as u64;
        assert_eq!(read + dropped(&metrics), 4000);
    }
}
