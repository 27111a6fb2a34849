//! The metrics of bytes, requests in flight, connections, queues, retries and handshakes: what a
//! known number of each makes of them.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use rustls::version::{TLS12, TLS13};
use s3cors::metrics::Metrics;
use s3cors::server::tls::{Tls, TlsCell};
use s3cors::server::{DrainSettings, Limits, ListenerSettings};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http2::{connect, on_one_thread};
use crate::support::certificates::{Authority, ask_first, handshake};
use crate::support::client::RawClient;
use crate::support::http2::{DATA, END_STREAM, frame, head, reset, response, scripted};
use crate::support::proxy::{TestProxy, TestRoute, listener};
use crate::support::upstream::{MockUpstream, refusing};

const ROUTE: &str = "route=\"photos.example\"";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";
const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

/// What no event here takes longer than.
const PATIENCE: Duration = Duration::from_secs(20);

/// REFUSED_STREAM ([RFC 9113 §7]).
///
/// [RFC 9113 §7]: https://www.rfc-editor.org/rfc/rfc9113#section-7
const REFUSED_STREAM: u32 = 7;

/// The value of a series; `None`: it is not exported.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.encode();
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map(|value| value.parse().unwrap())
}

/// The first series that has another value.
fn wrong<'e>(
    metrics: &Metrics,
    expected: &'e [(String, f64)],
) -> Option<(&'e str, Option<f64>, f64)> {
    expected.iter().find_map(|(series, expected)| {
        let value = value(metrics, series);
        (value != Some(*expected)).then_some((&**series, value, *expected))
    })
}

/// Waits until the series have these values: a client has its response a moment before the proxy is
/// done with it.
fn until(metrics: &Metrics, expected: &[(String, f64)]) {
    let start = Instant::now();
    while let Some(wrong) = wrong(metrics, expected) {
        assert!(start.elapsed() < PATIENCE, "{wrong:?}");
        thread::yield_now();
    }
}

/// The same, while this thread's tasks go on.
async fn until_meanwhile(metrics: &Metrics, expected: &[(String, f64)]) {
    let start = Instant::now();
    while let Some(wrong) = wrong(metrics, expected) {
        assert!(start.elapsed() < PATIENCE, "{wrong:?}");
        tokio::task::yield_now().await;
    }
}

fn route(name: &str, value: f64) -> (String, f64) {
    (format!("{name}{{{ROUTE}}}"), value)
}

/// Bytes from the client, to the client, to the upstream, from the upstream.
fn bytes(counts: [usize; 4]) -> Vec<(String, f64)> {
    let names = [
        "s3cors_client_received_bytes_total",
        "s3cors_client_sent_bytes_total",
        "s3cors_upstream_sent_bytes_total",
        "s3cors_upstream_received_bytes_total",
    ];
    let counts = names.into_iter().zip(counts);
    counts
        .map(|(name, count)| route(name, count as f64))
        .collect()
}

fn in_flight(count: usize) -> (String, f64) {
    route("s3cors_requests_in_flight", count as f64)
}

fn retries(reason: &str, count: usize) -> (String, f64) {
    let series = format!("s3cors_upstream_retries_total{{{ROUTE},reason=\"{reason}\"}}");
    (series, count as f64)
}

/// Open connections to an upstream: in use, and idle.
fn connections(upstream: SocketAddr, active: usize, idle: usize) -> [(String, f64); 2] {
    [("active", active), ("idle", idle)].map(|(state, count)| {
        let labels = format!("upstream=\"http://{upstream}\",state=\"{state}\"");
        (
            format!("s3cors_upstream_connections{{{labels}}}"),
            count as f64,
        )
    })
}

/// How many durations an upstream's histogram has.
fn durations(name: &str, upstream: SocketAddr, count: usize) -> (String, f64) {
    let series = format!("{name}_count{{upstream=\"http://{upstream}\"}}");
    (series, count as f64)
}

