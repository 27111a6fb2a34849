//! What the process reports about itself and its requests, off the request path: nothing here
//! blocks its caller.
//!
//! The process log goes through `log_queue`; `access_log` and `traces` record requests;
//! `denial_log` logs refused CORS requests and `upstream_log` failed upstreams, both rate-limited;
//! `live` provides the events of the CORS console.

pub mod access_log;
pub(crate) mod denial;
pub(crate) mod denial_log;
pub(crate) mod denial_text;
pub(crate) mod line_writer;
pub mod live;
mod log_limiter;
pub(crate) mod log_queue;
pub mod trace_context;
pub mod traces;
pub(crate) mod upstream_log;

pub use line_writer::{LineWriter, LostLines};
pub use log_limiter::{LINES, LogLimiter, PERIOD};
pub use log_queue::{LogQueue, LogQueueGuard};
