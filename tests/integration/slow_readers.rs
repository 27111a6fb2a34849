//! Clients that do not read their response: they are cut, and the upstream is not blamed.

use std::sync::mpsc;
use std::time::Duration;

use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const PATIENCE: Duration = Duration::from_secs(20);

/// Much more than the system buffers between the two ends.
const BODY_BYTES: usize = 64 * 1024 * 1024;

#[test]
fn a_client_that_does_not_read_its_response_is_cut_and_no_upstream_blamed() {
    let (told, left) = mpsc::channel();
    let upstream = MockUpstream::scripted(false, move |exchange| {
        exchange.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
        ));
        let has_left = !exchange.try_send(vec![0; BODY_BYTES]);
        told.send(has_left).unwrap();
        false
    });
    let mut route = TestRoute::transparent(upstream.address);
    route.timeouts.body_idle = Duration::from_millis(200);
    let proxy = TestProxy::start(&[route]);
    // Spliced, with a listed field, and with a declined upgrade.
    for fields in [
        "",
        "Connection: x-nothing\r\n",
        "Upgrade: x\r\nConnection: upgrade\r\n",
    ] {
        let mut client = RawClient::connect(proxy.address);
        client.send(format!(
            "GET /k HTTP/1.1\r\nHost: photos.example\r\n{fields}\r\n"
        ));
        assert!(left.recv_timeout(PATIENCE).unwrap(), "{fields}");
    }
    let metrics = proxy.metrics.encode();
    let mut failures = metrics
        .lines()
        .filter(|line| line.starts_with("s3cors_upstream_errors_total{"));
    assert!(failures.all(|line| line.ends_with(" 0")), "{metrics}");
}
