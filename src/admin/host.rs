//! Checks that a request's `Host` is this listener.

use std::net::{IpAddr, Ipv6Addr};

use http::header::HOST;
use http::{Request, StatusCode, Version};

use crate::routing::host::Host;

/// The kind of socket of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    Tcp,
    Unix,
}

/// Refuses a request for another host than this listener.
///
/// Otherwise, a page whose own name resolves to this machine (DNS rebinding) could read this
/// listener: the browser considers both one origin, but still sends the page's name. So names
/// must be known: loopback names, and those listed in the config. Any IP address is accepted,
/// because it cannot be made to resolve to this machine, and because published ports and NAT
/// change address and port. An HTTP/1.0 request may omit `Host`; no browser sends one. Any host
/// is accepted on a Unix socket, which no browser can reach.
///
/// # Errors
///
/// 400 for a missing, repeated or invalid host; 421 for another one ([RFC 9110 §15.5.20]).
///
/// [RFC 9110 §15.5.20]: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20
pub(crate) fn check<B>(
    request: &Request<B>,
    local: Local,
    listed: &[Box<str>],
) -> Result<(), StatusCode> {
    if local == Local::Unix {
        return Ok(());
    }
    let mut fields = request.headers().get_all(HOST).iter();
    let authority = match (request.uri().authority(), fields.next(), fields.next()) {
        (_, _, Some(_)) => return Err(StatusCode::BAD_REQUEST),
        (Some(authority), _, None) => authority.as_str().as_bytes(),
        (None, Some(field), None) => field.as_bytes(),
        (None, None, None) if request.version() <= Version::HTTP_10 => return Ok(()),
        (None, None, None) => return Err(StatusCode::BAD_REQUEST),
    };
    let host = Host::parse(authority).map_err(|_| StatusCode::BAD_REQUEST)?;
    let name = host.as_str();
    let is_known =
        name == "localhost" || is_address(name) || listed.iter().any(|listed| **listed == *name);
    if is_known {
        Ok(())
    } else {
        Err(StatusCode::MISDIRECTED_REQUEST)
    }
}

/// A config's host in the form that requests are compared with.
pub(super) fn listed(host: &str) -> Box<str> {
    Host::parse(host.as_bytes()).map_or_else(|_| host.into(), |host| host.as_str().into())
}

fn is_address(name: &str) -> bool {
    let bracketed = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<IpAddr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(hosts: &[&str], local: Local) -> u16 {
        status_of(Version::HTTP_11, hosts, local)
    }

    fn status_of(version: Version, hosts: &[&str], local: Local) -> u16 {
        let mut request = Request::builder().uri("/status").version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let request = request.body(()).unwrap();
        check(&request, local, &[listed("Admin.Example:9901")])
            .map_or_else(|error| error.as_u16(), |()| 200)
    }

    #[test]
    fn only_known_names_and_addresses_are_accepted() {
        let cases: [(&[&str], u16); 26] = [
            (&["10.1.2.3:9901"], 200),
            (&["10.1.2.3"], 200),
            (&["localhost:19901"], 200),
            (&["LOCALHOST."], 200),
            (&["127.0.0.1:9901"], 200),
            (&["[::1]:9901"], 200),
            (&["[::ffff:10.1.2.3]"], 200),
            (&["admin.example"], 200),
            // Published ports and NAT: addresses that this machine does not have.
            (&["10.1.2.4:9901"], 200),
            (&["203.0.113.7"], 200),
            (&["[2001:db8::1]:80"], 200),
            (&["[::ffff:203.0.113.7]:9901"], 200),
            // Not an address in the form that browsers send.
            (&["10.1.2"], 421),
            (&["10.1.2.3.4"], 421),
            (&["0x0a.1.2.3"], 421),
            (&["010.1.2.3"], 421),
            (&["2130706433"], 421),
            (&["10.1.2.3.evil.example"], 421),
            (&["evil.example:9901"], 421),
            (&["localhost.evil.example"], 421),
            (&["admin.example.evil.example"], 421),
            (&["127.0.0.1.evil.example"], 421),
            (&[], 400),
            (&[""], 400),
            (&["user@localhost"], 400),
            (&["localhost", "localhost"], 400),
        ];
        for (hosts, expected) in cases {
            assert_eq!(status(hosts, Local::Tcp), expected, "{hosts:?}");
        }
    }

    #[test]
    fn the_host_of_an_absolute_target_wins() {
        let request = Request::builder()
            .uri("http://evil.example/status")
            .header(HOST, "localhost")
            .body(())
            .unwrap();
        assert_eq!(
            check(&request, Local::Tcp, &[]),
            Err(StatusCode::MISDIRECTED_REQUEST)
        );
    }

    #[test]
    fn only_http_1_0_may_omit_the_host() {
        let cases: [(Version, &[&str], u16); 6] = [
            (Version::HTTP_10, &[], 200),
            (Version::HTTP_11, &[], 400),
            (Version::HTTP_10, &["localhost"], 200),
            (Version::HTTP_10, &["evil.example"], 421),
            (Version::HTTP_10, &[""], 400),
            (Version::HTTP_10, &["localhost", "localhost"], 400),
        ];
        for (version, hosts, expected) in cases {
            let status = status_of(version, hosts, Local::Tcp);
            assert_eq!(status, expected, "{version:?} {hosts:?}");
        }
    }

    #[test]
    fn any_host_is_accepted_on_a_unix_socket() {
        assert_eq!(status(&["x"], Local::Unix), 200);
    }
}