/// An HTTP/1.1 upstream that answers `/length/N` with N bytes of known length, and `/chunks/N` with
/// N bytes in chunks.
fn http1_upstream() -> MockUpstream {
    MockUpstream::scripted(true, |exchange| {
        let target = exchange.request.target().to_owned();
        let (framing, length) = target[1..].split_once('/').unwrap();
        let length: usize = length.parse().unwrap();
        let body = "x".repeat(length);
        if framing == "length" {
            exchange.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
        } else {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in body.as_bytes().chunks(1000) {
                let piece = std::str::from_utf8(piece).unwrap();
                exchange.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
            }
            exchange.send("0\r\n\r\n");
        }
        true
    })
}

/// An HTTP/2 upstream that answers each whole request with as many bytes as its path says.
fn http2_upstream() -> SocketAddr {
    let asked = Mutex::new(std::collections::HashMap::new());
    scripted(move |frame_of_request| {
        let stream = frame_of_request.stream;
        let mut asked = asked.lock().unwrap();
        let seen: &mut usize = asked.entry(stream).or_default();
        if frame_of_request.kind == DATA {
            *seen += frame_of_request.payload.len();
        }
        // Flow control: the window is larger than all bodies of these tests together.
        Some(match frame_of_request.ends() {
            false => Vec::new(),
            true => [
                head(0, stream, "200", &[]),
                frame(DATA, END_STREAM, stream, &vec![b'x'; 2 * *seen + 5]),
            ]
            .concat(),
        })
    })
}

/// Sends requests with bodies of these lengths one after another, over HTTP/1.1.
fn ask_http1(address: SocketAddr, requests: &[(&str, usize, bool)]) {
    let mut client = RawClient::connect(address);
    for (target, length, is_chunked) in requests {
        let head = format!("PUT {target} HTTP/1.1\r\nHost: photos.example\r\n");
        let body = "y".repeat(*length);
        client.send(match is_chunked {
            false => format!("{head}Content-Length: {length}\r\n\r\n{body}"),
            true => {
                let chunks = format!("{length:x};extension=1\r\n{body}\r\n0\r\n\r\n");
                format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}")
            }
        });
        let response = client.receive("PUT");
        assert!(response.status == 200 && response.whole, "{target}");
    }
}

/// The same over HTTP/2.
fn ask_http2(address: SocketAddr, requests: &[(&str, usize, bool)]) {
    on_one_thread(async {
        let mut client = connect(address).await;
        for (target, length, _) in requests {
            let request = Request::put(format!("http://photos.example{target}"));
            let body = Full::from(Bytes::from("y".repeat(*length)));
            let response = client.send_request(request.body(body).unwrap());
            let response = response.await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            response.into_body().collect().await.unwrap();
        }
    });
}

#[test]
fn the_bytes_of_bodies_are_counted_on_both_sides() {
    // A small one, some that do not fit in one read, and some that are spliced.
    let requests = [
        ("/length/10", 3, false),
        ("/length/0", 0, false),
        ("/length/70000", 40_000, false),
        ("/length/600000", 500_000, false),
        ("/chunks/4500", 2_000, true),
        ("/chunks/90000", 100_000, true),
    ];
    let (sent, received) = (642_003, 764_510);
    for ask in [ask_http1, ask_http2] {
        let upstream = http1_upstream();
        let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
        ask(proxy.address, &requests);
        until(&proxy.metrics, &bytes([sent, received, sent, received]));
        let settled = [
            in_flight(0),
            route("s3cors_upstream_first_byte_seconds_count", 6.0),
            durations("s3cors_upstream_connect_seconds", upstream.address, 1),
            durations("s3cors_upstream_queue_seconds", upstream.address, 0),
            (
                format!(
                    "s3cors_connections_accepted_total{{listener=\"{}\"}}",
                    proxy.address
                ),
                1.0,
            ),
        ];
        until(&proxy.metrics, &settled);
        until(&proxy.metrics, &connections(upstream.address, 0, 1));
    }
}

