//! Entry points for the fuzz targets only; not part of the API.

use std::net::IpAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::proxy_protocol;
use super::proxy_protocol::ProxySource;

/// The client address in a PROXY protocol header, if it has one, and the header's length. `None`
/// if `bytes` do not begin with a complete header.
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
