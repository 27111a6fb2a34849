//! The PROXY protocol before HTTP, and before TLS.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::version::TLS13;
use s3cors::routing::snapshot::Forwarding;
use s3cors::server::tls::{Tls, TlsCell};
use s3cors::server::{Limits, ListenerSettings};

use crate::support::certificates::{Authority, handshake_over};
use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute, listener};
use crate::support::upstream::MockUpstream;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";
const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";

fn proxy(tls: Option<TlsCell>, upstream: &MockUpstream) -> TestProxy {
    trusting(&["127.0.0.1"], tls, upstream)
}

fn trusting(proxies: &[&str], tls: Option<TlsCell>, upstream: &MockUpstream) -> TestProxy {
    let listener = ListenerSettings {
        tls,
        proxy_protocol: true,
        ..listener()
    };
    let mut route = TestRoute::transparent(upstream.address);
    route.forwarding = Forwarding {
        x_forwarded: true,
        ..Forwarding::default()
    };
    let limits = Limits {
        handshake: Duration::from_millis(200),
        ..Limits::default()
    };
    TestProxy::trusting(proxies, listener, &[route], limits, None)
}

#[test]
fn the_header_names_the_client() {
    let upstream = MockUpstream::answering(OK);
    let proxy = proxy(None, &upstream);
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24".to_vec();
    second.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    second.extend([0; 20]);
    for (header, expected) in [
        (LINE.to_vec(), "192.0.2.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (
            b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n".to_vec(),
            "192.0.2.7",
        ),
        (second, "2001:db8::1"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec(),
            "127.0.0.1",
        ),
    ] {
        let mut client = RawClient::connect(proxy.address);
        // With the request in the same piece, and again without another header.
        client.send([&header[..], GET.as_bytes()].concat());
        assert_eq!(client.receive("GET").status, 200);
        assert_eq!(client.send(GET).receive("GET").status, 200);
        for request in upstream.requests().iter().rev().take(2) {
            assert_eq!(request.values("x-forwarded-for"), [expected]);
        }
        // Byte by byte.
        let mut client = RawClient::connect(proxy.address);
        for byte in &header {
            client.send([*byte]);
        }
        assert_eq!(client.send(GET).receive("GET").status, 200);
    }
}

#[test]
fn without_a_header_nothing_is_served() {
    let upstream = MockUpstream::answering(OK);
    let proxy = proxy(None, &upstream);
    for start in [
        GET.as_bytes().to_vec(),
        [b"PROXY TCP4 evil 198.51.100.1 1 2\r\n", GET.as_bytes()].concat(),
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", GET.as_bytes()].concat(),
        // Two headers: the second is not a request.
        [LINE, LINE, GET.as_bytes()].concat(),
        // Too slow: the time limit passes.
        LINE[..20].to_vec(),
        Vec::new(),
    ] {
        let mut client = RawClient::connect(proxy.address);
        client.send(&start);
        client.assert_ends(400);
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn only_a_listed_proxy_may_send_a_header() {
    let upstream = MockUpstream::answering(OK);
    let proxy = trusting(&["127.0.0.2", "192.0.2.0/24", "unix"], None, &upstream);
    // An unlisted peer is not served, whether it names a client or itself.
    for start in [[LINE, GET.as_bytes()].concat(), GET.as_bytes().to_vec()] {
        let mut client = RawClient::connect(proxy.address);
        // It may already be closed.
        let _ = client.stream().write_all(&start);
        client.assert_ends(400);
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_named_client_is_trusted_only_if_it_is_a_listed_proxy_itself() {
    let upstream = MockUpstream::answering(OK);
    let proxy = trusting(&["127.0.0.1", "192.0.2.0/24"], None, &upstream);
    let get = GET.replace("\r\n\r\n", "\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n");
    for (header, expected) in [
        (LINE, "203.0.113.9, 192.0.2.1"),
        (
            b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2\r\n",
            "203.0.113.7",
        ),
        // It forwards a client but does not name it.
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        let mut client = RawClient::connect(proxy.address);
        client.send([header, get.as_bytes()].concat());
        assert_eq!(client.receive("GET").status, 200);
        let request = upstream.requests().pop().unwrap();
        assert_eq!(request.values("x-forwarded-for"), [expected]);
    }
}

#[test]
fn the_header_precedes_the_tls_handshake() {
    let authority = Authority::new();
    let pair = authority.sign(&["photos.example"]);
    let cell = TlsCell::new(Tls {
        certificates: vec![pair.read("site.crt")],
        clients: None,
    });
    let upstream = MockUpstream::answering(OK);
    let proxy = proxy(Some(cell.unwrap()), &upstream);
    let config = Arc::new(authority.client(&[&TLS13], None));
    let mut tcp = TcpStream::connect(proxy.address).unwrap();
    tcp.write_all(LINE).unwrap();
    let mut client = handshake_over(tcp, "photos.example", &config).unwrap();
    assert_eq!(client.send(GET).receive("GET").status, 200);
    let request = upstream.request();
    assert_eq!(request.values("x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(request.values("x-forwarded-proto"), ["https"]);
    let bare = TcpStream::connect(proxy.address).unwrap();
    assert!(handshake_over(bare, "photos.example", &config).is_err());
}
