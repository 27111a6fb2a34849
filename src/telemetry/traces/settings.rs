//! Settings of traces.

use crate::upstream::endpoint::UpstreamSettings;

/// Settings of traces.
#[derive(Clone, Debug, PartialEq)]
pub struct TracesSettings {
    /// The collector, which accepts OTLP over HTTP at `/v1/traces`.
    pub endpoint: UpstreamSettings,
    /// The fraction of requests without a `traceparent` that is recorded: 0 to 1.
    pub sample_ratio: f64,
    /// The resource's `service.name`.
    pub service_name: String,
}
