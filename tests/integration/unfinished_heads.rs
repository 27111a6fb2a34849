//! Unfinished request heads have a memory limit, which does not affect other clients.

use std::io::Read;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use s3cors::server::Limits;

use crate::client_share::connect_from;
use crate::http2;
use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const GET: &str = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";
const HEAD_BYTES: usize = 16 * 1024;

fn start(limits: Limits) -> (MockUpstream, TestProxy) {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let routes = [TestRoute::transparent(upstream.address)];
    let proxy = TestProxy::with_limits(&routes, limits);
    (upstream, proxy)
}

/// An unfinished head of this size.
fn unfinished(bytes: usize) -> String {
    let begin = "GET /k HTTP/1.1\r\nHost: photos.example\r\nX-Long: ";
    format!("{begin}{}", "x".repeat(bytes - begin.len()))
}

#[test]
fn a_client_with_too_many_loses_its_oldest_and_others_are_served() {
    let limits = Limits {
        request_head_bytes: 2 * HEAD_BYTES,
        unfinished_head_bytes: 1 << 30,
        // Per worker, and there is one.
        unfinished_head_bytes_per_client: 10 * HEAD_BYTES,
        ..Limits::default()
    };
    let (_upstream, proxy) = start(limits);
    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 2), proxy.address);
    other.send(unfinished(HEAD_BYTES));
    let mut heads: Vec<_> = (0..20)
        .map(|_| {
            let mut client = RawClient::connect(proxy.address);
            client.send(unfinished(HEAD_BYTES));
            client
        })
        .collect();
    for client in &mut heads[..8] {
        let response = client.receive("GET");
        assert_eq!(response.status, 503);
        assert_eq!(response.values("retry-after"), ["1"]);
        assert!(client.is_closed());
    }
    // The newest may continue, and so may another client.
    for client in [heads.last_mut().unwrap(), &mut other] {
        assert_eq!(client.send("\r\n\r\n").receive("GET").status, 200);
    }
}

#[test]
fn all_clients_share_a_budget_that_excludes_complete_heads() {
    let limits = Limits {
        request_head_bytes: 2 * HEAD_BYTES,
        unfinished_head_bytes: 10 * HEAD_BYTES,
        unfinished_head_bytes_per_client: 5 * HEAD_BYTES,
        ..Limits::default()
    };
    let (_upstream, proxy) = start(limits);
    let mut heads: Vec<_> = (2..30)
        .map(|last| {
            let mut client = connect_from(Ipv4Addr::new(127, 0, 0, last), proxy.address);
            client.send(unfinished(HEAD_BYTES));
            client
        })
        .collect();
    assert_eq!(heads[0].receive("GET").status, 503);
    let mut client = RawClient::connect(proxy.address);
    for _ in 0..30 {
        let head = format!("{}\r\n\r\n", unfinished(HEAD_BYTES));
        assert_eq!(client.send(head).receive("GET").status, 200);
    }
    let last = heads.last_mut().unwrap();
    assert_eq!(last.send("\r\n\r\n").receive("GET").status, 200);
    assert_eq!(client.send(GET).receive("GET").status, 200);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[test]
fn unfinished_http2_field_blocks_count_too() {
    let limits = Limits {
        request_head_bytes: 2 * HEAD_BYTES,
        unfinished_head_bytes: 1 << 30,
        unfinished_head_bytes_per_client: 10 * HEAD_BYTES,
        ..Limits::default()
    };
    let (_upstream, proxy) = start(limits);
    let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    opening.extend(frame(4, 0, 0, b""));
    // `:method: GET`, then a field with a long value, half of which is in the next frame.
    let mut block = vec![0x82, 0x00, 0x01, b'x', 0x7f, 0x81, 0xbf, 0x01];
    block.resize(HEAD_BYTES - 1, b'x');
    opening.extend(frame(1, 0, 1, &block));
    let mut heads: Vec<_> = (0..20)
        .map(|_| {
            let mut client = RawClient::connect(proxy.address);
            client.send(&opening);
            client
        })
        .collect();
    for client in &mut heads[..8] {
        let mut rest = Vec::new();
        client.stream().read_to_end(&mut rest).unwrap();
        // GOAWAY with ENHANCE_YOUR_CALM.
        assert_eq!(rest.last(), Some(&0xb));
    }
    http2::on_one_thread(async {
        let mut client = http2::connect(proxy.address).await;
        let request = Request::get("http://photos.example/k").body(Full::<Bytes>::default());
        let response = client.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
    });
}
