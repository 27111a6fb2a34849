//! The access log: a line for each request, written off the request path.
//!
//! Each worker formats into a buffer of its own ([`AccessLogger`]) and hands it over when it is
//! full or a second old; one thread writes ([`AccessLog`]). A writer that is stuck (a full disk, a
//! pipe that nobody reads) costs lines, which are counted, and never makes a request wait.

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
pub use logger::{AccessLog, AccessLogger, StartError};
pub use settings::{AccessLogSettings, Destination, Format};
pub use writer::try_to_open;
