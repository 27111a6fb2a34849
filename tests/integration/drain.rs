//! Draining: current requests complete, new ones are refused, the deadline holds.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use s3cors::server::{DrainSettings, Limits};

use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const GET: &str = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";

/// An upstream that responds on command.
fn waiting_upstream() -> (MockUpstream, mpsc::Sender<()>) {
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        // The sender is dropped when the test has ended.
        let _ = gone.lock().unwrap().recv();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        true
    });
    (upstream, go)
}

#[test]
fn a_request_under_way_is_finished_and_then_the_connection_closes() {
    let (upstream, go) = waiting_upstream();
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let address = proxy.address;
    let mut client = RawClient::connect(address);
    client.send(GET);
    upstream.wait_for_request();
    let drained = thread::spawn(|| proxy.drain());
    // The listener is closed once the drain has begun.
    loop {
        match TcpStream::connect(address) {
            Ok(_) => thread::yield_now(),
            Err(error) => {
                // A reset: it came between the last accept and the close.
                let closed = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset];
                break assert!(closed.contains(&error.kind()), "{error}");
            }
        }
    }
    assert!(!drained.is_finished());
    go.send(()).unwrap();
    let response = client.receive("GET");
    assert_eq!((response.status, response.text()), (200, "ok".into()));
    assert_eq!(response.values("connection"), ["close"]);
    assert!(client.is_closed());
    assert_eq!(drained.join().unwrap(), 0);
}

#[test]
fn a_client_that_has_just_connected_may_still_send_a_request() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let address = proxy.address;
    let mut asks = RawClient::connect(address);
    let mut is_silent = RawClient::connect(address);
    let drained = thread::spawn(|| proxy.drain());
    while TcpStream::connect(address).is_ok() {
        thread::yield_now();
    }
    let response = asks.send(GET).receive("GET");
    assert_eq!(response.status, 200);
    assert_eq!(response.values("connection"), ["close"]);
    assert!(is_silent.is_closed());
    assert_eq!(drained.join().unwrap(), 0);
}

#[test]
fn connections_left_at_the_deadline_are_cut_and_counted() {
    let (upstream, _go) = waiting_upstream();
    let drain = DrainSettings {
        deadline: Duration::from_millis(50),
        ..DrainSettings::default()
    };
    let routes = [TestRoute::transparent(upstream.address)];
    let proxy = TestProxy::with(&routes, Limits::default(), drain);
    let mut client = RawClient::connect(proxy.address);
    client.send(GET);
    upstream.wait_for_request();
    assert_eq!(proxy.drain(), 1);
    assert!(client.is_closed());
}

#[test]
fn a_tunnel_counts_as_a_connection_and_may_last_until_the_deadline() {
    let upstream = MockUpstream::scripted(false, |exchange| {
        exchange
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        for _ in 0..2 {
            let word = exchange.read(3);
            exchange.send(word);
        }
        false
    });
    for (ends, cut) in [(true, 0), (false, 1)] {
        let drain = DrainSettings {
            deadline: Duration::from_millis(if ends { 20_000 } else { 50 }),
            ..DrainSettings::default()
        };
        let routes = [TestRoute::transparent(upstream.address)];
        let proxy = TestProxy::with(&routes, Limits::default(), drain);
        let mut client = RawClient::connect(proxy.address);
        client.send(
            "GET /k HTTP/1.1\r\nHost: photos.example\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        );
        assert_eq!(client.head().0, 101);
        assert_eq!(client.send("hey").bytes(3), b"hey");
        let metrics = proxy.metrics.encode();
        let mut lines = metrics.lines();
        let open = lines.find(|line| line.starts_with("s3cors_connections{"));
        assert!(open.unwrap().ends_with(" 1"), "{metrics}");
        let drained = thread::spawn(|| proxy.drain());
        if ends {
            assert_eq!(client.send("bye").bytes(3), b"bye");
        }
        // The upstream has ended its side, or the deadline has ended both.
        assert!(client.is_closed());
        drop(client);
        assert_eq!(drained.join().unwrap(), cut);
    }
}

#[test]
fn open_connections_and_their_limit_are_metrics() {
    // A multiple of the number of workers, which share it.
    const LIMIT: usize = 1000;
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let limits = Limits {
        connections: Some(LIMIT),
        ..Limits::default()
    };
    let routes = [TestRoute::transparent(upstream.address)];
    let proxy = TestProxy::with(&routes, limits, DrainSettings::default());
    let mut client = RawClient::connect(proxy.address);
    assert_eq!(client.send(GET).receive("GET").status, 200);
    let metrics = proxy.metrics.encode();
    let connections = metrics
        .lines()
        .find(|line| line.starts_with("s3cors_connections{"));
    assert!(connections.unwrap().ends_with(" 1"), "{metrics}");
    let limit = format!("\ns3cors_connections_limit {LIMIT}\n");
    assert!(metrics.contains(&limit), "{metrics}");
    assert_eq!(proxy.drain(), 0);
}
