//! A stop loses no request: responses announce that the connection ends, and a kept connection
//! may still be used for a moment.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use s3cors::server::{DrainSettings, Limits};

use crate::http2;
use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const GET: &str = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";

fn upstream() -> MockUpstream {
    MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

/// A proxy that accepts connections for a while after a stop has begun.
fn with_delay(upstream: &MockUpstream) -> TestProxy {
    let drain = DrainSettings {
        delay: Duration::from_secs(2),
        ..DrainSettings::default()
    };
    let routes = [TestRoute::transparent(upstream.address)];
    TestProxy::with(&routes, Limits::default(), drain)
}

#[test]
fn during_the_delay_each_response_ends_its_connection() {
    let upstream = upstream();
    let proxy = with_delay(&upstream);
    let address = proxy.address;
    let mut kept = RawClient::connect(address);
    assert!(
        kept.send(GET)
            .receive("GET")
            .values("connection")
            .is_empty()
    );
    let drained = thread::spawn(|| proxy.drain());
    while kept
        .send(GET)
        .receive("GET")
        .values("connection")
        .is_empty()
    {}
    assert!(kept.is_closed());
    // New connections are served one request each.
    let mut fresh = RawClient::connect(address);
    let response = fresh.send(GET).receive("GET");
    assert_eq!(
        (response.status, response.values("connection")),
        (200, vec!["close"])
    );
    assert!(fresh.is_closed());
    // The same for pipelined requests: the last response says so.
    let mut pipelined = RawClient::connect(address);
    pipelined.send([GET, GET].concat());
    assert_eq!(pipelined.receive("GET").values("connection"), ["close"]);
    assert!(pipelined.is_closed());
    assert_eq!(drained.join().unwrap(), 0);
}

#[test]
fn an_idle_connection_may_be_used_during_the_grace() {
    let upstream = upstream();
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let address = proxy.address;
    let mut idle = [RawClient::connect(address), RawClient::connect(address)];
    for client in &mut idle {
        assert_eq!(client.send(GET).receive("GET").status, 200);
    }
    let drained = thread::spawn(|| proxy.drain());
    while TcpStream::connect(address).is_ok() {
        thread::yield_now();
    }
    let [mut used, mut unused] = idle;
    let response = used.send(GET).receive("GET");
    assert_eq!(
        (response.status, response.values("connection")),
        (200, vec!["close"])
    );
    assert!(used.is_closed() && unused.is_closed());
    assert_eq!(drained.join().unwrap(), 0);
}

#[test]
fn during_the_delay_an_http2_connection_gets_goaway() {
    let upstream = upstream();
    let proxy = with_delay(&upstream);
    let address = proxy.address;
    let request = || Request::get("http://photos.example/k").body(Full::<Bytes>::default());
    http2::on_one_thread(async {
        let mut kept = http2::connect(address).await;
        assert_eq!(
            kept.send_request(request().unwrap())
                .await
                .unwrap()
                .status(),
            200
        );
        let drained = thread::spawn(|| proxy.drain());
        // It ends without a request, long before its idle timeout.
        while kept.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
        // A new connection gets its response, and then ends.
        let mut fresh = http2::connect(address).await;
        let response = fresh.send_request(request().unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        drop(response);
        while fresh.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(drained.join().unwrap(), 0);
    });
}
