//! `/cors/live`: CORS requests as server-sent events, as they happen. deploy/observability
//! describes them.
//!
//! A collector on the control thread reads the workers' rings (`telemetry::live`), maintains the
//! data of a viewer's first event (`groups`, `minutes`, `snapshot`), and sends frames to at most
//! [`MAX_VIEWERS`] viewers. A frame is built once for all of them. A viewer with a full queue is
//! disconnected.

mod body;
mod collector;
mod groups;
mod lease;
mod minutes;
mod policies;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::{HeaderValue, StatusCode};
use http_body_util::Either;
use tokio::sync::mpsc;

use super::answer;
use super::answer::AdminAnswer;

use body::Place;
use collector::Viewer;

pub(super) use body::LiveBody;
pub(super) use collector::Collector;
pub(super) use lease::Lease;

/// The maximum number of viewers.
const MAX_VIEWERS: usize = 8;

/// The maximum number of frames queued for a viewer.
const MAX_FRAMES: usize = 32;

/// The media type of server-sent events
/// ([HTML Standard](https://html.spec.whatwg.org/multipage/server-sent-events.html)).
const EVENTS: &str = "text/event-stream";

/// Lets viewers join; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    viewers: mpsc::Sender<Viewer>,
    count: Arc<AtomicUsize>,
}

impl Entry {
    /// Creates the entry, and the collector's end of it.
    pub(super) fn new() -> (Self, mpsc::Receiver<Viewer>) {
        let (viewers, joining) = mpsc::channel(MAX_VIEWERS);
        let count = Arc::default();
        (Self { viewers, count }, joining)
    }

    /// The response to a viewer: the stream, or 503 if there are too many.
    pub(super) fn join(&self, lease: &Arc<Lease>) -> AdminAnswer {
        let Some(place) = Place::take(&self.count, MAX_VIEWERS) else {
            return answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the live feed already has 8 viewers; close one of them, or read /status",
            );
        };
        let (frames, stream) = mpsc::channel(MAX_FRAMES);
        let viewer = Viewer {
            frames,
            lease: Arc::clone(lease),
        };
        if self.viewers.try_send(viewer).is_err() {
            return answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the live feed is not ready; try again in a second",
            );
        }
        lease.extend();
        events(LiveBody::new(stream, place))
    }

    /// The response without its body.
    pub(super) fn head() -> AdminAnswer {
        events(LiveBody::default())
    }
}

fn events(body: LiveBody) -> AdminAnswer {
    let mut answer = answer::with_body(StatusCode::OK, EVENTS, Either::Right(body));
    // A proxy in between must not buffer events (nginx's proxy_buffering).
    answer
        .headers_mut()
        .insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}
