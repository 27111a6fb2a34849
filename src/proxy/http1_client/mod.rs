//! HTTP/1.1 to an upstream: one request over one connection, up to the head of its response.
//!
//! For requests that came as a map of fields and a body: those of HTTP/2 clients, and those that
//! may go to an HTTP/2 upstream. [`request`] writes the head, [`upload`] sends it with the body,
//! [`response`] makes a map of fields of what came, and [`response_body`] reads what comes after.

pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod response_body;
pub(crate) mod send;
pub(crate) mod upload;
