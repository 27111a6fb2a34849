//! Properties of the PROXY protocol, for any input.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use s3cors::server::fuzzing;

/// A connection's first bytes: the header and its length are those that a simple reference
/// implementation finds, and a header is either complete or invalid.
pub fn proxy_protocol(bytes: &[u8]) {
    let read = fuzzing::proxy_protocol(bytes);
    assert_eq!(read, obvious(bytes));
    if let Some((_, length)) = read {
        assert_eq!(fuzzing::proxy_protocol(&bytes[..length]), read);
        assert_eq!(fuzzing::proxy_protocol(&bytes[..length - 1]), None);
    }
}

fn obvious(bytes: &[u8]) -> Option<(Option<IpAddr>, usize)> {
    match bytes.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
        Some(rest) => version_2(rest).map(|(address, length)| (address, 12 + length)),
        None => version_1(bytes),
    }
}

fn version_1(bytes: &[u8]) -> Option<(Option<IpAddr>, usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    if end + 2 > 107 || line.contains(['\r', '\n']) {
        return None;
    }
    let is_port = |port: &str| {
        port.parse::<u16>()
            .is_ok_and(|number| number.to_string() == port)
    };
    let address: IpAddr = match *line.split(' ').collect::<Vec<_>>() {
        ["PROXY", "UNKNOWN", ..] => return Some((None, end + 2)),
        ["PROXY", "TCP4", from, to, source, target] if is_port(source) && is_port(target) => {
            to.parse::<Ipv4Addr>().ok()?;
            from.parse::<Ipv4Addr>().ok()?.into()
        }
        ["PROXY", "TCP6", from, to, source, target] if is_port(source) && is_port(target) => {
            to.parse::<Ipv6Addr>().ok()?;
            from.parse::<Ipv6Addr>().ok()?.into()
        }
        _ => return None,
    };
    Some((Some(address), end + 2))
}

/// The part after the signature.
fn version_2(rest: &[u8]) -> Option<(Option<IpAddr>, usize)> {
    let [command, family, high, low, block @ ..] = rest else {
        return None;
    };
    let length = usize::from(*high) * 256 + usize::from(*low);
    let block = block.get(..length).filter(|block| block.len() <= 4096)?;
    let first = |count: usize| block.get(..count);
    let address: Option<IpAddr> = match (command, family) {
        (0x20, _) | (0x21, 0x00) => None,
        (0x21, 0x11) => {
            let address: [u8; 4] = first(12)?[..4].try_into().ok()?;
            Some(address.into())
        }
        (0x21, 0x21) => {
            let address: [u8; 16] = first(36)?[..16].try_into().ok()?;
            Some(address.into())
        }
        (0x21, 0x31) => first(216).map(|_| None)?,
        _ => return None,
    };
    Some((address, 4 + length))
}
