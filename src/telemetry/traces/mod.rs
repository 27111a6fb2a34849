//! Traces: a span for each sampled request, sent to a collector over OTLP.
//!
//! A worker creates the span at the end of the response and hands it to one thread through a
//! bounded queue. If the collector is slow or unreachable, spans are dropped and counted, and
//! requests never wait. If a client sends a `traceparent`, its sampling decision applies.
//!
//! Needs the feature `otlp`. Without it, the same types exist but have no values, so that no other
//! code depends on the feature.

#[cfg(not(feature = "otlp"))]
mod absent;
#[cfg(feature = "otlp")]
mod exporter;
mod settings;
#[cfg(feature = "otlp")]
mod span;
#[cfg(feature = "otlp")]
mod tracer;

#[cfg(not(feature = "otlp"))]
pub(crate) use absent::OpenSpan;
#[cfg(not(feature = "otlp"))]
pub use absent::{Tracer, Traces};
pub use settings::TracesSettings;
#[cfg(feature = "otlp")]
pub(crate) use tracer::OpenSpan;
#[cfg(feature = "otlp")]
pub use tracer::{Tracer, Traces};
