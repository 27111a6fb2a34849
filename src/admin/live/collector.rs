//! Reads the workers' rings, and sends frames to the viewers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use crate::admin::State;
use crate::telemetry::live::LiveFeed;

use super::groups::Groups;
use super::lease::Lease;
use super::minutes::Minutes;
use super::policies::PolicyList;
use super::snapshot;
use super::snapshot::Known;

/// How often the rings are read with and without viewers.
const WATCHED: Duration = Duration::from_millis(250);
const UNWATCHED: Duration = Duration::from_secs(1);

/// How often viewers get a snapshot.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(5);

/// A viewer.
#[derive(Debug)]
pub(crate) struct Viewer {
    pub(super) frames: mpsc::Sender<Bytes>,
    pub(super) lease: Arc<Lease>,
}

/// The state behind `/cors/live`.
pub(crate) struct Collector {
    feed: LiveFeed,
    state: Arc<State>,
    joining: mpsc::Receiver<Viewer>,
    viewers: Vec<Viewer>,
    groups: Groups,
    minutes: Minutes,
    policies: PolicyList,
    snapshot_at: Instant,
}

impl Collector {
    pub(crate) fn new(feed: LiveFeed, state: Arc<State>, joining: mpsc::Receiver<Viewer>) -> Self {
        Self {
            minutes: Minutes::new(SystemTime::now(), state.metrics.cors_totals()),
            feed,
            state,
            joining,
            viewers: Vec::new(),
            groups: Groups::default(),
            policies: PolicyList::default(),
            snapshot_at: Instant::now(),
        }
    }

    /// Collects until dropped.
    pub(crate) async fn run(mut self) -> Infallible {
        loop {
            let pause = if self.viewers.is_empty() {
                UNWATCHED
            } else {
                WATCHED
            };
            let joined = tokio::time::timeout(pause, self.joining.recv()).await;
            self.collect();
            if let Ok(Some(viewer)) = joined {
                self.add(viewer);
            } else if !self.viewers.is_empty() && self.is_snapshot_due() {
                let frame = self.snapshot();
                self.send(&frame);
            }
        }
    }

    /// Reads the rings and the counters.
    fn collect(&mut self) {
        let mut frame = Vec::new();
        for event in self.feed.drain() {
            self.groups.add(&event);
            if !self.viewers.is_empty() {
                frame.extend_from_slice(b"event: cors\ndata: ");
                frame.extend_from_slice(&event.json);
                frame.extend_from_slice(b"\n\n");
            }
        }
        if !frame.is_empty() {
            self.send(&Bytes::from(frame));
        }
        let now = SystemTime::now();
        if self.minutes.has_ended(now) {
            self.minutes.update(now, self.state.metrics.cors_totals());
        }
    }

    fn is_snapshot_due(&self) -> bool {
        let is_reloaded = self.policies.generation != self.state.current.get().generation;
        is_reloaded || self.snapshot_at.elapsed() >= SNAPSHOT_EVERY
    }

    /// The frame with the complete state.
    fn snapshot(&mut self) -> Bytes {
        let snapshot = self.state.current.get();
        if self.policies.generation != snapshot.generation {
            self.policies = PolicyList::new(&snapshot);
        }
        self.minutes
            .update(SystemTime::now(), self.state.metrics.cors_totals());
        self.snapshot_at = Instant::now();
        let known = Known {
            groups: &self.groups,
            minutes: &self.minutes,
            policies: &self.policies,
            dropped: self.feed.dropped(),
            viewers: self.viewers.len(),
        };
        let value = snapshot::to_json(&self.state, &snapshot, &known);
        Bytes::from(format!("event: snapshot\ndata: {value}\n\n"))
    }

    fn add(&mut self, viewer: Viewer) {
        self.viewers.push(viewer);
        // From here on the workers record all CORS requests.
        self.feed.set_viewers(self.viewers.len());
        let frame = self.snapshot();
        if let Some(viewer) = self.viewers.last() {
            // Its queue is empty.
            let _ = viewer.frames.try_send(frame);
        }
    }

    /// Sends a frame to all viewers. Removes those that have left, and disconnects those that do
    /// not read.
    fn send(&mut self, frame: &Bytes) {
        self.viewers
            .retain(|viewer| match viewer.frames.try_send(frame.clone()) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => {
                    tracing::info!("disconnected a viewer of the live feed that does not read");
                    viewer.lease.cut();
                    false
                }
            });
        self.feed.set_viewers(self.viewers.len());
    }
}
