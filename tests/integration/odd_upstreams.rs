//! Unusual HTTP/1.1 upstreams and clients, as found in practice.

use std::collections::HashSet;
use std::io::Read;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use s3cors::server::Limits;
use s3cors::upstream::health::HealthSettings;

use crate::support::client::{RawClient, ask};
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A server that authenticates connections: requests belong to the user who logged in on their
/// connection.
fn ntlm_upstream(scheme: &'static str) -> MockUpstream {
    let names: Arc<Mutex<Vec<(u16, String)>>> = Arc::default();
    MockUpstream::scripted(true, move |exchange| {
        let peer = exchange.stream.get_ref().peer_addr().unwrap().port();
        let mut names = names.lock().unwrap();
        let credentials = exchange.request.values("authorization");
        if let Some(name) = credentials
            .first()
            .and_then(|value| value.split(' ').nth(1))
        {
            names.push((peer, name.to_owned()));
        }
        let name = names.iter().rev().find(|(port, _)| *port == peer);
        let response = match name {
            Some((_, name)) => format!(
                "HTTP/1.1 200 OK\r\nX-Name: {name}\r\nContent-Length: {}\r\n\r\n{name}",
                name.len()
            ),
            None => format!(
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {scheme}\r\nContent-Length: 0\r\n\r\n"
            ),
        };
        exchange.send(response);
        true
    })
}

#[test]
fn an_authenticated_connection_is_for_one_client() {
    for scheme in [
        "NTLM",
        "Negotiate",
        "negotiate, Basic realm=\"a\"",
        "Basic realm=\"a\", NTLM",
    ] {
        let upstream = ntlm_upstream(scheme);
        let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
        let kind = scheme
            .split(", ")
            .find(|one| !one.starts_with("Basic"))
            .unwrap();
        let mut clients: Vec<_> = (0..4).map(|_| RawClient::connect(proxy.address)).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            client.send("GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n");
            assert_eq!(client.receive("GET").status, 401, "{scheme}");
            client.send(format!(
                "GET /k HTTP/1.1\r\nHost: photos.example\r\nAuthorization: {kind} name{index}\r\n\r\n"
            ));
            assert_eq!(client.receive("GET").text(), format!("name{index}"));
        }
        for round in 0..50 {
            for (index, client) in clients.iter_mut().enumerate() {
                let method = if round % 3 == 0 { "PUT" } else { "GET" };
                client.send(format!(
                    "{method} /k HTTP/1.1\r\nHost: photos.example\r\nContent-Length: 0\r\n\r\n"
                ));
                let response = client.receive(method);
                assert_eq!(response.text(), format!("name{index}"), "{scheme}");
            }
            // Another client is not authenticated.
            let mut stranger = RawClient::connect(proxy.address);
            stranger.send("GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n");
            assert_eq!(stranger.receive("GET").status, 401, "{scheme}");
        }
    }
}

#[test]
fn a_space_before_a_responses_colon_is_removed() {
    for (line, fixed) in [
        ("Server : x", "Server: x"),
        ("X-Tab\t: y", "X-Tab: y"),
        ("X-Both \t :  z ", "X-Both: z"),
    ] {
        let upstream = MockUpstream::answering(format!(
            "HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 2\r\n\r\nok"
        ));
        let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
        let mut client = RawClient::connect(proxy.address);
        client.send("GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n");
        let head = client.bytes(b"HTTP/1.1 200 OK\r\n".len() + fixed.len() + 2);
        let head = String::from_utf8(head).unwrap();
        assert_eq!(head, format!("HTTP/1.1 200 OK\r\n{fixed}\r\n"));
    }
    // It still frames the body.
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok");
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    for _ in 0..2 {
        let response = ask(proxy.address, "GET", "/k", &[]);
        assert_eq!((response.status, response.text()), (200, "ok".to_owned()));
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn malformed_responses_do_not_eject_an_upstream() {
    for bad in [
        "HTTP/1.1 200 OK\r\nX-Bad\u{1}: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        "garbage\r\n\r\n",
    ] {
        let upstream = MockUpstream::scripted(true, move |exchange| {
            let is_bad = exchange.request.target() == "/bad";
            exchange.send(if is_bad { bad } else { EMPTY });
            !is_bad
        });
        let mut route = TestRoute::transparent(upstream.address);
        route.upstreams = vec![upstream.address];
        route.health = HealthSettings::default();
        let proxy = TestProxy::start(&[route]);
        for _ in 0..20 {
            assert_eq!(ask(proxy.address, "GET", "/bad", &[]).status, 502, "{bad}");
        }
        assert_eq!(ask(proxy.address, "GET", "/k", &[]).status, 200, "{bad}");
    }
}

#[test]
fn a_client_that_leaves_a_silent_stream_is_noticed() {
    let (left, noticed) = mpsc::channel();
    let left = Mutex::new(left);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        exchange.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\na\n\n\r\n",
        );
        // Silent until the proxy leaves.
        let gone = matches!(exchange.stream.read(&mut [0]), Ok(0) | Err(_));
        left.lock().unwrap().send(gone).unwrap();
        false
    });
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let mut client = RawClient::connect(proxy.address);
    client.send("GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n");
    assert_eq!(client.head().0, 200);
    client.bytes(8);
    drop(client);
    // Long before the limit for silent bodies, a minute.
    assert_eq!(noticed.recv_timeout(Duration::from_secs(20)), Ok(true));
    let failures = proxy.metrics.encode();
    let failed = failures
        .lines()
        .filter(|line| line.starts_with("s3cors_upstream_errors_total"))
        .any(|line| !line.ends_with(" 0"));
    assert!(!failed, "{failures}");
}

