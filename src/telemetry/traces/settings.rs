//! What the config says of traces.

use crate::upstream::endpoint::UpstreamSettings;

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
