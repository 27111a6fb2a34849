//! Which route and bucket a request addresses, and which policy decides it.
//!
//! `snapshot` is everything that a config says, compiled: requests read it without a lock.

pub mod bucket;
pub mod client;
pub mod cors_api;
pub mod host;
pub mod snapshot;