#[test]
fn the_bytes_of_bodies_are_counted_before_an_http2_upstream() {
    let requests = [("/k", 3, false), ("/k", 0, false), ("/k", 7_000, false)];
    let (sent, received) = (7_003, 2 * 7_003 + 3 * 5);
    for ask in [ask_http1, ask_http2] {
        let upstream = http2_upstream();
        let mut to_http2 = TestRoute::transparent(upstream);
        to_http2.http2 = true;
        let proxy = TestProxy::start(&[to_http2]);
        ask(proxy.address, &requests);
        until(&proxy.metrics, &bytes([sent, received, sent, received]));
        until(&proxy.metrics, &[in_flight(0)]);
        // The connection is there for the next request.
        until(&proxy.metrics, &connections(upstream, 0, 1));
        let first_bytes = route("s3cors_upstream_first_byte_seconds_count", 3.0);
        until(&proxy.metrics, &[first_bytes]);
    }
}

#[test]
fn the_bytes_of_own_answers_are_counted_as_sent_to_clients_alone() {
    let upstream = http1_upstream();
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    let refused = "OPTIONS /k HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://evil.example\r\n\
                   Access-Control-Request-Method: GET\r\n\r\n";
    let response = RawClient::connect(proxy.address)
        .send(refused)
        .receive("OPTIONS");
    assert_eq!(response.status, 403);
    let over_http1 = response.body.len();
    assert!(over_http1 > 100);
    until(&proxy.metrics, &bytes([0, over_http1, 0, 0]));
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        let preflight = Request::options("http://photos.example/k")
            .header("origin", "https://evil.example")
            .header("access-control-request-method", "GET")
            .body(Full::default());
        let response = client.send_request(preflight.unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        until(&proxy.metrics, &bytes([0, over_http1 + body.len(), 0, 0]));
    });
    until(&proxy.metrics, &[in_flight(0)]);
}

