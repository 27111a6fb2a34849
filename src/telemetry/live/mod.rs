//! Live events of CORS requests for the CORS console, sent from the workers to the control thread.
//!
//! Each worker writes to its own ring buffers, which have a fixed size and no lock (`feed`).
//! Refused requests are always kept until they are read; others only while there are viewers.
//! Events without room are dropped and counted. Secrets are removed before an event enters the ring
//! (`redact`).

mod event;
mod feed;
mod note;
mod redact;

pub use event::{GroupKey, LiveEvent};
pub use feed::{LiveFeed, LiveWriter};
pub(crate) use note::LiveNote;
