//! Formats bytes and times as text, for logs, error messages and JSON.

pub mod escape;
pub mod timestamp;
pub mod visible;
