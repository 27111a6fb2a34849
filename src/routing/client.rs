//! The client of a request: its address, and which peers may forward it.
//!
//! Anybody can send `X-Forwarded-For`. What a request says of where it comes from is kept only
//! from listed proxies, and taken out otherwise, so that an upstream may believe what it gets.

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
    /// Whether it speaks TLS to us.
    pub tls: bool,
    /// Whether it is a listed proxy, which is believed whom it speaks for.
    pub trusted: bool,
    /// The listener that it connected to.
    pub listener: ListenerId,
}

/// How much of an IPv6 address tells clients apart: the rest, each chooses for itself
/// ([RFC 4291 §2.5.4]).
///
/// [RFC 4291 §2.5.4]: https://www.rfc-editor.org/rfc/rfc4291#section-2.5.4
const NETWORK_BITS: u32 = 64;

impl Client {
    /// What limits count it by: its address, of IPv6 the network. `None`: a listed proxy or a Unix
    /// socket, which speak for many.
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

/// The proxies that are believed whom they speak for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<TrustedProxy>);

/// Who is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Who has an address of this network.
    Network(IpNet),
    /// Who connects over a Unix socket.
    Unix,
}

/// What is written names no proxy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidProxy {
    /// It has another form.
    #[error("`{0}` is no address, no network and not \"unix\"")]
    Form(String),
    /// Behind the prefix, an address has bits that are passed over.
    #[error("`{written}` is an address within a network")]
    Within {
        /// As it is written.
        written: String,
        /// The network.
        network: IpNet,
    },
}

impl FromStr for TrustedProxy {
    type Err = InvalidProxy;

    /// Reads `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32` or `unix`.
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
    /// Whether this is everybody.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        matches!(self, Self::Network(network) if network.prefix_len() == 0)
    }
}

impl TrustedProxies {
    /// Whether nobody is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody is listed; `None` connects over a Unix socket.
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

/// The address that a request comes from: of those in the `lines` of `X-Forwarded-For` the last that
/// no listed proxy has, because each proxy adds the address that it was connected to.
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

/// An address, with or without a port; in brackets or not if it is of IPv6.
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
    fn an_address_a_network_and_unix_are_listed_and_nothing_else() {
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
    fn the_client_is_the_last_who_is_no_listed_proxy() {
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
