//! One worker's connections to its upstreams.
//!
//! A connection is polled by the request that uses it: while it waits for the response's head,
//! and then by the response's body. No task stands between a client and its upstream, so no
//! request is handed over or woken across tasks. An idle connection is polled by nobody; whether
//! the upstream closed it is seen when it is taken up again.

pub(crate) mod checkout;
mod frame_check;
mod http2;
mod http2_conn;
mod upstream_pool;

pub(crate) use checkout::{Pool, Tries};
pub(crate) use http2_conn::Http2;
pub(crate) use upstream_pool::Ready;
