//! How bytes and times are written as text: in logs, error messages and JSON.

pub mod escape;
pub mod timestamp;