#[test]
fn what_came_before_an_upload_or_a_download_broke_off_is_counted() {
    let upstream = MockUpstream::scripted(false, |exchange| {
        if exchange.request.method() == "PUT" {
            // Until the proxy closes.
            let mut rest = Vec::new();
            let _ = exchange.stream.read_to_end(&mut rest);
            return false;
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of");
        false
    });
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let mut client = RawClient::connect(proxy.address);
    let response = client.send(GET).receive("GET");
    assert!(!response.whole && response.body == b"half of");
    until(&proxy.metrics, &bytes([0, 7, 0, 7]));
    let mut client = RawClient::connect(proxy.address);
    client.send("PUT /k HTTP/1.1\r\nHost: photos.example\r\nContent-Length: 9\r\n\r\nhalf");
    until(&proxy.metrics, &bytes([4, 7, 4, 7]));
    leave(client);
    until(&proxy.metrics, &[in_flight(0)]);
    until(&proxy.metrics, &bytes([4, 7, 4, 7]));
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    ClientLeavesBeforeHead,
    ClientLeavesInBody,
    UpstreamClosesBeforeHead,
    UpstreamClosesInBody,
    HeadIsLate,
    BodyIsLate,
    DrainCuts,
}

const ENDINGS: [Ending; 7] = [
    Ending::ClientLeavesBeforeHead,
    Ending::ClientLeavesInBody,
    Ending::UpstreamClosesBeforeHead,
    Ending::UpstreamClosesInBody,
    Ending::HeadIsLate,
    Ending::BodyIsLate,
    Ending::DrainCuts,
];

/// A proxy whose upstream sends a part of a response, or nothing of it, and waits for the second
/// value, dropped or sent: then it closes.
fn proxy_that_ends_with(ending: Ending, http2: bool) -> (TestProxy, mpsc::Sender<()>) {
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let begins = matches!(
        ending,
        Ending::ClientLeavesInBody | Ending::UpstreamClosesInBody | Ending::BodyIsLate
    );
    let upstream = match http2 {
        false => {
            let upstream = MockUpstream::scripted(true, move |exchange| {
                if begins {
                    exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
                }
                let _ = gone.lock().unwrap().recv();
                false
            });
            upstream.address
        }
        true => crate::support::http2::writing(move |asked, stream| {
            if begins {
                let half = frame(DATA, 0, asked.stream, b"half");
                let fields = [("content-length", "100")];
                let answer = [head(0, asked.stream, "200", &fields), half].concat();
                std::io::Write::write_all(stream, &answer)?;
            }
            let _ = gone.lock().unwrap().recv();
            Ok(false)
        }),
    };
    let mut ends = TestRoute::transparent(upstream);
    ends.http2 = http2;
    match ending {
        Ending::HeadIsLate => ends.timeouts.response_head = Duration::from_millis(50),
        Ending::BodyIsLate => ends.timeouts.body_idle = Duration::from_millis(50),
        _ => {}
    }
    let drain = DrainSettings {
        delay: Duration::ZERO,
        deadline: Duration::from_millis(50),
    };
    (TestProxy::with(&[ends], Limits::default(), drain), go)
}

/// Resets the connection: one that is closed may still be read from.
fn leave(mut client: RawClient) {
    let no_wait = Some(Duration::ZERO);
    SockRef::from(&*client.stream())
        .set_linger(no_wait)
        .unwrap();
}

#[test]
fn nothing_is_in_flight_after_an_http1_request_however_it_ended() {
    for (ending, http2) in ENDINGS
        .map(|ending| [(ending, false), (ending, true)])
        .as_flattened()
    {
        eprintln!("{ending:?}, HTTP/2 upstream: {http2}");
        let (proxy, go) = proxy_that_ends_with(*ending, *http2);
        let metrics = Arc::clone(&proxy.metrics);
        // Its series are there as long as somebody holds it.
        let _route = metrics.route("photos.example");
        let mut client = RawClient::connect(proxy.address);
        client.send(GET);
        if !matches!(ending, Ending::HeadIsLate | Ending::BodyIsLate) {
            until(&metrics, &[in_flight(1)]);
        }
        let mut go = Some(go);
        match ending {
            Ending::ClientLeavesBeforeHead => leave(client),
            Ending::ClientLeavesInBody => {
                assert_eq!(client.head().0, 200);
                leave(client);
            }
            Ending::UpstreamClosesBeforeHead => {
                drop(go.take());
                assert_eq!(client.receive("GET").status, 502);
            }
            Ending::UpstreamClosesInBody => {
                assert_eq!(client.head().0, 200);
                drop(go.take());
            }
            Ending::HeadIsLate => assert_eq!(client.receive("GET").status, 504),
            Ending::BodyIsLate => assert!(!client.receive("GET").whole),
            Ending::DrainCuts => assert_eq!(proxy.drain(), 1),
        }
        until(&metrics, &[in_flight(0)]);
    }
}

#[test]
fn nothing_is_in_flight_after_an_http2_request_however_it_ended() {
    for (ending, http2) in ENDINGS
        .map(|ending| [(ending, false), (ending, true)])
        .as_flattened()
    {
        eprintln!("{ending:?}, HTTP/2 upstream: {http2}");
        let (proxy, go) = proxy_that_ends_with(*ending, *http2);
        let metrics = Arc::clone(&proxy.metrics);
        // Its series are there as long as somebody holds it.
        let _route = metrics.route("photos.example");
        on_one_thread(async {
            let mut client = connect(proxy.address).await;
            let get = Request::get("http://photos.example/k").body(Full::default());
            let answer = client.send_request(get.unwrap());
            // It is sent while something else is waited for.
            let answer = tokio::task::spawn_local(answer);
            if !matches!(ending, Ending::HeadIsLate | Ending::BodyIsLate) {
                until_meanwhile(&metrics, &[in_flight(1)]).await;
            }
            match ending {
                Ending::ClientLeavesBeforeHead => answer.abort(),
                Ending::ClientLeavesInBody => drop(answer.await.unwrap().unwrap()),
                Ending::UpstreamClosesBeforeHead => {
                    drop(go);
                    let status = answer.await.unwrap().unwrap().status();
                    assert_eq!(status, StatusCode::BAD_GATEWAY);
                }
                Ending::UpstreamClosesInBody => {
                    let response = answer.await.unwrap().unwrap();
                    drop(go);
                    assert!(response.into_body().collect().await.is_err());
                }
                Ending::HeadIsLate => {
                    let status = answer.await.unwrap().unwrap().status();
                    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
                }
                Ending::BodyIsLate => {
                    let response = answer.await.unwrap().unwrap();
                    assert!(response.into_body().collect().await.is_err());
                }
                Ending::DrainCuts => {
                    let cut = tokio::task::spawn_blocking(move || proxy.drain());
                    assert_eq!(cut.await.unwrap(), 1);
                }
            }
            until_meanwhile(&metrics, &[in_flight(0)]).await;
        });
    }
}

#[test]
fn a_tunnel_is_in_flight_until_it_ends_and_its_bytes_are_counted() {
    let upstream = MockUpstream::scripted(false, |exchange| {
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello",
        );
        let got = exchange.read(4);
        exchange.send([&got[..], b"pong"].concat());
        let _ = exchange.stream.read_to_end(&mut Vec::new());
        false
    });
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let mut client = RawClient::connect(proxy.address);
    client.send(
        "GET / HTTP/1.1\r\nHost: photos.example\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    );
    assert_eq!(client.head().0, 101);
    client.send("ping");
    assert_eq!(client.bytes(13), b"hellopingpong");
    until(&proxy.metrics, &bytes([4, 13, 4, 13]));
    until(&proxy.metrics, &[in_flight(1)]);
    client.stream().shutdown(Shutdown::Both).unwrap();
    until(&proxy.metrics, &[in_flight(0)]);
    until(&proxy.metrics, &bytes([4, 13, 4, 13]));
}

#[test]
fn a_tunnel_over_http2_is_in_flight_until_it_ends_and_its_bytes_are_counted() {
    let upstream =
        MockUpstream::scripted(false, |exchange| crate::websocket::echo(exchange, "hello"));
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = crate::websocket::client_of(proxy.address).await;
        let request = Request::connect("http://photos.example/socket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "chat")
            .extension(Protocol::from_static("websocket"));
        let asked = client.send_request(request.body(Full::default()).unwrap());
        let response = asked.await.unwrap();
        let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        tunnel.write_all(b"ping").await.unwrap();
        let mut got = [0; 9];
        tunnel.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"helloping");
        let mut expected = bytes([4, 9, 4, 9]);
        expected.push(in_flight(1));
        until_meanwhile(&proxy.metrics, &expected).await;
        tunnel.shutdown().await.unwrap();
        assert_eq!(tunnel.read(&mut got).await.unwrap(), 0);
    });
    until(&proxy.metrics, &[in_flight(0)]);
    until(&proxy.metrics, &bytes([4, 9, 4, 9]));
}

