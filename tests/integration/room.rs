//! Clients beyond the connection limits get a response at once, and others are not affected.

use s3cors::server::{Limits, ListenerSettings};

use crate::support::binary::{Folder, Process};
use crate::support::client::{RawClient, RawResponse};
use crate::support::proxy::{TestProxy, TestRoute, listener};
use crate::support::upstream::MockUpstream;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";

fn proxy(proxies: &[&str], listener: ListenerSettings, limits: Limits) -> TestProxy {
    let upstream = MockUpstream::answering(OK);
    let route = TestRoute::transparent(upstream.address);
    TestProxy::trusting(proxies, listener, &[route], limits, None)
}

fn ask(client: &mut RawClient) -> RawResponse {
    client.send(GET).receive("GET")
}

/// Connects without sending: a refusal comes unsolicited.
fn assert_refused(mut client: RawClient) {
    let refusal = client.receive("GET");
    assert_eq!(refusal.status, 503);
    assert_eq!(refusal.values("retry-after"), ["1"]);
    assert_eq!(refusal.values("connection"), ["close"]);
    assert!(client.is_closed());
}

/// Connects until there is room again: a closed connection is noticed a moment later.
fn once_there_is_room(connect: impl Fn() -> RawClient) -> RawClient {
    loop {
        let mut client = connect();
        if ask(&mut client).status == 200 {
            return client;
        }
    }
}

/// The number of refusals, for the total limit and for the client's.
fn refused(proxy: &TestProxy) -> [u64; 2] {
    let metrics = proxy.metrics.encode();
    ["connections", "connections_per_client"].map(|reason| {
        let address = proxy.address;
        let series = format!(
            "s3cors_connections_refused_total{{listener=\"{address}\",reason=\"{reason}\"}} "
        );
        let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
        count.unwrap().parse().unwrap()
    })
}

#[test]
fn beyond_the_connection_limit_clients_get_503() {
    let limits = Limits {
        connections: Some(1),
        ..Limits::default()
    };
    let proxy = proxy(&[], listener(), limits);
    let connect = || RawClient::connect(proxy.address);
    let mut first = connect();
    assert_eq!(ask(&mut first).status, 200);
    for _ in 0..2 {
        assert_refused(connect());
    }
    assert_eq!(refused(&proxy), [2, 0]);
    assert_eq!(ask(&mut first).status, 200);
}

#[test]
fn a_client_at_its_connection_limit_gets_503() {
    let limits = Limits {
        connections_per_client: 2,
        ..Limits::default()
    };
    let proxy = proxy(&[], listener(), limits);
    let connect = || RawClient::connect(proxy.address);
    let mut clients = [connect(), connect()];
    for client in &mut clients {
        assert_eq!(ask(client).status, 200);
    }
    assert_refused(connect());
    assert_eq!(refused(&proxy), [0, 1]);
    // Open connections continue, and the place of a closed one is free.
    let [first, mut second] = clients;
    drop(first);
    assert_eq!(ask(&mut once_there_is_room(connect)).status, 200);
    assert_eq!(ask(&mut second).status, 200);
}

#[test]
fn a_listed_proxy_is_not_counted_but_the_client_that_it_names_is() {
    let limits = Limits {
        connections_per_client: 1,
        ..Limits::default()
    };
    let listener = ListenerSettings {
        proxy_protocol: true,
        ..listener()
    };
    let proxy = proxy(&["127.0.0.1"], listener, limits);
    let connect = |address: &str| {
        let mut client = RawClient::connect(proxy.address);
        client.send(format!("PROXY TCP4 {address} 198.51.100.1 1 2\r\n"));
        client
    };
    let (mut one, mut other) = (connect("192.0.2.1"), connect("192.0.2.2"));
    assert_eq!(ask(&mut one).status, 200);
    assert_eq!(ask(&mut other).status, 200);
    assert_refused(connect("192.0.2.1"));
    assert_eq!(ask(&mut one).status, 200);
}

/// The limits hold for all workers together, however the system spreads connections over them.
#[test]
fn workers_admit_exactly_as_many_connections_as_the_limit() {
    let upstream = MockUpstream::answering(OK);
    let folder = Folder::new("room-workers");
    for limit in [3, 10, 22] {
        for (key, others) in [
            ("connections", ""),
            ("connections_per_client", "connections = 1000"),
        ] {
            let config = format!(
                "workers = 4\n[limits]\n{key} = {limit}\n{others}\n[[route]]\nhost = '*'\n\
                 upstream = 'http://{}'\n",
                upstream.address
            );
            let config = folder.write("s3cors.toml", &config);
            let process = Process::start(&["run", "--config", &config]);
            let connect = || RawClient::connect(process.address);
            let mut open: Vec<_> = (0..limit).map(|_| connect()).collect();
            for (number, client) in open.iter_mut().enumerate() {
                assert_eq!(ask(client).status, 200, "{number} of {limit} {key}");
            }
            for _ in 0..3 {
                assert_refused(connect());
            }
            let fields = [("host", "localhost")];
            let metrics = crate::support::client::ask(process.admin, "GET", "/metrics", &fields);
            let metrics = metrics.text();
            let series = |name: &str| -> f64 {
                let value = metrics.lines().find_map(|line| line.strip_prefix(name));
                value.unwrap().trim().parse().unwrap()
            };
            // What the alert on 80 % of the connections compares.
            let expected = if key == "connections" { limit } else { 1000 };
            assert_eq!(series("s3cors_connections_limit "), f64::from(expected));
            // A place that gets free is one for any worker.
            open.pop();
            open.push(once_there_is_room(connect));
            assert_refused(connect());
        }
    }
}
