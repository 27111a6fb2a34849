//! HTTP/2 from clients (with prior knowledge) and to upstreams.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3cors::server::Limits;
use s3cors::upstream::local_executor::LocalExecutor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::forwarded_bytes;
use crate::support::client::ask;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const ORIGIN: &str = "https://app.example";
const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>";

/// Runs a test on one thread, where local tasks can drive connections.
pub(crate) fn on_one_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(test);
}

pub(crate) async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = handshake(LocalExecutor, TokioIo::new(stream))
        .await
        .unwrap();
    tokio::task::spawn_local(connection);
    sender
}

pub(crate) fn request(method: &str, uri: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(uri)
        .header("origin", ORIGIN)
}

#[test]
fn many_requests_share_a_connection_and_reach_an_http1_upstream_cleanly() {
    let upstream = MockUpstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
    );
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        let answers: Vec<_> = (0..20)
            .map(|index| {
                let uri = format!("http://photos.example/a%2Fb//{index}?acl");
                client.send_request(request("GET", &uri).body(Full::default()).unwrap())
            })
            .collect();
        for answer in answers {
            let response = answer.await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN);
            assert!(!response.headers().contains_key("connection"));
            assert_eq!(
                response.into_body().collect().await.unwrap().to_bytes(),
                "ok"
            );
        }
    });
    let requests = upstream.requests();
    assert_eq!(requests.len(), 20);
    for request in requests {
        assert!(
            request.line().starts_with("GET /a%2Fb//"),
            "{}",
            request.line()
        );
        assert_eq!(request.values("host"), ["photos.example"]);
        assert_eq!(request.values("via"), ["2.0 s3cors"]);
    }
}

#[test]
fn a_preflight_and_a_body_over_http2() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        let preflight = request("OPTIONS", "http://photos.example/k")
            .header("access-control-request-method", "PUT");
        let response = client
            .send_request(preflight.body(Full::default()).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()["access-control-allow-methods"],
            "GET, PUT"
        );

        let put = request("PUT", "http://photos.example/k");
        let response = client
            .send_request(put.body(Full::from("abc")).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    });
    assert_eq!(upstream.request().body, b"abc");
}

/// Status, fields and body, without the parts that differ between requests; `None` if it broke
/// off.
async fn answer(
    client: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Option<(StatusCode, Vec<(String, String)>, String)> {
    let response = client.send_request(request).await.unwrap();
    let (head, body) = response.into_parts();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let id = head.headers.get("x-amz-request-id");
    let id = id.map_or("-".to_owned(), |id| text(id.as_bytes()));
    let fields = head.headers.iter().filter(|(name, _)| *name != "date");
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (name.to_string(), text(value.as_bytes()).replace(&id, "ID")))
        .collect();
    fields.sort();
    assert!(head.headers.contains_key("date"));
    let body = body.collect().await;
    // The proxy's own responses are complete.
    let broke_off = body.is_err() && head.headers.get("x-amz-request-id").is_none();
    if broke_off {
        return None;
    }
    let body = text(&body.unwrap().to_bytes()).replace(&id, "ID");
    Some((head.status, fields, body))
}

#[test]
fn a_request_without_a_body_gets_the_same_response_on_both_paths() {
    let upstream = forwarded_bytes::upstream();
    let proxy = TestProxy::start(&forwarded_bytes::routes(&upstream));
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        for host in [
            "photos.example",
            "exact.example",
            "plain.example",
            "without.example",
        ] {
            for (number, method) in (0..forwarded_bytes::RESPONSES.len())
                .flat_map(|number| ["GET", "HEAD", "DELETE"].map(|method| (number, method)))
            {
                let uri = format!("http://{host}/{number}?a=%2F");
                let fields = [("cookie", "a=1"), ("x-empty", ""), ("cookie", "b=2")];
                let asked = || {
                    let request = request(method, &uri);
                    fields.into_iter().fold(request, |request, (name, value)| {
                        request.header(name, value)
                    })
                };
                // One with a length is hyper's.
                let [fetched, by_hyper] = [asked(), asked().header("content-length", "0")];
                let mut both = Vec::new();
                for asked in [fetched, by_hyper] {
                    let before = upstream.requests().len();
                    let request = asked.body(Full::default()).unwrap();
                    let answer = answer(&mut client, request).await;
                    let requests = upstream.requests();
                    let forwarded: Vec<_> = requests[before..]
                        .iter()
                        .map(|request| {
                            let lines = request.head.lines();
                            let mut lines: Vec<_> = lines
                                .filter(|line| !line.starts_with("content-length"))
                                .map(str::to_owned)
                                .collect();
                            lines.sort();
                            lines
                        })
                        .collect();
                    both.push((answer, forwarded));
                }
                assert_eq!(
                    both[0],
                    both[1],
                    "{method} {:?}",
                    forwarded_bytes::RESPONSES[number]
                );
                assert!(both[0].1[0].contains(&"cookie: a=1; b=2".to_owned()));
            }
        }
    });
}

