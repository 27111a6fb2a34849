//! One request: which route, what decision, where to, and what comes back.

pub mod bucket;
pub mod host;
pub mod snapshot;
pub mod upstream;