#[test]
fn a_426_names_the_required_protocol() {
    let upstream = MockUpstream::answering(
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Content-Length: 0\r\n\r\n",
    );
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let response = ask(proxy.address, "GET", "/k", &[]);
    assert_eq!(response.values("upgrade"), ["websocket"]);
    assert_eq!(response.values("connection"), ["upgrade"]);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_read_like_any_other() {
    let upstream = MockUpstream::answering(EMPTY);
    let limits = Limits {
        request_head_bytes: 4_096,
        ..Limits::default()
    };
    let proxy = TestProxy::with_limits(&[TestRoute::transparent(upstream.address)], limits);
    let mut heads = HashSet::new();
    for length in [0, 1, 5, 100, 3_000] {
        let mut client = RawClient::connect(proxy.address);
        let head = format!(
            "GET /k HTTP/1.1\r\nHost: photos.example\r\nX-Long: {}\r\n\r\n",
            "a".repeat(length)
        );
        for byte in head.bytes() {
            client.send([byte]);
        }
        assert_eq!(client.receive("GET").status, 200, "{length}");
        // And another one in two pieces, cut anywhere.
        let (first, second) = head.split_at(head.len() - 3);
        client.send(first).send(second);
        assert_eq!(client.receive("GET").status, 200, "{length}");
        heads.insert(upstream.requests().pop().unwrap().head);
    }
    assert_eq!(heads.len(), 5);
    let mut client = RawClient::connect(proxy.address);
    client.send("GET /k HTTP/1.1\r\nX-Long: ");
    for _ in 0..5 {
        client.send([b'a'; 1_000]);
    }
    assert_eq!(client.receive("GET").status, 431);
}

#[test]
fn a_switch_before_the_requests_end_is_refused() {
    for (framing, body) in [
        ("Transfer-Encoding: chunked\r\n", "5\r\nab"),
        ("Content-Length: 10\r\n", "ab"),
        ("Content-Length: 10\r\nExpect: 100-continue\r\n", ""),
    ] {
        let upstream = MockUpstream::scripted(false, |exchange| {
            exchange.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
            );
            true
        });
        let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
        let mut client = RawClient::connect(proxy.address);
        client.send(format!(
            "PUT /k HTTP/1.1\r\nHost: photos.example\r\nConnection: upgrade\r\nUpgrade: x\r\n\
             {framing}\r\n{body}"
        ));
        let response = client.receive("PUT");
        assert_eq!(response.status, 502, "{framing}");
        assert_eq!(response.values("connection"), ["close"], "{framing}");
    }
}

#[test]
fn a_cut_body_that_ends_with_the_connection_is_reset() {
    for cut in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n",
    ] {
        let upstream = MockUpstream::scripted(true, move |exchange| {
            exchange.send(cut);
            false
        });
        let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
        let mut client = RawClient::connect(proxy.address);
        client.send("GET /k HTTP/1.0\r\nHost: photos.example\r\n\r\n");
        assert!(!client.receive("GET").whole, "{cut}");
    }
}

#[test]
fn a_client_that_leaves_a_silent_large_body_is_noticed() {
    let (left, noticed) = mpsc::channel();
    let left = Mutex::new(left);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\nabc");
        let gone = matches!(exchange.stream.read(&mut [0]), Ok(0) | Err(_));
        left.lock().unwrap().send(gone).unwrap();
        false
    });
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let mut client = RawClient::connect(proxy.address);
    client.send("GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n");
    assert_eq!(client.head().0, 200);
    assert_eq!(client.bytes(3), b"abc");
    drop(client);
    assert_eq!(noticed.recv_timeout(Duration::from_secs(20)), Ok(true));
}

#[test]
fn the_last_bytes_of_an_upstream_in_a_tunnel_arrive() {
    for _ in 0..20 {
        let upstream = MockUpstream::scripted(false, |exchange| {
            exchange.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
            );
            exchange.read(10);
            exchange.send([b'B'; 200]);
            exchange.send("BYE");
            // It stops reading, but only after sending more.
            let socket = exchange.stream.get_ref();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            false
        });
        let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
        let mut client = RawClient::connect(proxy.address);
        client.send(
            "GET /k HTTP/1.1\r\nHost: photos.example\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        );
        assert_eq!(client.head().0, 101);
        client.send([b'a'; 10]);
        let last = client.bytes(203);
        assert!(last.ends_with(b"BYE"));
    }
}
