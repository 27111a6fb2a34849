//! Every metric, and the handles that requests count with.
//!
//! Handles are looked up when a snapshot is built, never by a request. Each worker counts in its
//! own cells, so that no two cores write to the same cache line; a scrape adds them up. Memory does
//! not grow with what clients send: labels come from the config, from fixed sets, or from the most
//! frequent few.
//!
//! A route's series live as long as a snapshot holds its [`RouteMetrics`]. A route that a reload
//! removes is exported until its last request is answered. A route that stays keeps its counts,
//! because the new snapshot takes its counters before the old one is dropped.

mod bucket_cors;
mod cells;
mod config;
mod counter;
mod denied_origins;
mod dropped_lines;
mod families;
mod family;
mod heavy_hitters;
mod histogram;
mod listener;
mod process;
pub(crate) mod registry;
pub(crate) mod route;
mod traffic;
mod traffic_families;
mod upstream;
mod upstream_failure;

pub use bucket_cors::{BucketCorsOperation, BucketCorsRequests};
pub use cells::CorsTotals;
pub use config::{ConfigState, ReloadResult};
pub use counter::Worker;
pub use counter::{Counter, Gauge};
pub use dropped_lines::DroppedLines;
pub use listener::{HandshakeFailure, ListenerMetrics, NoRoom, TlsHandshake};
pub use registry::{CertificateEnds, Metrics, NO_ROUTE, TEXT_FORMAT};
pub use route::{RequestInFlight, RouteCounts, RouteMetrics, UpstreamHealth};
pub use traffic::{RetryReason, Transfer};
pub use upstream::{UpstreamCounts, UpstreamMetrics};
pub use upstream_failure::UpstreamFailure;
