//! Command lines that reproduce an explanation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::exchange::Exchange;

/// A listener of the proxy, so that a command line reaches it and nothing in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// The address.
    pub address: EntranceAddress,
    /// Whether it is a TLS listener.
    pub tls: bool,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
}

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntranceAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The preflight, as the browser sends it.
pub(crate) fn preflight(url: &str, exchange: &Exchange, entrances: &[Entrance]) -> String {
    let mut fields = vec![
        origin(exchange),
        format!("Access-Control-Request-Method: {}", exchange.method),
    ];
    if !exchange.requested_headers.is_empty() {
        let names = exchange.requested_headers.join(",");
        fields.push(format!("Access-Control-Request-Headers: {names}"));
    }
    line("-i -X OPTIONS", url, &fields, entrances)
}

/// The request itself, if it only reads: an upload is left to the reader.
pub(crate) fn actual(url: &str, exchange: &Exchange, entrances: &[Entrance]) -> Option<String> {
    let options = match exchange.method {
        http::Method::GET => "-o /dev/null -D -",
        http::Method::HEAD => "-I",
        _ => return None,
    };
    Some(line(options, url, &[origin(exchange)], entrances))
}

fn origin(exchange: &Exchange) -> String {
    let origin = String::from_utf8_lossy(exchange.origin.as_bytes());
    format!("Origin: {origin}")
}

fn line(options: &str, url: &str, fields: &[String], entrances: &[Entrance]) -> String {
    let (to, url) = reach(url, entrances);
    // Brackets in an address or a query are literal, not globs.
    let literal = if url.contains(['[', ']', '{', '}']) {
        "-g "
    } else {
        ""
    };
    let fields: String = fields
        .iter()
        .map(|field| format!(" -H {}", quoted(field)))
        .collect();
    format!("curl -s {literal}{options}{to}{fields} {}", quoted(&url))
}

/// The options to reach the proxy, and the URL with that listener's scheme.
fn reach(url: &str, entrances: &[Entrance]) -> (String, String) {
    let is_https = url.starts_with("https:");
    let same = entrances.iter().find(|entrance| entrance.tls == is_https);
    let Some(entrance) = same.or_else(|| entrances.first()) else {
        return (String::new(), url.to_owned());
    };
    let mut options = match &entrance.address {
        EntranceAddress::Tcp(address) => {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                ip => ip,
            };
            // Applies to any host and port in the URL.
            let address = SocketAddr::new(ip, address.port());
            format!(" --connect-to {}", quoted(&format!("::{address}")))
        }
        EntranceAddress::Unix(path) => {
            format!(" --unix-socket {}", quoted(&path.display().to_string()))
        }
    };
    if entrance.proxy_protocol {
        options += " --haproxy-protocol";
    }
    // TLS is terminated in front of the proxy, or starts at it.
    let url = match (is_https, entrance.tls) {
        (true, false) => url.replacen("https:", "http:", 1),
        (false, true) => url.replacen("http:", "https:", 1),
        _ => url.to_owned(),
    };
    (options, url)
}

/// Quotes a word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_words_are_quoted() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("'; rm -rf $HOME #"), r"''\''; rm -rf $HOME #'");
    }

    #[test]
    fn a_command_goes_to_the_listener_that_speaks_the_urls_scheme() {
        let tcp = |address: &str, tls| Entrance {
            address: EntranceAddress::Tcp(address.parse().unwrap()),
            tls,
            proxy_protocol: false,
        };
        let unix = Entrance {
            address: EntranceAddress::Unix("/run/a b".into()),
            tls: false,
            proxy_protocol: true,
        };
        let both = [tcp("0.0.0.0:8080", false), tcp("[::]:8443", true)];
        for (url, entrances, options, expected) in [
            (
                "http://a.test/",
                &both[..],
                " --connect-to '::127.0.0.1:8080'",
                "http://a.test/",
            ),
            (
                "https://a.test/",
                &both[..],
                " --connect-to '::[::1]:8443'",
                "https://a.test/",
            ),
            (
                "https://a.test/",
                &both[..1],
                " --connect-to '::127.0.0.1:8080'",
                "http://a.test/",
            ),
            (
                "http://a.test/",
                &both[1..],
                " --connect-to '::[::1]:8443'",
                "https://a.test/",
            ),
            (
                "http://a.test/",
                &[unix][..],
                " --unix-socket '/run/a b' --haproxy-protocol",
                "http://a.test/",
            ),
            ("http://a.test/", &[][..], "", "http://a.test/"),
        ] {
            let reached = reach(url, entrances);
            assert_eq!(reached, (options.to_owned(), expected.to_owned()), "{url}");
        }
    }
}
