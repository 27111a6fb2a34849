//! What the CORS console shows as it happens: events of CORS requests, from the workers to the control
//! thread.
//!
//! Each worker writes to rings of its own, which have a fixed size and no lock (`feed`). Refused requests
//! are always kept until they are read; others only while somebody watches. What does not fit is dropped and
//! counted. Secrets are left out before an event enters the ring (`redact`).

mod event;
mod feed;
mod note;
mod redact;

pub use event::{GroupKey, LiveEvent};
pub use feed::{LiveFeed, LiveWriter};
pub(crate) use note::LiveNote;
