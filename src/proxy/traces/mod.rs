//! Traces: a span for each request that is sampled, sent to a collector over OTLP.
//!
//! A span is made at the end of its response, by the worker, and handed to one thread through a
//! bounded queue. A collector that is slow or gone costs spans, which are counted, and never makes
//! a request wait. Who sampled is asked first: a client's `traceparent` decides where there is one.
//!
//! Only with the feature `otlp`; without it the same types are there and none can be made, so that
//! nobody else has to know.

#[cfg(not(feature = "otlp"))]
mod absent;
#[cfg(feature = "otlp")]
mod exporter;
#[cfg(feature = "otlp")]
mod span;
#[cfg(feature = "otlp")]
mod tracer;

use super::upstream::UpstreamSettings;

#[cfg(not(feature = "otlp"))]
pub(super) use absent::OpenSpan;
#[cfg(not(feature = "otlp"))]
pub use absent::{Tracer, Traces};
#[cfg(feature = "otlp")]
pub(super) use tracer::OpenSpan;
#[cfg(feature = "otlp")]
pub use tracer::{Tracer, Traces};

/// What the config says of traces.
#[derive(Clone, Debug, PartialEq)]
pub struct TracesSettings {
    /// The collector, which takes OTLP over HTTP at `/v1/traces`.
    pub endpoint: UpstreamSettings,
    /// How many of the requests without a `traceparent` are recorded: 0 to 1.
    pub sample_ratio: f64,
    /// The resource's `service.name`.
    pub service_name: String,
}
