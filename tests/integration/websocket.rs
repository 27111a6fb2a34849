//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT is an upgrade to an HTTP/1.1 upstream, and an
//! extended CONNECT to one that speaks HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3cors::upstream::local_executor::LocalExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::http2::{connect, on_one_thread, request};
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::{Exchange, MockUpstream};

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

/// An upstream's response to a key (RFC 6455 §4.2.2).
fn accept(exchange: &Exchange<'_>) -> String {
    let keys = exchange.request.values("sec-websocket-key");
    assert_eq!(STANDARD.decode(keys[0]).unwrap().len(), 16);
    let text = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", keys[0]);
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// Switches protocols, sends `first`, and then echoes.
pub(crate) fn echo(exchange: &mut Exchange<'_>, first: &str) -> bool {
    let accept = accept(exchange);
    exchange.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n{first}"
    ));
    let mut piece = [0; 64 * 1024];
    loop {
        match std::io::Read::read(exchange.stream, &mut piece) {
            Ok(0) | Err(_) => return false,
            Ok(length) => exchange.send(&piece[..length]),
        }
    }
}

/// A client that has received the proxy's settings.
pub(crate) async fn client_of(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let mut client = connect(address).await;
    let options = request("OPTIONS", "http://photos.example/k")
        .header("access-control-request-method", "GET")
        .body(Full::default());
    client.send_request(options.unwrap()).await.unwrap();
    client
}

async fn ask_for(
    client: &mut SendRequest<Full<Bytes>>,
    protocol: &'static str,
) -> Response<Incoming> {
    let request = Request::connect("http://photos.example/socket?room=1")
        .header("origin", "https://app.example")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .extension(Protocol::from_static(protocol));
    let asked = client.send_request(request.body(Full::default()).unwrap());
    asked.await.unwrap()
}

#[test]
fn an_extended_connect_is_a_tunnel_to_an_http1_upstream() {
    let upstream = MockUpstream::scripted(false, |exchange| echo(exchange, "hello"));
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = client_of(proxy.address).await;
        let response = ask_for(&mut client, "websocket").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        for name in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!response.headers().contains_key(name), "{name}");
        }
        let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let mut bytes = [0; 5];
        tunnel.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello");
        // Other streams continue meanwhile.
        let get = request("OPTIONS", "http://photos.example/k")
            .header("access-control-request-method", "GET");
        let answer = client.send_request(get.body(Full::default()).unwrap());
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
        for length in [1, 1024, 300_000] {
            let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut received = vec![0; length];
            let (mut reader, mut writer) = tokio::io::split(&mut tunnel);
            let (written, read) =
                tokio::join!(writer.write_all(&sent), reader.read_exact(&mut received));
            written.unwrap();
            read.unwrap();
            assert_eq!(received, sent);
        }
        tunnel.shutdown().await.unwrap();
        assert_eq!(tunnel.read(&mut bytes).await.unwrap(), 0);
    });
    let request = upstream.request();
    assert_eq!(request.line(), "GET /socket?room=1 HTTP/1.1");
    for (name, value) in [
        ("host", "photos.example"),
        ("origin", "https://app.example"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
    ] {
        assert_eq!(request.values(name), [value], "{name}");
    }
}

#[test]
fn what_is_not_a_websocket_handshake_is_not_a_tunnel() {
    type Answer = fn(&Exchange<'_>) -> String;
    let cases: [(&str, Answer, u16, &str); 5] = [
        (
            "a refusal",
            |_| "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".into(),
            403,
            "no",
        ),
        (
            "a success that is not 101",
            |_| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into(),
            502,
            "",
        ),
        (
            "101 to another key",
            |_| {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                    .into()
            },
            502,
            "",
        ),
        (
            "101 without a key",
            |_| {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                    .into()
            },
            502,
            "",
        ),
        (
            "101 to another protocol",
            |exchange| {
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\
                     Sec-WebSocket-Accept: {}\r\n\r\n",
                    accept(exchange)
                )
            },
            502,
            "",
        ),
    ];
    for (what, answer, status, body) in cases {
        let upstream = MockUpstream::scripted(false, move |exchange| {
            let answer = answer(exchange);
            exchange.send(answer);
            true
        });
        let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
        on_one_thread(async {
            let mut client = client_of(proxy.address).await;
            let response = ask_for(&mut client, "websocket").await;
            assert_eq!(response.status(), status, "{what}");
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert!(status == 502 || text == body, "{what}: {text:?}");
        });
    }
}

#[test]
fn other_protocols_and_a_plain_connect_are_refused() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = client_of(proxy.address).await;
        let response = ask_for(&mut client, "connect-udp").await;
        assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
        let plain = Request::connect("photos.example:443").body(Full::default());
        let response = client.send_request(plain.unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    });
    assert!(upstream.requests().is_empty());
}

/// An HTTP/2 upstream that echoes a tunnel's bytes, if it supports tunnels.
async fn http2_upstream(offers: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|mut request: Request<Incoming>| async move {
                let protocol = request.extensions().get::<Protocol>();
                let is_known = protocol.is_some_and(|protocol| protocol.as_str() == "websocket");
                let has_key = request.headers().contains_key("sec-websocket-key");
                let uri = request.uri().to_string();
                if !is_known || has_key || uri != "http://photos.example/socket?room=1" {
                    let refused = Response::builder().status(403).body(Full::default());
                    return Ok::<_, Infallible>(refused.unwrap());
                }
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::task::spawn_local(async move {
                    let stream = TokioIo::new(upgraded.await.unwrap());
                    let (mut reader, mut writer) = tokio::io::split(stream);
                    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                    writer.shutdown().await.unwrap();
                });
                let response = Response::builder().header("sec-websocket-protocol", "chat");
                Ok(response.body(Full::<Bytes>::default()).unwrap())
            });
            let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
            if offers {
                builder.enable_connect_protocol();
            }
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(connection);
        }
    });
    address
}

#[test]
fn an_extended_connect_stays_one_to_an_http2_upstream_that_supports_it() {
    on_one_thread(async {
        let mut route = TestRoute::new(http2_upstream(true).await, POLICY);
        route.http2 = true;
        let proxy = TestProxy::start(&[route]);
        let mut client = client_of(proxy.address).await;
        for _ in 0..2 {
            let response = ask_for(&mut client, "websocket").await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
            let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
            let mut bytes = [0; 4];
            tunnel.write_all(b"ping").await.unwrap();
            tunnel.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"ping");
            tunnel.shutdown().await.unwrap();
            assert_eq!(tunnel.read(&mut bytes).await.unwrap(), 0);
        }
    });
}

#[test]
fn an_http2_upstream_without_tunnel_support_gets_no_tunnel() {
    on_one_thread(async {
        let mut route = TestRoute::new(http2_upstream(false).await, POLICY);
        route.http2 = true;
        let proxy = TestProxy::start(&[route]);
        let mut client = client_of(proxy.address).await;
        let response = ask_for(&mut client, "websocket").await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    });
}
