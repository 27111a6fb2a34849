//! HTTP/1.1 to an upstream: one request over one connection, up to the head of its response.
//!
//! For requests with a header map: those of HTTP/2 clients, and those that may go to an HTTP/2
//! upstream. [`request`] writes the head, [`upload`] sends it with the body, [`response`] converts
//! the response's head to a header map, and [`response_body`] reads the body.

pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod response_body;
pub(crate) mod send;
pub(crate) mod upload;
