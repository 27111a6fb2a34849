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
