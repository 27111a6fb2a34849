//! Clients that have closed their write side, and clients that have left.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use socket2::SockRef;

use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const PATIENCE: Duration = Duration::from_secs(20);

/// With and without a field that `Connection` lists.
const CONNECTIONS: [&str; 2] = ["", "Connection: x-nothing\r\n"];

fn request(method: &str, connection: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} /k HTTP/1.1\r\nHost: photos.example\r\n{connection}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// An upstream that responds on command, and reports if the proxy has left before.
fn waiting() -> (MockUpstream, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (go, going) = mpsc::channel();
    let (told, left) = mpsc::channel();
    let going = Mutex::new(going);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        if exchange.request.target() == "/left" {
            assert!(!matches!(exchange.stream.read(&mut [0]), Ok(1..)));
            told.send(()).unwrap();
            return false;
        }
        going.lock().unwrap().recv().unwrap();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        true
    });
    (upstream, go, left)
}

#[test]
fn a_half_closed_client_gets_its_response() {
    let (upstream, go, _) = waiting();
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    for connection in CONNECTIONS {
        for (method, body) in [("GET", ""), ("PUT", "body"), ("POST", "")] {
            let mut client = RawClient::connect(proxy.address);
            client.send(request(method, connection, body));
            client.stream().shutdown(Shutdown::Write).unwrap();
            upstream.wait_for_request();
            go.send(()).unwrap();
            let response = client.receive(method);
            assert_eq!((response.status, &*response.text()), (200, "ok"));
            assert!(client.is_closed(), "{method} {connection}");
        }
        // Pipelined requests: each of them.
        let mut client = RawClient::connect(proxy.address);
        client.send(request("GET", connection, "").repeat(3));
        client.stream().shutdown(Shutdown::Write).unwrap();
        for _ in 0..3 {
            go.send(()).unwrap();
            upstream.wait_for_request();
            assert_eq!(client.receive("GET").status, 200, "{connection}");
        }
        assert!(client.is_closed(), "{connection}");
    }
}

#[test]
fn a_cut_request_is_not_treated_as_complete() {
    let upstream = MockUpstream::scripted(false, |_| false);
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    for connection in CONNECTIONS {
        let whole = request("PUT", connection, "body");
        let mut client = RawClient::connect(proxy.address);
        client.send(&whole[..whole.len() - 1]);
        client.stream().shutdown(Shutdown::Write).unwrap();
        client.assert_ends(400);
        let mut client = RawClient::connect(proxy.address);
        client.send(&whole[..40]);
        client.stream().shutdown(Shutdown::Write).unwrap();
        client.assert_ends(400);
    }
}

#[test]
fn a_client_that_closes_during_its_body_gets_an_error_and_the_upstream_no_end() {
    let (told, cut) = mpsc::channel();
    let upstream = MockUpstream::scripted(false, move |exchange| {
        let mut body = Vec::new();
        // Cut, one way or the other.
        let _ = exchange.stream.read_to_end(&mut body);
        told.send(body.len()).unwrap();
        false
    });
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    for connection in CONNECTIONS {
        // In one piece, in several, and through a pipe.
        for length in [4, 40_000, 400_000] {
            let whole = request("PUT", connection, &"x".repeat(length));
            let mut client = RawClient::connect(proxy.address);
            client.send(&whole[..whole.len() - 2]);
            upstream.wait_for_request();
            client.stream().shutdown(Shutdown::Write).unwrap();
            let answer = client.receive("PUT");
            assert_eq!(answer.status, 400, "{connection} {length}");
            assert_eq!(answer.text(), "The request body was interrupted.\n");
            assert!(client.is_closed());
            assert!(cut.recv_timeout(PATIENCE).unwrap() < length);
        }
    }
}

#[test]
fn a_client_that_has_left_ends_its_request() {
    let (upstream, _go, left) = waiting();
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    for connection in CONNECTIONS {
        let mut client = TcpStream::connect(proxy.address).unwrap();
        let request = request("GET", connection, "").replace("/k", "/left");
        client.write_all(request.as_bytes()).unwrap();
        upstream.wait_for_request();
        // Closed like this, a connection is reset.
        let socket = SockRef::from(&client);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        left.recv_timeout(PATIENCE).unwrap();
    }
}