#[test]
fn the_proxys_own_response_to_head_has_a_length_and_no_content() {
    let upstream = MockUpstream::scripted(false, |_| false);
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        for (uri, status) in [
            ("http://photos.example/k", StatusCode::BAD_GATEWAY),
            ("http://nobody.example/k", StatusCode::MISDIRECTED_REQUEST),
        ] {
            let mut lengths = Vec::new();
            for method in ["GET", "HEAD"] {
                let asked = request(method, uri).body(Full::default()).unwrap();
                let response = client.send_request(asked).await.unwrap();
                assert_eq!(response.status(), status);
                lengths.push(response.headers()["content-length"].clone());
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body.is_empty(), method == "HEAD", "{method} {uri}");
            }
            assert_eq!(lengths[0], lengths[1], "{uri}");
        }
    });
}

#[test]
fn a_target_that_http1_does_not_allow_is_refused() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        for target in ["/\u{e9}", "/k?\u{e9}"] {
            let uri = format!("http://photos.example{target}");
            let get = request("GET", &uri).body(Full::default()).unwrap();
            let response = client.send_request(get).await.unwrap();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{target}");
        }
    });
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_closed_connection_makes_room_for_its_replacement() {
    let asked = AtomicUsize::new(0);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        // Every second request gets a connection that ends.
        let answers = asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        if answers {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        answers
    });
    let mut route = TestRoute::new(upstream.address, POLICY);
    route.limits.connections = 1;
    route.limits.client_share_percent = 100;
    let proxy = TestProxy::start(&[route]);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        for _ in 0..4 {
            let get = request("GET", "http://photos.example/k").body(Full::default());
            let response = client.send_request(get.unwrap()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), "ok");
        }
    });
    for _ in 0..4 {
        let answer = ask(proxy.address, "GET", "/k", &[("origin", ORIGIN)]);
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn bytes_after_a_response_are_not_a_response() {
    let upstream = MockUpstream::scripted(true, |exchange| {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        exchange.send(format!(
            "{answer}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        ));
        true
    });
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        for _ in 0..4 {
            let get = request("GET", "http://photos.example/k").body(Full::default());
            let response = client.send_request(get.unwrap()).await.unwrap();
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), "ok");
        }
    });
    assert_eq!(upstream.connections(), 4);
}

#[test]
fn a_head_that_is_too_large_is_refused_readably() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        let large = "x".repeat(Limits::default().request_head_bytes);
        let get = request("GET", "http://photos.example/k").header("x-large", large);
        let response = client.send_request(get.body(Full::default()).unwrap());
        let response = response.await.unwrap();
        assert_eq!(
            response.status(),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        );
        assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN);
        assert!(response.headers().contains_key("x-amz-request-id"));
    });
    assert!(upstream.requests().is_empty());
}

#[test]
fn not_all_streams_of_a_connection_have_the_largest_heads() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        // Until the test has seen a refusal.
        let _ = held.lock().unwrap().recv();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        true
    });
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        let long = "x".repeat(10_000);
        let mut answers: Vec<_> = (0..20)
            .map(|_| {
                let asked = (0..6)
                    .fold(request("GET", "http://photos.example/k"), |asked, name| {
                        asked.header(format!("x-{name}"), &long)
                    });
                Box::pin(client.send_request(asked.body(Full::default()).unwrap()))
            })
            .collect();
        // As many as fit into sixteen heads of 64 KiB.
        let refused = answers.split_off(17);
        for refused in refused {
            let error = refused.await.unwrap_err();
            let cause = std::error::Error::source(&error).unwrap();
            let cause = cause.downcast_ref::<h2::Error>().unwrap();
            assert_eq!(cause.reason(), Some(h2::Reason::REFUSED_STREAM));
        }
        drop(release);
        for answer in answers {
            assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
        }
        // There is room again.
        let again = request("GET", "http://photos.example/k").body(Full::default());
        let again = client.send_request(again.unwrap()).await;
        assert_eq!(again.unwrap().status(), StatusCode::OK);
    });
}

