//! The access log: a line for each request, written off the request path.
//!
//! Each worker formats lines into its own buffer ([`AccessLogger`]) and hands it over when it is
//! full or a second old; one thread writes ([`AccessLog`]). If the writer is blocked (a full disk,
//! an unread pipe), lines are dropped and counted, and requests never wait.

mod body_cut;
mod line;
pub(crate) mod logger;
mod settings;
mod writer;

pub use body_cut::BodyCut;
pub(crate) use line::Clock;
pub use line::Record;
#[cfg(test)]
pub(crate) use line::tests as line_tests;
pub use logger::{AccessLog, AccessLogStartError, AccessLogger};
pub use settings::{AccessLogFormat, AccessLogSettings, Destination};
pub use writer::try_to_open;
