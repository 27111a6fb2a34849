//! What a request says of where it comes from is believed of listed proxies, and of nobody else.

use s3cors::proxy::snapshot::Forwarding;
use s3cors::server::Limits;
use serde_json::Value;

use crate::support::client::ask;
use crate::support::proxy::{TestProxy, TestRoute, listener};
use crate::support::upstream::{MockUpstream, Recorded};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What a client says of where it comes from.
const CLAIMS: &[(&str, &str)] = &[
    ("X-Forwarded-For", "203.0.113.9, 192.0.2.1"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Port", "443"),
    ("Forwarded", "for=192.0.2.1"),
    ("X-S3cors-Anything", "1"),
];

/// What reaches the upstream, and the line in the access log.
fn forwarded(proxies: &[&str], forwarding: Forwarding) -> (Recorded, Value) {
    let upstream = MockUpstream::answering(OK);
    let mut route = TestRoute::transparent(upstream.address);
    route.forwarding = forwarding;
    let log = std::env::temp_dir().join(format!("s3cors-trust-{}", upstream.address.port()));
    let limits = Limits::default();
    let proxy = TestProxy::trusting(proxies, listener(), &[route], limits, Some(&log));
    assert_eq!(ask(proxy.address, "GET", "/k", CLAIMS).status, 200);
    proxy.finish_log();
    let lines = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    (upstream.request(), serde_json::from_str(&lines).unwrap())
}

const NOTHING: Forwarding = Forwarding {
    via: false,
    x_forwarded: false,
    forwarded: false,
};

const BOTH: Forwarding = Forwarding {
    x_forwarded: true,
    forwarded: true,
    ..NOTHING
};

#[test]
fn of_anybody_it_is_removed_even_where_nothing_is_added() {
    let (request, line) = forwarded(&["192.0.2.0/24", "unix"], NOTHING);
    for (name, _) in CLAIMS {
        assert!(request.values(name).is_empty(), "{name}");
    }
    assert_eq!(line["client"], "127.0.0.1");
}

#[test]
fn of_a_listed_proxy_it_is_kept_even_where_nothing_is_added() {
    let (request, line) = forwarded(&["127.0.0.0/8"], NOTHING);
    for (name, value) in CLAIMS {
        assert_eq!(request.values(name), [*value], "{name}");
    }
    assert_eq!(line["client"], "192.0.2.1");
}

#[test]
fn of_a_listed_proxy_it_is_added_to() {
    let (request, line) = forwarded(&["127.0.0.1", "192.0.2.1"], BOTH);
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.9, 192.0.2.1, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-host", "photos.example"),
        (
            "forwarded",
            "for=192.0.2.1, for=127.0.0.1;proto=http;host=\"photos.example\"",
        ),
        ("x-s3cors-anything", "1"),
    ] {
        assert_eq!(request.values(name), [value], "{name}");
    }
    assert_eq!(line["client"], "203.0.113.9");
}
