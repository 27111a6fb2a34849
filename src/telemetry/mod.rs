//! What the process reports about itself, kept off the request path: nothing here blocks its caller.
//!
//! May use `metrics`.

mod line_writer;
mod log_limiter;
mod log_queue;

pub use line_writer::{LineWriter, LostLines};
pub use log_limiter::{LINES, LogLimiter, PERIOD};
pub use log_queue::{LogGuard, LogQueue};
