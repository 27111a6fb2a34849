//! Checks upstreams at startup: connects to each once, in the background, and logs each problem
//! with what to do.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::endpoint::{Address, Upstream};
use super::error::Error;
use super::stream::UpstreamStream;
use super::tls::{Pin, UpstreamTls};

/// How many upstreams are checked at a time.
const AT_ONCE: usize = 16;

/// How long an upstream may take to show that it speaks TLS although plain HTTP is configured.
const TLS_PATIENCE: Duration = Duration::from_secs(2);

/// Connects to each upstream once, and logs a warning for each that requests cannot reach. `own`
/// are the addresses that this process listens on.
pub async fn check_at_start(upstreams: Vec<Arc<Upstream>>, own: Vec<SocketAddr>) {
    let own: Arc<[SocketAddr]> = own.into();
    let mut upstreams = upstreams.into_iter();
    let mut checks = JoinSet::new();
    loop {
        while checks.len() < AT_ONCE
            && let Some(upstream) = upstreams.next()
        {
            let own = Arc::clone(&own);
            checks.spawn_local(async move {
                if let Some(problem) = problem(&upstream, &own).await {
                    tracing::warn!(upstream = upstream.url(), "upstream check: {problem}");
                }
            });
        }
        if checks.join_next().await.is_none() {
            return;
        }
    }
}

/// Why requests cannot reach an upstream, and what to do.
async fn problem(upstream: &Upstream, own: &[SocketAddr]) -> Option<String> {
    match UpstreamStream::connect(upstream).await {
        Ok(stream) => {
            if let Some((local, peer)) = stream.ends()
                && is_own(local, peer, own)
            {
                return Some(
                    "it is this proxy's own listener, so requests would loop: change \
                     `upstream` to the real server"
                        .into(),
                );
            }
            if upstream.settings.tls.is_none()
                && let Some((_, peer)) = stream.ends()
            {
                // The connection itself was not used.
                drop(stream);
                return speaks_tls(peer)
                    .await
                    .then(|| "it speaks TLS: write https://".to_owned());
            }
            None
        }
        // The source says what to do.
        Err(Error::Tls { source, .. }) => Some(source.to_string()),
        Err(Error::Dns { source, .. }) => Some(format!(
            "its name does not resolve ({source}): check the name, and that the server is running"
        )),
        Err(Error::Connect { source, .. }) => Some(match source.kind() {
            io::ErrorKind::ConnectionRefused => {
                "it refuses connections: start it, or correct its port".into()
            }
            io::ErrorKind::NotFound => {
                "its socket does not exist: start it, or correct its path".into()
            }
            io::ErrorKind::PermissionDenied => format!(
                "{source}: allow this process's user to write to the socket, or check the firewall"
            ),
            _ => format!("{source}: check its address and the network"),
        }),
        Err(Error::ConnectTimeout { .. }) if upstream.settings.tls.is_some() => Some(
            "it does not answer with TLS: check its address and the network; if it speaks \
             plain HTTP, write http://"
                .into(),
        ),
        Err(Error::ConnectTimeout { .. }) => {
            Some("it does not answer: check its address, the network, and `connect_seconds`".into())
        }
        // A lack of file descriptors says nothing about the upstream.
        Err(_) => None,
    }
}

/// Whether a connection led back to one of this process's listeners.
fn is_own(local: SocketAddr, peer: SocketAddr, own: &[SocketAddr]) -> bool {
    own.iter().any(|own| {
        own.port() == peer.port()
            && (own.ip() == peer.ip() || own.ip().is_unspecified() && local.ip() == peer.ip())
    })
}

/// Whether a server answers a TLS handshake. Nothing else is sent, because a request might be
/// counted, logged or acted on.
async fn speaks_tls(peer: SocketAddr) -> bool {
    // A pin that no key matches: the handshake ends as soon as the server has sent its certificate.
    let tls = UpstreamTls {
        pins: [Pin::NONE].into(),
        ..UpstreamTls::default()
    };
    let Ok(config) = tls.config(false) else {
        return false;
    };
    let handshake = async {
        let stream = TcpStream::connect(peer).await?;
        let name = ServerName::IpAddress(peer.ip().into());
        TlsConnector::from(config).connect(name, stream).await
    };
    match tokio::time::timeout(TLS_PATIENCE, handshake).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => matches!(
            error.get_ref().and_then(|error| error.downcast_ref()),
            Some(
                rustls::Error::InvalidCertificate(_)
                    | rustls::Error::AlertReceived(_)
                    | rustls::Error::PeerIncompatible(_)
            )
        ),
        Err(_) => false,
    }
}

/// Whether an upstream's address, as configured, is a listener's.
#[must_use]
pub fn is_listener(upstream: &Address, listener: SocketAddr) -> bool {
    let Address::Tcp { host, port } = upstream else {
        return false;
    };
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) if host.eq_ignore_ascii_case("localhost") => match listener.ip() {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        },
        Err(_) => return false,
    };
    // Port 0 is chosen by the system, so it is unknown here.
    *port == listener.port()
        && (ip == listener.ip()
            || ip.is_unspecified()
            || listener.ip().is_unspecified() && ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_that_is_a_listener_is_detected_by_its_address() {
        for (host, port, listener, expected) in [
            ("127.0.0.1", 8080, "127.0.0.1:8080", true),
            ("localhost", 8080, "127.0.0.1:8080", true),
            ("LocalHost", 8080, "[::1]:8080", true),
            ("127.0.0.1", 8080, "0.0.0.0:8080", true),
            ("::1", 8080, "[::]:8080", true),
            ("0.0.0.0", 8080, "127.0.0.1:8080", true),
            ("10.0.0.1", 8080, "10.0.0.1:8080", true),
            ("127.0.0.1", 8081, "127.0.0.1:8080", false),
            ("10.0.0.2", 8080, "0.0.0.0:8080", false),
            ("127.0.0.2", 8080, "127.0.0.1:8080", false),
            ("minio", 8080, "127.0.0.1:8080", false),
        ] {
            let address = Address::Tcp {
                host: host.to_owned(),
                port,
            };
            let found = is_listener(&address, listener.parse().unwrap());
            assert_eq!(found, expected, "{address} {listener}");
        }
    }

    #[test]
    fn a_connection_that_loops_back_is_detected() {
        let is_own = |local: &str, peer: &str, own: &str| {
            let [local, peer, own] = [local, peer, own].map(|one| one.parse().unwrap());
            is_own(local, peer, &[own])
        };
        assert!(is_own("127.0.0.1:5000", "127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(is_own("10.0.0.1:5000", "10.0.0.1:8080", "0.0.0.0:8080"));
        assert!(!is_own("10.0.0.1:5000", "10.0.0.2:8080", "0.0.0.0:8080"));
        assert!(!is_own("10.0.0.1:5000", "10.0.0.1:8081", "0.0.0.0:8080"));
    }
}