#[test]
fn a_kept_alive_connection_that_was_closed_is_a_retry() {
    for ask in [ask_once_http1, ask_once_http2] {
        let asked = AtomicUsize::new(0);
        let upstream = MockUpstream::scripted(true, move |exchange| {
            // Every second request meets a connection that ends.
            let answers = asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            if answers {
                exchange.send(OK);
            }
            answers
        });
        let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
        for _ in 0..3 {
            assert_eq!(ask(proxy.address), 200);
        }
        let expected = [
            retries("closed", 2),
            retries("connect", 0),
            retries("busy", 0),
            retries("refused", 0),
        ];
        until(&proxy.metrics, &expected);
        let connects = durations("s3cors_upstream_connect_seconds", upstream.address, 3);
        until(&proxy.metrics, &[connects, in_flight(0)]);
    }
}

#[test]
fn the_next_upstream_after_one_that_cannot_be_reached_is_a_retry() {
    for ask in [ask_once_http1, ask_once_http2] {
        let upstream = MockUpstream::answering(OK);
        let mut two = TestRoute::transparent(upstream.address);
        two.upstreams = vec![refusing(), upstream.address];
        // It stays among those that are asked.
        two.health.failures = 1_000;
        let proxy = TestProxy::start(&[two]);
        assert_eq!(ask(proxy.address), 200);
        let first = value(&proxy.metrics, &retries("connect", 0).0).unwrap();
        for _ in 0..3 {
            assert_eq!(ask(proxy.address), 200);
        }
        // They take turns, unless the second has a connection that waits.
        let all = value(&proxy.metrics, &retries("connect", 0).0).unwrap();
        assert!(all >= 1.0 && first <= 1.0, "{first} {all}");
        until(&proxy.metrics, &[retries("closed", 0), in_flight(0)]);
    }
}

