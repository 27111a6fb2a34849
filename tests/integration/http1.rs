//! HTTP/1.1 on both sides: what passes unchanged.

use std::sync::Arc;

use s3cors::routing::snapshot::Forwarding;

use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const OK: &str = "HTTP/1.1 200 OK\r\nX-Case: 1\r\nETag: \"1\"\r\nContent-Length: 2\r\n\r\nok";

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
                      <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

/// The lines of a head, without the request's.
fn field_lines(head: &str) -> Vec<&str> {
    head.lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn names_and_order_of_fields_are_preserved_for_every_kind_of_request() {
    let upstream = MockUpstream::answering(OK);
    let mut route = TestRoute::new(upstream.address, POLICY);
    route.forwarding = Forwarding {
        via: true,
        x_forwarded: true,
        forwarded: false,
        x_real_ip: false,
    };
    let proxy = TestProxy::start(&[route]);
    for (extra, body) in [
        ("", ""),
        ("Connection: X-None, keep-alive\r\n", ""),
        ("Expect: 200-ok\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
        ("Content-Length: 2\r\n", "ok"),
        ("TE: trailers\r\nConnection: TE\r\n", ""),
        ("Upgrade: h2c\r\nConnection: Upgrade\r\n", ""),
    ] {
        let mut client = RawClient::connect(proxy.address);
        client.send(format!(
            "POST /k HTTP/1.1\r\nB-Second: 2\r\nHost: photos.example\r\nx-lower: a\r\n{extra}\
             A-Last: z\r\nORIGIN: https://app.example\r\n\r\n{body}"
        ));
        let response = client.receive("POST");
        assert_eq!(response.status, 200, "{extra}");
        let head = upstream.requests().pop().unwrap().head;
        let lines = field_lines(&head);
        let kept: Vec<_> = lines
            .iter()
            .filter(|line| {
                ["B-Sec", "Host:", "x-low", "A-Las", "ORIGI"]
                    .iter()
                    .any(|start| line.starts_with(start))
            })
            .collect();
        assert_eq!(
            kept,
            [
                &"B-Second: 2",
                &"Host: photos.example",
                &"x-lower: a",
                &"A-Last: z",
                &"ORIGIN: https://app.example"
            ],
            "{extra}"
        );
        assert!(lines.contains(&"x-forwarded-for: 127.0.0.1"), "{head}");
    }
    // All on one connection.
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn http_1_0_without_a_host_uses_only_the_catch_all_route() {
    let upstream = MockUpstream::answering(OK);
    let mut all = TestRoute::transparent(upstream.address);
    all.hosts = vec!["*"];
    let proxy = TestProxy::start(&[all]);
    for method in ["GET", "HEAD", "OPTIONS"] {
        let mut client = RawClient::connect(proxy.address);
        client.send(format!("{method} /k HTTP/1.0\r\n\r\n"));
        assert_eq!(client.receive(method).status, 200, "{method}");
    }
    let host = upstream.address.to_string();
    assert_eq!(upstream.requests()[0].values("host"), [&*host]);
    let mut client = RawClient::connect(proxy.address);
    client.send("GET /k HTTP/1.1\r\n\r\n");
    assert_eq!(client.receive("GET").status, 400);
    let mut client = RawClient::connect(proxy.address);
    client.send("GET /k HTTP/1.0\r\nHost:\r\n\r\n");
    assert_eq!(client.receive("GET").status, 400);

    let named = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let mut client = RawClient::connect(named.address);
    client.send("GET /k HTTP/1.0\r\n\r\n");
    assert_eq!(client.receive("GET").status, 400);
}

#[test]
fn an_upgrade_that_is_declined_keeps_the_connection() {
    let upstream = MockUpstream::answering(OK);
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    for (protocol, settings) in [
        ("h2c", "HTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
        ("websocket", ""),
        ("TLS/1.0, websocket", ""),
    ] {
        let mut client = RawClient::connect(proxy.address);
        for _ in 0..3 {
            client.send(format!(
                "GET /k HTTP/1.1\r\nHost: photos.example\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: {protocol}\r\n{settings}\r\n"
            ));
            let response = client.receive("GET");
            assert_eq!(response.status, 200, "{protocol}");
            assert!(response.values("connection").is_empty(), "{protocol}");
        }
    }
}

#[test]
fn hints_reach_the_client_before_the_response_and_none_reach_http_1_0() {
    let upstream = MockUpstream::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\
         Connection: x-hop\r\nX-Hop: 1\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    for (method, body) in [("GET", ""), ("PUT", "body")] {
        let mut client = RawClient::connect(proxy.address);
        let length = body.len();
        client.send(format!(
            "{method} /k HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://app.example\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ));
        let (status, fields) = client.head();
        assert_eq!(status, 103, "{method}");
        assert_eq!(fields["link"], "</a.css>; rel=preload");
        assert_eq!(fields.len(), 1, "{fields:?}");
        assert_eq!(client.head().0, 102, "{method}");
        let response = client.receive(method);
        assert_eq!((response.status, response.text()), (200, "ok".to_owned()));
    }
    let mut client = RawClient::connect(proxy.address);
    client.send("GET /k HTTP/1.0\r\nHost: photos.example\r\n\r\n");
    assert_eq!(client.head().0, 200);
}

#[test]
fn trailers_pass_if_they_are_announced_or_requested() {
    let upstream = MockUpstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         2\r\nok\r\n0\r\nX-Sum: 1\r\nHost: evil.example\r\n\r\n",
    );
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let ask = |fields: &str, trailer: &str| {
        let mut client = RawClient::connect(proxy.address);
        client.send(format!(
            "PUT /k HTTP/1.1\r\nHost: photos.example\r\nTransfer-Encoding: chunked\r\n{fields}\r\n\
             2\r\nok\r\n0\r\n{trailer}\r\n"
        ));
        let response = client.receive("PUT");
        assert_eq!(response.text(), "ok");
        let sent = upstream.requests().pop().unwrap().body;
        (String::from_utf8(sent).unwrap(), response.trailers)
    };
    let (sent, trailers) = ask("", "X-A: 1\r\n");
    assert_eq!(sent, "2\r\nok\r\n0\r\n\r\n");
    assert!(trailers.is_empty());
    let (sent, trailers) = ask("Trailer: X-A\r\nTE: trailers\r\n", "X-A: 1\r\n");
    assert_eq!(sent, "2\r\nok\r\n0\r\nX-A: 1\r\n\r\n");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    assert_eq!(trailers["x-sum"], "1");
}

#[test]
fn a_body_without_a_known_length_ends_with_the_connection_for_http_1_0() {
    for framing in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde",
    ] {
        let upstream = MockUpstream::scripted(true, move |exchange| {
            exchange.send(framing);
            !framing.contains("close")
        });
        let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
        let mut client = RawClient::connect(proxy.address);
        client.send("GET /k HTTP/1.0\r\nHost: photos.example\r\nConnection: keep-alive\r\n\r\n");
        let response = client.receive("GET");
        assert_eq!(response.text(), "abcde");
        assert_eq!(response.values("connection"), ["close"]);
        assert!(response.values("transfer-encoding").is_empty());
    }
    let upstream = MockUpstream::answering(OK);
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let mut client = RawClient::connect(proxy.address);
    for _ in 0..2 {
        client.send("GET /k HTTP/1.0\r\nHost: photos.example\r\nConnection: keep-alive\r\n\r\n");
        let response = client.receive("GET");
        assert_eq!(response.values("connection"), ["keep-alive"]);
    }
}

#[test]
fn a_chunked_body_of_any_size_arrives_in_any_pieces() {
    let body: Vec<u8> = (0..300_000_u32).map(|at| (at / 3) as u8).collect();
    let expected = body.clone();
    let upstream = MockUpstream::scripted(false, move |exchange| {
        let mut got = Vec::new();
        loop {
            let mut line = String::new();
            std::io::BufRead::read_line(exchange.stream, &mut line).unwrap();
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            got.extend(exchange.read(size));
            exchange.read(2);
            if size == 0 {
                break;
            }
        }
        exchange.send(match got == expected {
            true => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            false => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        });
        true
    });
    let upstream = Arc::new(upstream);
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let mut client = RawClient::connect(proxy.address);
    for piece in [1_000, 7, 65_536, 300_000] {
        let mut bytes =
            b"PUT /k HTTP/1.1\r\nHost: photos.example\r\nTransfer-Encoding: chunked\r\n\
                          Content-Type: a/b\r\n\r\n"
                .to_vec();
        for chunk in body.chunks(piece) {
            bytes.extend_from_slice(format!("{:X};a=b\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        // The next request directly follows the body.
        bytes.extend_from_slice(
            b"PUT /n HTTP/1.1\r\nHost: photos.example\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for part in bytes.chunks(4_099) {
            client.send(part);
        }
        assert_eq!(client.receive("PUT").status, 200, "{piece}");
        client.send("0\r\n\r\n");
        assert_eq!(client.receive("PUT").status, 500, "{piece}");
    }
}

#[test]
fn a_tunnel_passes_early_bytes_and_ends_with_both_ends() {
    let upstream = MockUpstream::scripted(false, |exchange| {
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello",
        );
        let early = exchange.read(5);
        exchange.send(early);
        loop {
            let byte = exchange.read(1);
            exchange.send(&byte);
            if byte == b"." {
                return false;
            }
        }
    });
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    let mut client = RawClient::connect(proxy.address);
    client.send(
        "GET /k HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://app.example\r\n\
         Connection: Upgrade\r\nUpgrade: echo\r\n\r\nearly",
    );
    let (status, fields) = client.head();
    assert_eq!(status, 101);
    assert_eq!(
        (&fields["connection"], &fields["upgrade"]),
        (&"Upgrade".parse().unwrap(), &"echo".parse().unwrap())
    );
    // Scripts cannot read a response that switches protocols.
    assert!(!fields.contains_key("access-control-allow-origin"));
    assert_eq!(client.bytes(10), b"helloearly");
    for letter in [b"a", b"b", b"."] {
        client.send(letter);
        assert_eq!(client.bytes(1), letter);
    }
    assert!(client.is_closed());
}
