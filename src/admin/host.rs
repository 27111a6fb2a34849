//! Whether a request means this listener: its `Host`.

use std::net::{IpAddr, Ipv6Addr};

use http::Request;
use http::StatusCode;
use http::header::HOST;

use crate::proxy::host::Host;

/// The address at which a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    Tcp(IpAddr),
    Unix,
}

/// Refuses a request that names another host than this listener.
///
/// A page that had its own name resolve to this machine (DNS rebinding) could otherwise read what
/// is here: the browser takes both for one origin, and still sends the page's name. Good are the
/// address that the connection came in at, loopback names, and what the config lists; the port
/// may be any, because tunnels and port mappings change it. No browser reaches a Unix socket, so
/// there any host is good.
///
/// # Errors
///
/// 400 for none, several or an invalid one; 421 for another's ([RFC 9110 §15.5.20]).
///
/// [RFC 9110 §15.5.20]: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20
pub(super) fn check<B>(
    request: &Request<B>,
    local: Local,
    listed: &[Box<str>],
) -> Result<(), StatusCode> {
    let Local::Tcp(local) = local else {
        return Ok(());
    };
    let mut fields = request.headers().get_all(HOST).iter();
    let authority = match (request.uri().authority(), fields.next(), fields.next()) {
        (_, _, Some(_)) => return Err(StatusCode::BAD_REQUEST),
        (Some(authority), _, None) => authority.as_str().as_bytes(),
        (None, Some(field), None) => field.as_bytes(),
        (None, None, None) => return Err(StatusCode::BAD_REQUEST),
    };
    let host = Host::parse(authority).map_err(|_| StatusCode::BAD_REQUEST)?;
    let name = host.as_str();
    let is_known = name == "localhost"
        || address(name).is_some_and(|address| address == local || address.is_loopback())
        || listed.iter().any(|listed| **listed == *name);
    if is_known {
        Ok(())
    } else {
        Err(StatusCode::MISDIRECTED_REQUEST)
    }
}

/// A config's host in the form that requests are compared in.
pub(super) fn listed(host: &str) -> Box<str> {
    Host::parse(host.as_bytes()).map_or_else(|_| host.into(), |host| host.as_str().into())
}

fn address(name: &str) -> Option<IpAddr> {
    let bracketed = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(address) => address
            .parse::<Ipv6Addr>()
            .ok()
            .map(|address| address.to_canonical()),
        None => name.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(hosts: &[&str], local: Local) -> u16 {
        let mut request = Request::builder().uri("/status");
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let request = request.body(()).unwrap();
        check(&request, local, &[listed("Admin.Example:9901")])
            .map_or_else(|error| error.as_u16(), |()| 200)
    }

    #[test]
    fn only_its_own_names_are_this_listeners() {
        let local = Local::Tcp("10.1.2.3".parse().unwrap());
        let cases: [(&[&str], u16); 17] = [
            (&["10.1.2.3:9901"], 200),
            (&["10.1.2.3"], 200),
            (&["localhost:19901"], 200),
            (&["LOCALHOST."], 200),
            (&["127.0.0.1:9901"], 200),
            (&["[::1]:9901"], 200),
            (&["[::ffff:10.1.2.3]"], 200),
            (&["admin.example"], 200),
            (&["10.1.2.4:9901"], 421),
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
            assert_eq!(status(hosts, local), expected, "{hosts:?}");
        }
    }

    #[test]
    fn the_host_of_an_absolute_target_wins() {
        let request = Request::builder()
            .uri("http://evil.example/status")
            .header(HOST, "localhost")
            .body(())
            .unwrap();
        let local = Local::Tcp("127.0.0.1".parse().unwrap());
        assert_eq!(
            check(&request, local, &[]),
            Err(StatusCode::MISDIRECTED_REQUEST)
        );
    }

    #[test]
    fn any_host_is_good_on_a_unix_socket() {
        assert_eq!(status(&["x"], Local::Unix), 200);
    }
}