#[test]
fn the_last_upstream_that_cannot_be_reached_is_not_a_retry() {
    let mut two = TestRoute::transparent(refusing());
    two.upstreams.push(refusing());
    let proxy = TestProxy::start(&[two]);
    assert_eq!(ask_once_http1(proxy.address), 502);
    until(&proxy.metrics, &[retries("connect", 1), in_flight(0)]);
}

#[test]
fn a_stream_that_an_upstream_refused_is_a_retry() {
    for ask in [ask_once_http1, ask_once_http2] {
        let upstream = scripted(|asked| {
            Some(match asked.stream {
                1 => reset(1, REFUSED_STREAM),
                stream => response(stream, "ok"),
            })
        });
        let mut to_http2 = TestRoute::transparent(upstream);
        to_http2.http2 = true;
        let proxy = TestProxy::start(&[to_http2]);
        assert_eq!(ask(proxy.address), 200);
        until(&proxy.metrics, &[retries("refused", 1), in_flight(0)]);
    }
}

fn ask_once_http1(address: SocketAddr) -> u16 {
    RawClient::connect(address).send(GET).receive("GET").status
}

fn ask_once_http2(address: SocketAddr) -> u16 {
    let mut status = 0;
    on_one_thread(async {
        let mut client = connect(address).await;
        let get = Request::get("http://photos.example/k").body(Full::default());
        let response = client.send_request(get.unwrap()).await.unwrap();
        status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
    });
    status
}

#[test]
fn requests_that_wait_for_a_connection_are_counted_while_they_wait() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        gone.lock().unwrap().recv().unwrap();
        exchange.send(OK);
        true
    });
    let mut narrow = TestRoute::transparent(upstream.address);
    narrow.limits.connections = 1;
    narrow.limits.queue = 2;
    narrow.limits.client_share_percent = 100;
    narrow.timeouts.queue = PATIENCE;
    let proxy = TestProxy::start(&[narrow]);
    let queued = |count: usize| {
        let label = format!("upstream=\"http://{}\"", upstream.address);
        (
            format!("s3cors_upstream_queue_requests{{{label}}}"),
            count as f64,
        )
    };
    let waits = |count| durations("s3cors_upstream_queue_seconds", upstream.address, count);
    let mut first = RawClient::connect(proxy.address);
    first.send(GET);
    upstream.wait_for_request();
    until(&proxy.metrics, &[queued(0), waits(0), in_flight(1)]);
    until(&proxy.metrics, &connections(upstream.address, 1, 0));
    let mut others = [0; 2].map(|_| RawClient::connect(proxy.address));
    for (number, client) in others.iter_mut().enumerate() {
        client.send(GET);
        until(&proxy.metrics, &[queued(number + 1), in_flight(number + 2)]);
    }
    // The queue is full. That request did not wait.
    assert_eq!(ask_once_http1(proxy.address), 503);
    until(&proxy.metrics, &[queued(2), waits(0), in_flight(3)]);
    let [second, third] = others;
    for mut client in [first, second, third] {
        go.send(()).unwrap();
        assert_eq!(client.receive("GET").status, 200);
    }
    until(&proxy.metrics, &[queued(0), waits(2), in_flight(0)]);
    until(&proxy.metrics, &connections(upstream.address, 0, 1));
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_request_that_waited_in_vain_is_not_in_the_queue_any_more() {
    for ask in [ask_once_http1, ask_once_http2] {
        let (go, gone) = mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        let upstream = MockUpstream::scripted(true, move |exchange| {
            let _ = gone.lock().unwrap().recv();
            exchange.send(OK);
            true
        });
        let mut narrow = TestRoute::transparent(upstream.address);
        narrow.limits.connections = 1;
        narrow.limits.client_share_percent = 100;
        narrow.timeouts.queue = Duration::from_millis(20);
        let proxy = TestProxy::start(&[narrow]);
        let mut first = RawClient::connect(proxy.address);
        first.send(GET);
        upstream.wait_for_request();
        assert_eq!(ask(proxy.address), 503);
        let label = format!("upstream=\"http://{}\"", upstream.address);
        let expected = [
            (format!("s3cors_upstream_queue_requests{{{label}}}"), 0.0),
            durations("s3cors_upstream_queue_seconds", upstream.address, 1),
            retries("busy", 0),
            in_flight(1),
        ];
        until(&proxy.metrics, &expected);
        drop(go);
        assert_eq!(first.receive("GET").status, 200);
    }
}

