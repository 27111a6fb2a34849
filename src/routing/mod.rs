//! Which route and bucket a request addresses, and which policy decides it.
//!
//! `snapshot` is the whole config in compiled form: requests read it without a lock.

pub mod bucket;
pub mod client;
pub mod cors_api;
pub mod host;
pub mod snapshot;
