//! Sockets, and what every connection needs: deadlines, writes, splice, keep-alive, and the reserve of
//! file descriptors.

pub(crate) mod client_stream;
pub(crate) mod deadline;
pub(crate) mod descriptor_reserve;
pub mod keep_alive;
pub mod listener_id;
pub(crate) mod splice;
pub(crate) mod write;