#[test]
fn tls_handshakes_are_counted_by_how_they_ended() {
    let authority = Authority::new();
    let pair = authority.sign(&["photos.example"]);
    let upstream = MockUpstream::answering(OK);
    for versions in [[&TLS12], [&TLS13]] {
        let tls = Tls {
            certificates: vec![pair.read("test")],
            clients: None,
        };
        let listener = ListenerSettings {
            tls: Some(TlsCell::new(tls).unwrap()),
            ..listener()
        };
        let routes = [TestRoute::transparent(upstream.address)];
        let proxy = TestProxy::on(listener, &routes, Limits::default());
        let config = Arc::new(authority.client(&versions, None));
        for _ in 0..3 {
            let mut client = handshake(proxy.address, "photos.example", &config).unwrap();
            assert_eq!(ask_first(&mut client).unwrap(), "HTTP/1.1 200");
        }
        // The client does not know this authority.
        let stranger = Arc::new(Authority::new().client(&versions, None));
        assert!(handshake(proxy.address, "photos.example", &stranger).is_err());
        let label = format!("listener=\"{}\"", proxy.address);
        let handshakes = |kind| format!("s3cors_tls_handshakes_total{{{label},kind=\"{kind}\"}}");
        let failures = "s3cors_handshake_failures_total";
        let expected = [
            (handshakes("full"), 1.0),
            (handshakes("resumed"), 2.0),
            (
                format!("{failures}{{{label},reason=\"client_alert\"}}"),
                1.0,
            ),
            (format!("s3cors_connections_accepted_total{{{label}}}"), 4.0),
            (
                format!("s3cors_connections_refused_total{{{label},reason=\"connections\"}}"),
                0.0,
            ),
        ];
        until(&proxy.metrics, &expected);
    }
}

#[test]
fn connections_that_find_no_room_are_accepted_ones_too() {
    let upstream = MockUpstream::answering(OK);
    let limits = Limits {
        connections: Some(1),
        ..Limits::default()
    };
    let proxy = TestProxy::with_limits(&[TestRoute::transparent(upstream.address)], limits);
    let mut first = RawClient::connect(proxy.address);
    assert_eq!(first.send(GET).receive("GET").status, 200);
    for _ in 0..2 {
        assert_eq!(RawClient::connect(proxy.address).receive("GET").status, 503);
    }
    let label = format!("listener=\"{}\"", proxy.address);
    let expected = [
        (format!("s3cors_connections_accepted_total{{{label}}}"), 3.0),
        (
            format!("s3cors_connections_refused_total{{{label},reason=\"connections\"}}"),
            2.0,
        ),
    ];
    until(&proxy.metrics, &expected);
}

#[test]
fn a_worker_is_busy_while_it_works_and_not_while_it_waits() {
    let upstream = MockUpstream::answering(OK);
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let busy = || {
        value(
            &proxy.metrics,
            "s3cors_worker_busy_seconds_total{worker=\"0\"}",
        )
    };
    assert_eq!(ask_once_http1(proxy.address), 200);
    let start = Instant::now();
    let before = busy().unwrap();
    for _ in 0..100 {
        assert_eq!(ask_once_http1(proxy.address), 200);
    }
    let now = busy().unwrap();
    assert!(before < now && now < start.elapsed().as_secs_f64() + before + 1.0);
    assert_eq!(proxy.metrics.encode().matches("worker=").count(), 1);
}
