//! Tunnels whose ends have disappeared.

use std::sync::mpsc;

use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

/// The timer of a connection of this system, by its ports (`proc_net_tcp`); 2 is keep-alive.
fn timer(local: u16, remote: u16) -> Option<u8> {
    let port = |end: &str| u16::from_str_radix(end.rsplit(':').next().unwrap(), 16).ok();
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut lines = connections
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|line| port(line[1]) == Some(local) && port(line[2]) == Some(remote))?;
    line[5].split(':').next()?.parse().ok()
}

#[test]
fn a_tunnel_has_tcp_keep_alive() {
    let (tell, told) = mpsc::channel();
    let upstream = MockUpstream::scripted(false, move |exchange| {
        let peer = exchange.stream.get_ref().peer_addr().unwrap().port();
        exchange
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        exchange.read(4);
        tell.send(peer).unwrap();
        exchange.send("pong");
        exchange.read(4);
        tell.send(peer).unwrap();
        true
    });
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let mut client = RawClient::connect(proxy.address);
    client.send(
        "GET / HTTP/1.1\r\nHost: photos.example\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    );
    assert_eq!(client.head().0, 101);
    // Unacknowledged bytes have another timer; a response acknowledges them.
    client.send("ping");
    assert_eq!(client.bytes(4), b"pong");
    let peer = told.recv().unwrap();
    assert_eq!(timer(peer, upstream.address.port()), Some(2));
    client.send("ping");
    told.recv().unwrap();
    let peer = client.stream().local_addr().unwrap().port();
    assert_eq!(timer(proxy.address.port(), peer), Some(2));
}
