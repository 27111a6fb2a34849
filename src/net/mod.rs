//! Sockets and what every connection needs: deadlines, writes, splice, keep-alive, the reserve of
//! file descriptors, and the check of HTTP/2 trailers.

pub(crate) mod abort_on_drop;
pub(crate) mod client_stream;
pub(crate) mod deadline;
pub(crate) mod descriptor_reserve;
pub mod keep_alive;
pub mod listener_id;
pub(crate) mod splice;
pub(crate) mod trailer_check;
pub(crate) mod write;
