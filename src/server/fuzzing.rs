//! Entry points for the fuzz targets only; not part of the API.

use std::net::IpAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::proxy_protocol;
use super::proxy_protocol::ProxySource;

/// Whom a PROXY protocol header names: a client's address, or nobody; and how long it is. `None`:
/// `bytes` begin with no header, or not with the whole of one.
#[must_use]
pub fn proxy_protocol(bytes: &[u8]) -> Option<(Option<IpAddr>, usize)> {
    let mut rest = bytes;
    let read = pin!(proxy_protocol::read(&mut rest)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(source) = read else {
        return None;
    };
    let address = match source.ok()? {
        ProxySource::Address(address) => Some(address),
        ProxySource::Socket | ProxySource::Unix => None,
    };
    Some((address, bytes.len() - rest.len()))
}
