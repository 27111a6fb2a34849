//! Preflights get equal responses whatever `Connection` lists.
//!
//! Each request is sent twice to the same proxy: unchanged, and with a `Connection` field that
//! lists an absent field. The responses must have equal status, body and fields, except ids and
//! the clock. `http2` tests that HTTP/2 clients get the same responses.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use s3cors::cors::{Options, Semantics};
use s3cors::server::Limits;

use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const POLICY: &str = "<CORSConfiguration>\
     <CORSRule><AllowedOrigin>https://app.example</AllowedOrigin><AllowedOrigin>https://*.app.example</AllowedOrigin>\
     <AllowedMethod>PUT</AllowedMethod><AllowedMethod>GET</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader>\
     <AllowedHeader>Content-Type</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule>\
     <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>HEAD</AllowedMethod></CORSRule></CORSConfiguration>";

fn routes(semantics: Semantics) -> [TestRoute; 3] {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut route = TestRoute::new(upstream.address, POLICY);
    route.options = Options {
        semantics,
        ..Options::default()
    };
    let mut transparent = TestRoute::transparent(upstream.address);
    transparent.hosts = vec!["plain.example"];
    let mut without = TestRoute::new(upstream.address, "");
    without.hosts = vec!["without.example"];
    without.cors = None;
    [route, transparent, without]
}

fn proxy(semantics: Semantics) -> TestProxy {
    TestProxy::start(&routes(semantics))
}

/// A response without the parts that differ between requests.
fn answer(client: &mut RawClient) -> (u16, Vec<(String, String)>, String, bool) {
    let response = client.receive("OPTIONS");
    let id = response
        .values("x-amz-request-id")
        .first()
        .copied()
        .unwrap_or("-")
        .to_owned();
    let mut fields: Vec<_> = response
        .headers
        .iter()
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().replace(&id, "ID")))
        .collect();
    fields.sort();
    assert!(response.headers.contains_key("date"));
    let closes = response.values("connection") == ["close"];
    (
        response.status,
        fields,
        response.text().replace(&id, "ID"),
        closes,
    )
}

fn differ(proxy: SocketAddr, request: &str) -> Result<(), TestCaseError> {
    let requests = [
        format!("{request}\r\n"),
        format!("{request}Connection: x-nothing\r\n\r\n"),
    ];
    let mut clients = [proxy, proxy].map(RawClient::connect);
    for (client, request) in clients.iter_mut().zip(&requests) {
        client.send(request);
    }
    let [edge, hyper] = clients.each_mut().map(answer);
    prop_assert_eq!(&edge, &hyper, "{}", request);
    if edge.3 {
        prop_assert!(clients.iter_mut().all(RawClient::is_closed));
    }
    Ok(())
}

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(values)
}

prop_compose! {
    fn requests()(
        method in one_of(&["OPTIONS", "OPTIONS", "OPTIONS", "OPTIONS", "options"]),
        target in one_of(&["/", "/k", "/a%2Fb//c?x=%20&acl", "/k?q#f", "/\"k", "http://photos.example/k", "*"]),
        version in one_of(&["1.1", "1.1", "1.1", "1.0"]),
        host in one_of(&["photos.example", "photos.example", "Photos.Example:80", "plain.example", "without.example", "other.example", "a b", ""]),
        fields in prop::collection::vec(prop_oneof![
            4 => one_of(&["https://app.example", "https://a.app.example", "null", "https://evil.example", "a,b", "a b", "h\u{e9}", ""])
                .prop_map(|value| ("Origin", value)),
            4 => one_of(&["PUT", "GET", "HEAD", "DELETE", "PATCH", "put", "", "P T"])
                .prop_map(|value| ("Access-Control-Request-Method", value)),
            3 => one_of(&["x-amz-date", "Content-Type,x-amz-a", "cookie", "a,,b ,", "a b", "", "*"])
                .prop_map(|value| ("access-control-request-HEADERS", value)),
            1 => one_of(&["keep-alive", "close", "upgrade", "origin"]).prop_map(|value| ("Connection", value)),
            1 => Just(("Content-Length", "0")),
            1 => Just(("Expect", "100-continue")),
            1 => Just(("Accept", "*/*")),
            1 => Just(("X-Odd", "\u{e9}")),
        ], 0..7),
    ) -> String {
        let mut request = format!("{method} {target} HTTP/{version}\r\nHost: {host}\r\n");
        for (name, value) in fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request
    }
}

#[test]
fn the_edge_and_hyper_agree() {
    for semantics in [Semantics::Safe, Semantics::S3Exact] {
        let proxy = proxy(semantics);
        let cases = std::env::var("S3CORS_EDGE_CASES").ok();
        let cases = cases.map_or(300, |cases| cases.parse().unwrap());
        let mut runner = TestRunner::new(Config {
            failure_persistence: None,
            ..Config::with_cases(cases)
        });
        let same = |request: String| differ(proxy.address, &request);
        runner.run(&requests(), same).unwrap();
    }
}

