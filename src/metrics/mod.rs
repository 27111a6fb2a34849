//! Every metric, one list; and the handles that requests count with.
//!
//! Handles are looked up when a snapshot is built, never by a request. Each worker counts in
//! cells of its own, so that no two cores write to one cache line; a scrape adds the cells up.
//! Nothing grows with what clients send: labels come from the config, from fixed sets, or from
//! the few heaviest.
//!
//! A route's series live as long as a snapshot holds its [`RouteMetrics`]. A route that a reload
//! removes stops being exported once its last request is answered; one that stays goes on
//! counting, because the new snapshot asks for its counters before the old one is gone.

mod bucket_cors;
mod cells;
mod config;
mod counter;
mod denied_origins;
mod dropped_lines;
mod families;
mod family;
mod heavy_hitters;
mod listener;
mod process;
pub(crate) mod registry;
pub(crate) mod route;
mod upstream_failure;

pub use bucket_cors::{BucketCorsOperation, BucketCorsRequests};
pub use cells::CorsTotals;
pub use config::{ConfigState, ReloadResult};
pub use counter::Worker;
pub use counter::{Counter, Gauge};
pub use dropped_lines::DroppedLines;
pub use listener::{HandshakeFailure, ListenerMetrics, NoRoom};
pub use registry::{CertificateEnds, Metrics, NO_ROUTE, TEXT_FORMAT};
pub use route::{RouteMetrics, UpstreamFailures, UpstreamHealth};
pub use upstream_failure::UpstreamFailure;
