//! Requests from HTTP/1.1 clients to HTTP/2 upstreams: framing on the client's connection,
//! `Expect`, and the bytes after a request.

use std::net::SocketAddr;

use crate::http2::{http2_upstream, on_one_thread};
use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute};

const LINE: &str = "PUT HTTP/2.0 http://photos.example/k";

/// A proxy with an upstream that responds with the request's line and its body.
fn proxy() -> TestProxy {
    let (address, served) = std::sync::mpsc::channel::<SocketAddr>();
    std::thread::spawn(move || {
        on_one_thread(async {
            address.send(http2_upstream().await).unwrap();
            std::future::pending().await
        });
    });
    let mut route = TestRoute::transparent(served.recv().unwrap());
    route.http2 = true;
    TestProxy::start(&[route])
}

#[test]
fn http_1_0_without_a_host_uses_the_catch_all_route() {
    let (address, served) = std::sync::mpsc::channel::<SocketAddr>();
    std::thread::spawn(move || {
        on_one_thread(async {
            address.send(http2_upstream().await).unwrap();
            std::future::pending().await
        });
    });
    let upstream = served.recv().unwrap();
    let mut route = TestRoute::transparent(upstream);
    route.http2 = true;
    route.hosts = vec!["*"];
    let proxy = TestProxy::start(&[route]);
    let mut client = RawClient::connect(proxy.address);
    client.send("GET /k HTTP/1.0\r\n\r\n");
    let response = client.receive("GET");
    assert_eq!(response.status, 200);
    assert_eq!(response.text(), format!("GET HTTP/2.0 http://{upstream}/k"));
    let mut client = RawClient::connect(proxy.address);
    client.send("GET /k HTTP/1.1\r\n\r\n");
    assert_eq!(client.receive("GET").status, 400);
}

#[test]
fn bodies_are_read_to_their_end_and_not_beyond() {
    let proxy = proxy();
    let bodies = [
        ("Content-Length: 0", "", ""),
        ("Content-Length: 3", "abc", "abc"),
        ("Transfer-Encoding: chunked", "0\r\n\r\n", ""),
        (
            "Transfer-Encoding: chunked",
            "3\r\nabc\r\n4;x=1\r\ndefg\r\n0\r\n\r\n",
            "abcdefg",
        ),
        (
            "Trailer: X-Sum\r\nTransfer-Encoding: chunked",
            "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
            "a",
        ),
    ];
    // All at once, and byte by byte.
    for size in [usize::MAX, 1] {
        let mut client = RawClient::connect(proxy.address);
        let requests = bodies.map(|(framing, sent, _)| {
            format!("PUT /k HTTP/1.1\r\nHost: photos.example\r\n{framing}\r\n\r\n{sent}")
        });
        for piece in requests.concat().as_bytes().chunks(size) {
            client.send(piece);
        }
        for (framing, sent, body) in bodies {
            let response = client.receive("PUT");
            assert_eq!(response.status, 200, "{framing} {sent:?}");
            assert_eq!(
                response.text(),
                format!("{LINE}{body}"),
                "{framing} {sent:?}"
            );
            // Trailers that the response's head does not announce are dropped.
            assert!(response.trailers.is_empty());
        }
    }
}

#[test]
fn a_large_body_passes_whole() {
    let proxy = proxy();
    let body: String = (0..300_000)
        .map(|at| char::from(b'a' + (at % 23) as u8))
        .collect();
    let chunk = |part: &[u8]| format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part));
    let chunks: String = body.as_bytes().chunks(777).map(chunk).collect();
    let length = body.len();
    for (framing, sent) in [
        (format!("Content-Length: {length}"), body.clone()),
        (
            "Transfer-Encoding: chunked".to_owned(),
            chunks + "0\r\n\r\n",
        ),
    ] {
        let mut client = RawClient::connect(proxy.address);
        let mut upload = client.stream().try_clone().unwrap();
        let head = format!("PUT /k HTTP/1.1\r\nHost: photos.example\r\n{framing}\r\n\r\n");
        let response = std::thread::scope(|scope| {
            scope.spawn(move || {
                use std::io::Write as _;
                upload.write_all(head.as_bytes()).unwrap();
                upload.write_all(sent.as_bytes()).unwrap();
            });
            client.receive("PUT")
        });
        assert_eq!(response.text(), format!("{LINE}{body}"));
    }
}

#[test]
fn a_client_is_told_to_continue_when_its_body_is_read() {
    let proxy = proxy();
    let mut client = RawClient::connect(proxy.address);
    client.send(
        "PUT /k HTTP/1.1\r\nHost: photos.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    assert_eq!(client.head().0, 100);
    let response = client.send("abc").receive("PUT");
    assert_eq!(response.text(), format!("{LINE}abc"));
    // An upstream that responds without reading the body does not request it.
    client.send(
        "PUT /k HTTP/1.1\r\nHost: nobody.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    assert_eq!(client.receive("PUT").status, 421);
    assert!(client.is_closed());
}

#[test]
fn an_invalid_body_is_refused_and_the_connection_ends() {
    let proxy = proxy();
    for sent in [
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "0\r\nHost: evil.example\r\n\r\n",
    ] {
        let mut client = RawClient::connect(proxy.address);
        client.send(format!(
            "PUT /k HTTP/1.1\r\nHost: photos.example\r\nTransfer-Encoding: chunked\r\n\r\n{sent}"
        ));
        assert_eq!(client.receive("PUT").status, 400, "{sent:?}");
        assert!(client.is_closed(), "{sent:?}");
    }
    let mut client = RawClient::connect(proxy.address);
    client.send("PUT /k HTTP/1.1\r\nHost: photos.example\r\nContent-Length: 4\r\n\r\nabc");
    let end = std::net::Shutdown::Write;
    client.stream().shutdown(end).unwrap();
    assert_eq!(client.receive("PUT").status, 400);
}

#[test]
fn a_connection_ends_when_its_client_asks_for_it() {
    let proxy = proxy();
    let cases = [
        ("HTTP/1.1\r\nConnection: close", "HTTP/1.1", true),
        ("HTTP/1.1\r\nConnection: x-a, Close", "HTTP/1.1", true),
        ("HTTP/1.1", "HTTP/1.1", false),
        ("HTTP/1.0", "HTTP/1.1", true),
    ];
    for (asked, answered, closes) in cases {
        let mut client = RawClient::connect(proxy.address);
        client.send(format!("HEAD /k {asked}\r\nHost: photos.example\r\n\r\n"));
        let mut line = vec![0; answered.len()];
        std::io::Read::read_exact(client.stream(), &mut line).unwrap();
        assert_eq!(String::from_utf8(line).unwrap(), answered, "{asked}");
        let (status, fields) = client.head();
        assert_eq!(status, 200, "{asked}");
        let says_close = fields
            .get("connection")
            .is_some_and(|value| value == "close");
        assert_eq!(says_close, closes, "{asked}: {fields:?}");
        if closes {
            assert!(client.is_closed(), "{asked}");
        } else {
            client.send("GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n");
            assert_eq!(client.receive("GET").status, 200);
        }
    }
}