const ALLOWED: &str = "OPTIONS /k HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://app.example\r\n\
     Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: X-Amz-Date,content-type\r\n\r\n";

#[test]
fn pipelined_preflights_are_answered_in_order() {
    let proxy = proxy(Semantics::Safe);
    let mut client = RawClient::connect(proxy.address);
    let refused = ALLOWED.replace("PUT", "DELETE");
    let get = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";
    client.send(format!("{ALLOWED}{refused}{get}{ALLOWED}"));
    let statuses =
        ["OPTIONS", "OPTIONS", "GET", "OPTIONS"].map(|method| client.receive(method).status);
    assert_eq!(statuses, [200, 403, 200, 200]);
    assert_eq!(
        client
            .send(&ALLOWED[..50])
            .send(&ALLOWED[50..])
            .receive("OPTIONS")
            .status,
        200
    );
}

#[test]
fn responses_of_the_edge_are_counted() {
    let proxy = proxy(Semantics::Safe);
    let mut client = RawClient::connect(proxy.address);
    for request in [ALLOWED, &ALLOWED.replace("app.", "evil.")] {
        client.send(request).receive("OPTIONS");
    }
    let metrics = proxy.metrics.encode();
    for line in [
        "s3cors_requests_total{route=\"photos.example\",method=\"OPTIONS\",status=\"200\"} 1",
        "s3cors_requests_total{route=\"photos.example\",method=\"OPTIONS\",status=\"403\"} 1",
        "s3cors_cors_decisions_total{route=\"photos.example\",request=\"preflight\",outcome=\"allowed\",reason=\"matched\"} 1",
        "s3cors_cors_decisions_total{route=\"photos.example\",request=\"preflight\",outcome=\"denied\",reason=\"method\"} 1",
        "s3cors_allowed_origins_total{route=\"photos.example\",origin=\"https://app.example\"} 1",
        "s3cors_denied_origins_total{route=\"photos.example\",origin=\"https://evil.example\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn a_preflight_with_an_unread_body_closes_the_connection() {
    let proxy = proxy(Semantics::Safe);
    let with = |field: &str| ALLOWED.replace("Origin:", &format!("{field}\r\nOrigin:"));
    for (head, body) in [
        (with("Content-Length: 4"), ""),
        (with("Content-Length: 4"), "body"),
        (with("Transfer-Encoding: chunked"), ""),
        (with("Content-Length: 4").replace("PUT", "DELETE"), "bo"),
    ] {
        let mut client = RawClient::connect(proxy.address);
        let response = client.send(format!("{head}{body}")).receive("OPTIONS");
        assert!(matches!(response.status, 200 | 403), "{head}{body}");
        assert_eq!(response.values("connection"), ["close"], "{head}{body}");
        assert!(client.is_closed(), "{head}{body}");
    }
    let mut client = RawClient::connect(proxy.address);
    for _ in 0..2 {
        let response = client.send(with("Content-Length: 0")).receive("OPTIONS");
        assert!(response.values("connection").is_empty());
    }
}

#[test]
fn a_silent_client_is_cut_at_the_head_timeout() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let limits = Limits {
        head_read: Duration::from_millis(100),
        // Longer than any test takes.
        keep_alive_idle: Duration::from_secs(600),
        ..Limits::default()
    };
    let routes = [TestRoute::transparent(upstream.address)];
    let proxy = TestProxy::with_limits(&routes, limits);
    for words in ["", "\r\n", "\r\n\r\n"] {
        // Empty lines do not count (RFC 9112 §2.2).
        let mut client = RawClient::connect(proxy.address);
        assert!(client.send(words).is_closed(), "{words:?}");
    }
}

#[test]
fn a_connection_ends_after_its_maximum_number_of_requests() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let limits = Limits {
        requests_per_connection: 2,
        ..Limits::default()
    };
    let proxy = TestProxy::with_limits(&[TestRoute::new(upstream.address, POLICY)], limits);
    let plain = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";
    let odd = "GET /k HTTP/1.1\r\nHost: photos.example\r\nTE: trailers\r\n\r\n";
    for last in [plain, odd, ALLOWED] {
        let mut client = RawClient::connect(proxy.address);
        // A head in two pieces is one request.
        let first = client.send(&plain[..20]).send(&plain[20..]).receive("GET");
        assert!(first.values("connection").is_empty());
        let method = last.split(' ').next().unwrap();
        let response = client.send(last).receive(method);
        assert_eq!(
            (response.status, response.values("connection")),
            (200, vec!["close"]),
            "{last}"
        );
        assert!(client.is_closed());
    }
}
