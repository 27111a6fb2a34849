//! Shared by several subjects.

pub(crate) mod binary;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod configured;
pub(crate) mod folder;
pub(crate) mod http2;
pub(crate) mod object_store;
pub(crate) mod proxy;
pub(crate) mod sigv4;
pub(crate) mod upstream;
pub(crate) mod vectors;
