//! The client of a request: its address, and which peers may forward it.
//!
//! Anyone can send `X-Forwarded-For`. What a request says about its origin is kept only from
//! trusted proxies and removed otherwise, so that an upstream can rely on it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::HeaderName;
use ipnet::IpNet;
use thiserror::Error;

use crate::net::listener_id::ListenerId;

pub(crate) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The other end of a client's connection.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its address; `None` over a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether it uses TLS.
    pub tls: bool,
    /// Whether it is a trusted proxy, whose forwarded client address is believed.
    pub trusted: bool,
    /// The listener that accepted the connection.
    pub listener: ListenerId,
}

/// The part of an IPv6 address that identifies a client; the client itself can choose the rest
/// ([RFC 4291 §2.5.4]).
///
/// [RFC 4291 §2.5.4]: https://www.rfc-editor.org/rfc/rfc4291#section-2.5.4
const NETWORK_BITS: u32 = 64;

impl Client {
    /// The address that limits count it by; for IPv6, the network. `None`: a trusted proxy or a
    /// Unix socket, which speak for many clients.
    #[must_use]
    pub fn counted(&self) -> Option<IpAddr> {
        let address = self.address.filter(|_| !self.trusted)?;
        Some(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                let bits = address.to_bits() >> NETWORK_BITS << NETWORK_BITS;
                Ipv6Addr::from_bits(bits).into()
            }
        })
    }
}

/// The peers whose forwarded client address is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<TrustedProxy>);

/// A trusted peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Any address in this network.
    Network(IpNet),
    /// Peers on a Unix socket.
    Unix,
}

/// The text is not a trusted proxy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidProxy {
    /// It has an invalid form.
    #[error("`{0}` is not an address, a network or \"unix\"")]
    Form(String),
    /// An address has bits set after the network's prefix.
    #[error("`{written}` is an address within a network")]
    Within {
        /// The text.
        written: String,
        /// The network.
        network: IpNet,
    },
}

impl FromStr for TrustedProxy {
    type Err = InvalidProxy;

    /// Parses `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32` or `unix`.
    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network = address
            .or_else(|_| text.parse::<IpNet>())
            .map_err(|_| InvalidProxy::Form(text.to_owned()))?;
        if network.addr() == network.network() {
            return Ok(Self::Network(network));
        }
        Err(InvalidProxy::Within {
            written: text.to_owned(),
            network: network.trunc(),
        })
    }
}

impl TrustedProxy {
    /// Whether this includes every address.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        matches!(self, Self::Network(network) if network.prefix_len() == 0)
    }
}

impl TrustedProxies {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a peer is trusted; `None`: a peer on a Unix socket.
    #[must_use]
    pub fn contains(&self, address: Option<IpAddr>) -> bool {
        self.0.iter().any(|proxy| match (proxy, address) {
            (TrustedProxy::Network(network), Some(address)) => network.contains(&address),
            (TrustedProxy::Unix, None) => true,
            (TrustedProxy::Network(_), None) | (TrustedProxy::Unix, Some(_)) => false,
        })
    }
}

impl FromIterator<TrustedProxy> for TrustedProxies {
    fn from_iter<P: IntoIterator<Item = TrustedProxy>>(proxies: P) -> Self {
        Self(proxies.into_iter().collect())
    }
}

/// The address that a request comes from: the last one in the `lines` of `X-Forwarded-For` that is
/// not a trusted proxy's, because each proxy adds the address of its peer.
pub(crate) fn address_behind<'f>(
    lines: impl DoubleEndedIterator<Item = &'f [u8]>,
    client: Client,
    proxies: &TrustedProxies,
) -> Option<IpAddr> {
    let mut nearest = client.address;
    if !client.trusted {
        return nearest;
    }
    for node in lines
        .rev()
        .flat_map(|line| line.rsplit(|&byte| byte == b','))
    {
        let Some(address) = address(node) else { break };
        nearest = Some(address);
        if !proxies.contains(nearest) {
            break;
        }
    }
    nearest
}

/// Parses an address with or without a port; an IPv6 address may be in brackets.
fn address(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(node.trim_ascii()).ok()?;
    let unbracketed = node
        .strip_prefix('[')
        .and_then(|node| node.strip_suffix(']'));
    let bare = match unbracketed {
        Some(address) => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => node.parse::<IpAddr>().ok(),
    };
    let address = bare.or_else(|| node.parse::<SocketAddr>().ok().map(|node| node.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(written: &[&str]) -> TrustedProxies {
        written.iter().map(|proxy| proxy.parse().unwrap()).collect()
    }

    fn client(address: Option<&str>, trusted: bool) -> Client {
        Client {
            address: address.map(|address| address.parse().unwrap()),
            tls: true,
            trusted,
            listener: ListenerId::default(),
        }
    }

    #[test]
    fn only_addresses_networks_and_unix_are_accepted() {
        let listed = proxies(&["192.0.2.1", "198.51.100.0/24", "2001:db8::/32"]);
        for (address, is_listed) in [
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("198.51.100.255", true),
            ("198.51.101.0", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("::ffff:192.0.2.1", false), // Clients' addresses are canonical.
        ] {
            let address = address.parse().unwrap();
            assert_eq!(listed.contains(Some(address)), is_listed, "{address}");
        }
        assert!(!listed.contains(None));
        assert!(proxies(&["unix"]).contains(None));
        assert!(!proxies(&["unix"]).contains(Some(IpAddr::from([127, 0, 0, 1]))));
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "a.example",
            "10.0.0.0/",
            "*",
            "Unix",
        ] {
            let form = InvalidProxy::Form(bad.to_owned());
            assert_eq!(bad.parse::<TrustedProxy>(), Err(form));
        }
        let within = InvalidProxy::Within {
            written: "10.1.2.3/8".to_owned(),
            network: "10.0.0.0/8".parse().unwrap(),
        };
        assert_eq!("10.1.2.3/8".parse::<TrustedProxy>(), Err(within));
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_trusted() {
        let listed = proxies(&["10.0.0.0/8"]);
        for (lines, expected) in [
            (&["6.6.6.6, 192.0.2.1"][..], "192.0.2.1"),
            (&["6.6.6.6, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
            (&["6.6.6.6", "192.0.2.1", "10.0.0.2,10.0.0.3"], "192.0.2.1"),
            (&["10.0.0.2"], "10.0.0.2"),
            (&["192.0.2.1:56324"], "192.0.2.1"),
            (&["[2001:db8::1]:1"], "2001:db8::1"),
            (&["[2001:db8::9]"], "2001:db8::9"),
            (
                &["6.6.6.6, [2001:db8::9] , [2001:db8::a]:443"],
                "2001:db8::a",
            ),
            (&["[2001:db8::9], 10.0.0.2"], "2001:db8::9"),
            (&["[::ffff:192.0.2.1]"], "192.0.2.1"),
            (&["[192.0.2.1]"], "10.0.0.1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["6.6.6.6, unknown"], "10.0.0.1"),
            (&["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
            (&[""], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            let address =
                |client| address_behind(lines.iter().map(|line| line.as_bytes()), client, &listed);
            let peer = "10.0.0.1";
            let found = address(client(Some(peer), true));
            assert_eq!(found, Some(expected.parse().unwrap()), "{lines:?}");
            assert_eq!(address(client(Some(peer), false)), peer.parse().ok());
        }
    }
}
