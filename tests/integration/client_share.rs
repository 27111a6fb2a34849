//! A single client address cannot take all connections to an upstream.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use socket2::{Domain, Socket, Type};

use crate::http2;
use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

/// Connects from another address of this machine.
pub(crate) fn connect_from(address: Ipv4Addr, to: SocketAddr) -> RawClient {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    RawClient::over(socket.into())
}

/// Streams with unread responses occupy connections to the upstream for a long time.
#[test]
fn stalled_streams_of_one_address_leave_connections_for_others() {
    let large = "x".repeat(8 * 1024 * 1024);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        let body = if exchange.request.target() == "/large" {
            &*large
        } else {
            "ok"
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        exchange.try_send(head) && exchange.try_send(body)
    });
    let mut route = TestRoute::new(upstream.address, POLICY);
    route.limits.connections = 8;
    let proxy = TestProxy::start(&[route]);
    http2::on_one_thread(async {
        let mut held = Vec::new();
        let mut refused = 0;
        for _ in 0..2 {
            let mut client = http2::connect(proxy.address).await;
            for _ in 0..20 {
                let request = Request::get("http://photos.example/large");
                let request = request.body(Full::<Bytes>::default()).unwrap();
                let response = client.send_request(request).await.unwrap();
                match response.status().as_u16() {
                    // Held open, and never read.
                    200 => held.push(response),
                    503 => refused += 1,
                    status => panic!("{status}"),
                }
            }
        }
        // A quarter of eight.
        assert_eq!((held.len(), refused), (2, 38));
        for last in 2..8 {
            let mut other = connect_from(Ipv4Addr::new(127, 0, 0, last), proxy.address);
            let request = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";
            let response = other.send(request).receive("GET");
            assert_eq!((response.status, response.text()), (200, "ok".to_owned()));
        }
    });
}