#[test]
fn two_hosts_in_one_request_are_refused() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        let odd = request("GET", "http://photos.example/k").header("host", "other.example");
        let response = client
            .send_request(odd.body(Full::default()).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    });
    assert!(upstream.requests().is_empty());
}

/// An HTTP/2 upstream that reports what it saw, with trailers.
pub(crate) async fn http2_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<Incoming>| async move {
                let seen = format!(
                    "{} {:?} {}",
                    request.method(),
                    request.version(),
                    request.uri()
                );
                let connection_fields = ["host", "connection", "transfer-encoding", "upgrade"]
                    .iter()
                    .filter(|name| request.headers().contains_key(**name))
                    .count();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", "42".parse().unwrap());
                let frames = [
                    Ok::<_, Infallible>(Frame::data(Bytes::from(seen))),
                    Ok(Frame::data(body)),
                    Ok(Frame::trailers(trailers)),
                ];
                let body = Frames(frames.into_iter());
                let response = Response::builder().header("x-fields", connection_fields);
                Ok::<_, Infallible>(response.body(body).unwrap())
            });
            let connection = hyper::server::conn::http2::Builder::new(LocalExecutor)
                .serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(connection);
        }
    });
    address
}

#[test]
fn an_http2_upstream_that_disappears_is_noticed() {
    on_one_thread(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut route = TestRoute::new(listener.local_addr().unwrap(), POLICY);
        route.http2 = true;
        route.timeouts.connect = Duration::from_millis(200);
        let proxy = TestProxy::start(&[route]);
        let is_gone = Rc::new(Notify::new());
        let goes = Rc::clone(&is_gone);
        tokio::task::spawn_local(async move {
            let mut connections = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(async |_: Request<Incoming>| {
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                });
                let connection = hyper::server::conn::http2::Builder::new(LocalExecutor)
                    .serve_connection(TokioIo::new(stream), service);
                let mut connection = Box::pin(connection);
                tokio::select! {
                    _ = &mut connection => {}
                    () = goes.notified() => {}
                }
                // Stays open, and is never read.
                connections.push(connection);
            }
        });
        let mut client = connect(proxy.address).await;
        let mut ask = async || {
            let get = request("GET", "http://photos.example/k").body(Full::default());
            let asked = client.send_request(get.unwrap());
            let answer = tokio::time::timeout(Duration::from_secs(20), asked).await;
            answer.expect("an answer").unwrap().status()
        };
        assert_eq!(ask().await, StatusCode::OK);
        is_gone.notify_one();
        assert_eq!(ask().await, StatusCode::BAD_GATEWAY);
        assert_eq!(ask().await, StatusCode::OK);
    });
}

/// A body of these frames.
struct Frames<I>(I);

impl<I> hyper::body::Body for Frames<I>
where
    I: Iterator<Item = Result<Frame<Bytes>, Infallible>> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next())
    }
}

#[test]
fn an_http2_upstream_gets_http2_with_trailers_back() {
    on_one_thread(async {
        let mut route = TestRoute::new(http2_upstream().await, POLICY);
        route.http2 = true;
        let proxy = TestProxy::start(&[route]);
        let mut client = connect(proxy.address).await;
        let put = request("PUT", "http://photos.example/a%2Fb?acl").header("te", "trailers");
        let response = client
            .send_request(put.body(Full::from("!")).unwrap())
            .await
            .unwrap();
        assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN);
        assert_eq!(response.headers()["x-fields"], "0");
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-sum"], "42");
        assert_eq!(
            body.to_bytes(),
            "PUT HTTP/2.0 http://photos.example/a%2Fb?acl!"
        );
    });
}

#[test]
fn an_http1_client_reaches_an_http2_upstream() {
    let (address, served) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        on_one_thread(async {
            address.send(http2_upstream().await).unwrap();
            std::future::pending().await
        });
    });
    let mut route = TestRoute::new(served.recv().unwrap(), POLICY);
    route.http2 = true;
    let proxy = TestProxy::start(&[route]);
    // HTTP/2 has no upgrades: a requested one is not passed on.
    let upgrade = [("Connection", "upgrade"), ("Upgrade", "websocket")];
    for fields in [&[("Connection", "keep-alive")][..], &upgrade] {
        let response = ask(proxy.address, "GET", "/k", fields);
        assert_eq!(response.text(), "GET HTTP/2.0 http://photos.example/k");
        assert_eq!(response.values("x-fields"), ["0"]);
    }
}
