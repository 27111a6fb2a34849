//! Decides which requests get a span, and writes the `traceparent` for the upstream.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write as _};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use http::HeaderName;
use http::header::AUTHORIZATION;
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::http1::fields::Fields;
use crate::metrics::Metrics;
use crate::routing::client::Client;
use crate::telemetry::access_log::Record;
use crate::telemetry::trace_context::{TRACEPARENT, TraceId, TraceParent};

use super::exporter::Exporter;
use super::settings::TracesSettings;
use super::span::{self, SpanContext};

/// How many spans may wait for the exporter. Each is at most a few kilobytes, whatever clients
/// send.
const WAITING: usize = 2048;

static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The traces of the process, with the thread that sends them.
#[derive(Debug)]
pub struct Traces {
    sampled_below: u128,
    metrics: Arc<Metrics>,
    sender: SyncSender<Span>,
    /// Closed when the thread ends.
    finished: Receiver<()>,
}

/// One worker's end of the traces.
#[derive(Debug)]
pub struct Tracer {
    /// A request is recorded if a random number is below this one.
    sampled_below: u128,
    metrics: Arc<Metrics>,
    sender: SyncSender<Span>,
    seed: RandomState,
    next: Cell<u64>,
}

/// A span that has begun.
#[derive(Debug)]
pub(crate) struct OpenSpan {
    tracer: Rc<Tracer>,
    context: SpanContext,
    /// Whether the client's signature covers `traceparent`.
    is_signed: bool,
}

impl Traces {
    /// Starts the thread that sends spans. An unreachable collector is noticed with the first
    /// spans.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn start(settings: &TracesSettings, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let exporter = Exporter::new(settings, Arc::clone(metrics))?;
        let (sender, receiver) = sync_channel(WAITING);
        let (alive, finished) = sync_channel(0);
        let export = move || {
            exporter.run(&receiver);
            drop(alive);
        };
        std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(export)?;
        Ok(Self {
            sampled_below: (settings.sample_ratio * 2f64.powi(64)) as u128,
            metrics: Arc::clone(metrics),
            sender,
            finished,
        })
    }

    /// A worker's end.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        Tracer {
            sampled_below: self.sampled_below,
            metrics: Arc::clone(&self.metrics),
            sender: self.sender.clone(),
            seed: RandomState::new(),
            next: Cell::new(0),
        }
    }

    /// Waits at most `patience` until everything is sent; returns whether it was. The workers' ends
    /// must have been dropped, or the wait times out.
    #[must_use]
    pub fn finish(self, patience: Duration) -> bool {
        drop(self.sender);
        self.finished.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Tracer {
    /// Begins a span if the request is recorded: if its client records the trace, and for a
    /// fraction of requests without one. The span becomes the parent of the upstream's spans
    /// ([`OpenSpan::write_parent`]). `target` is the request's target.
    pub(crate) fn begin(
        self: &Rc<Self>,
        fields: &(impl Fields + ?Sized),
        target: &str,
        client: Client,
    ) -> Option<OpenSpan> {
        let parent = TraceParent::of(fields);
        let is_recorded = match parent {
            Some(parent) => parent.is_sampled(),
            None => u128::from(self.random()) < self.sampled_below,
        };
        if !is_recorded {
            return None;
        }
        let trace_id = parent.map_or_else(
            || {
                let halves = [self.random(), self.random()].map(u128::from);
                TraceId(halves[0] << 64 | halves[1])
            },
            |parent| parent.trace_id,
        );
        // Without a valid parent, `tracestate` belongs to an unknown trace (§3.3.1.2).
        let state = fields
            .field_values(&TRACESTATE)
            .filter(|_| parent.is_some());
        Some(OpenSpan {
            tracer: Rc::clone(self),
            context: SpanContext {
                trace_id,
                span_id: self.random(),
                parent_id: parent.map(|parent| parent.parent_id),
                trace_state: state.map(<[u8]>::to_vec).collect(),
                is_tls: client.tls,
            },
            is_signed: is_signed(fields, target),
        })
    }

    /// A random number, never 0.
    fn random(&self) -> u64 {
        let count = self.next.get();
        self.next.set(count.wrapping_add(1));
        self.seed.hash_one(count).max(1)
    }
}

impl OpenSpan {
    /// Whether this span replaces a field of the request.
    pub(crate) fn replaces(&self, name: &str) -> bool {
        let is = |other: &HeaderName| name.eq_ignore_ascii_case(other.as_str());
        !self.is_signed && is(&TRACEPARENT) || self.context.parent_id.is_none() && is(&TRACESTATE)
    }

    /// Writes the upstream's `traceparent`; nothing if the client's stays.
    pub(crate) fn write_parent(&self, out: &mut Vec<u8>) {
        if !self.is_signed {
            let (trace_id, parent_id, flags) = (
                self.context.trace_id,
                self.context.span_id,
                TraceParent::SAMPLED,
            );
            // Writing to memory cannot fail.
            let _ = write!(out, "00-{trace_id}-{parent_id:016x}-{flags:02x}");
        }
    }

    /// Ends the span now, and hands it over.
    pub(crate) fn end(&self, record: &Record<'_>) {
        let tracer = &self.tracer;
        if tracer
            .sender
            .try_send(span::of(&self.context, record))
            .is_err()
        {
            tracer.metrics.trace_spans_dropped(1);
        }
    }
}

/// Whether the client's signature covers `traceparent`, which then must stay unchanged. Signature
/// V4 names the signed fields in `Authorization`, or in the query of a presigned URL.
fn is_signed(fields: &(impl Fields + ?Sized), target: &str) -> bool {
    let names = |text: &str| text.contains(TRACEPARENT.as_str());
    let query = target.split_once('?').map(|(_, query)| query);
    let mut values = fields.field_values(&AUTHORIZATION);
    query.is_some_and(names) || values.any(|value| std::str::from_utf8(value).is_ok_and(names))
}
