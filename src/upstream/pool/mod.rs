//! One worker's connections to its upstreams.
//!
//! The request that uses a connection polls it: first while it waits for the response's head, then
//! through the response's body. No task stands between a client and its upstream, so requests never
//! cross tasks. Idle connections are not polled; a connection that the upstream closed is noticed
//! when it is taken again.

pub(crate) mod checkout;
mod frame_check;
mod http2;
mod http2_conn;
mod upstream_pool;

pub(crate) use checkout::{Pool, Tries};
pub(crate) use http2_conn::Http2Conn;
pub(crate) use upstream_pool::Ready;
