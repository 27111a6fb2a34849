//! What reaches the upstream, and what comes back.

use crate::support::client::{RawClient, ask};
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::{MockUpstream, refusing};

use std::time::Duration;

use s3cors::cors::{Options, Semantics};
use s3cors::routing::bucket::Addressing;
use s3cors::routing::snapshot::{Forwarding, HostHeader};
use s3cors::upstream::endpoint::Timeouts;

const ORIGIN: &str = "https://app.example";

fn policy() -> String {
    policy_for(ORIGIN)
}

fn policy_for(origin: &str) -> String {
    format!(
        "<CORSConfiguration><CORSRule><AllowedOrigin>{origin}</AllowedOrigin>\
         <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod>\
         <AllowedHeader>*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>\
         <MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>"
    )
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn path_query_and_host_reach_the_upstream_byte_for_byte() {
    let upstream = MockUpstream::answering(OK);
    let mut route = TestRoute::new(upstream.address, &policy());
    route.hosts = vec!["*"];
    let proxy = TestProxy::start(&[route]);
    let targets = [
        "/a%2Fb//c?x=%20&acl",
        "//",
        "/./a/../b",
        "/a+b%20c?list-type=2&prefix=a+b%2B",
        "/?acl",
        "/%e4%bd%a0?%",
        "/a;b=c,d@e:f!$&'()*+=~_-.|^{}[]",
        "/a`<b>?\"c\"",
        "/a?b?c=/?&&=",
    ];
    for (index, target) in targets.into_iter().enumerate() {
        let response = ask(
            proxy.address,
            "GET",
            target,
            &[("Host", "Photos.Example:8080")],
        );
        assert_eq!(
            (response.status, response.text()),
            (200, "ok".into()),
            "{target}"
        );
        let request = upstream.requests()[index].clone();
        assert_eq!(request.line(), format!("GET {target} HTTP/1.1"));
        assert_eq!(request.values("host"), ["Photos.Example:8080"]);
    }
    // One connection, used repeatedly.
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn max_forwards_limits_trace_and_options() {
    let upstream = MockUpstream::answering(OK);
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let ask = |method, hops| {
        let fields = [("Origin", ORIGIN), ("Max-Forwards", hops)];
        ask(proxy.address, method, "/k", &fields)
    };
    for (method, status, hops) in [("TRACE", 405, "0"), ("OPTIONS", 200, "0")] {
        let response = ask(method, hops);
        assert_eq!(response.status, status, "{method}");
        assert_eq!(response.values("allow").len(), 1, "{method}");
        assert!(!response.text().contains("Max-Forwards"), "{method}");
        assert_eq!(response.values("vary"), ["Origin"], "{method}");
    }
    assert!(upstream.requests().is_empty());
    for method in ["TRACE", "OPTIONS"] {
        assert_eq!(ask(method, "3").status, 200, "{method}");
    }
    for request in upstream.requests() {
        assert_eq!(request.values("max-forwards"), ["2"]);
    }
}

#[test]
fn connection_fields_are_removed_and_via_is_added() {
    let upstream = MockUpstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\n\
         X-Hop: 1\r\nX-Kept: 1\r\n\r\n",
    );
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let response = ask(
        proxy.address,
        "GET",
        "/",
        &[
            ("Connection", "X-Private, Origin"),
            ("X-Private", "1"),
            ("Origin", ORIGIN),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "trailers, deflate"),
            ("Upgrade", "h2c"),
            ("X-Kept", "1"),
        ],
    );
    let request = upstream.request();
    for gone in ["x-private", "proxy-connection", "upgrade", "keep-alive"] {
        assert!(request.values(gone).is_empty(), "{gone}: {}", request.head);
    }
    assert_eq!(request.values("origin"), [ORIGIN]);
    assert_eq!(request.values("x-kept"), ["1"]);
    assert_eq!(request.values("te"), ["trailers"]);
    assert_eq!(request.values("via"), ["1.1 s3cors"]);
    for gone in ["x-hop", "keep-alive"] {
        assert!(response.values(gone).is_empty(), "{gone}");
    }
    assert_eq!(response.values("x-kept"), ["1"]);
    assert_eq!(response.values("via"), ["1.1 s3cors"]);
    assert_eq!(response.values("access-control-allow-origin"), [ORIGIN]);
}

/// [RFC 9112 §2.3](https://www.rfc-editor.org/rfc/rfc9112#section-2.3): an intermediary sends its
/// own version.
#[test]
fn the_upstreams_http_version_is_not_forwarded() {
    let upstream = MockUpstream::answering("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let mut client = RawClient::connect(proxy.address);
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: photos.example\r\n\r\n");
        // On one connection, which stays open as in HTTP/1.1.
        assert_eq!(client.bytes(17), b"HTTP/1.1 200 OK\r\n");
        assert!(client.fields().unwrap().contains_key("via"));
    }
    let mut old = RawClient::connect(proxy.address);
    old.send("GET / HTTP/1.0\r\nHost: photos.example\r\n\r\n");
    // An old client, too, gets our own version (RFC 9110 §2.5).
    assert_eq!(old.bytes(17), b"HTTP/1.1 200 OK\r\n");
}

#[test]
fn the_upstreams_cors_fields_are_replaced_on_every_status() {
    for status in [200, 204, 206, 301, 304, 403, 404, 500, 503] {
        let upstream = MockUpstream::answering(format!(
            "HTTP/1.1 {status} X\r\nAccess-Control-Allow-Origin: *\r\n\
             Access-Control-Allow-Origin: https://evil.example\r\n\
             Access-Control-Allow-Credentials: true\r\nVary: Accept-Encoding, origin\r\n{}\r\n",
            if matches!(status, 204 | 304) {
                ""
            } else {
                "Content-Length: 0\r\n"
            }
        ));
        let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
        let allowed = ask(proxy.address, "GET", "/k", &[("Origin", ORIGIN)]);
        assert_eq!(allowed.status, status);
        assert_eq!(allowed.values("access-control-allow-origin"), [ORIGIN]);
        assert_eq!(allowed.values("access-control-allow-credentials"), ["true"]);
        assert_eq!(allowed.values("access-control-expose-headers"), ["ETag"]);
        assert_eq!(
            allowed.values("vary"),
            [
                "Accept-Encoding, origin, Access-Control-Request-Headers, Access-Control-Request-Method"
            ]
        );
        for fields in [&[][..], &[("Origin", "https://evil.example")]] {
            let refused = ask(proxy.address, "GET", "/k", fields);
            assert_eq!(refused.status, status);
            assert!(refused.values("access-control-allow-origin").is_empty());
            assert!(
                refused
                    .values("access-control-allow-credentials")
                    .is_empty()
            );
            assert_eq!(refused.values("vary"), ["Accept-Encoding, origin"]);
        }
    }
}

#[test]
fn a_preflight_never_reaches_the_upstream() {
    let upstream = MockUpstream::answering(OK);
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let preflight = |origin| {
        ask(
            proxy.address,
            "OPTIONS",
            "/k",
            &[
                ("Origin", origin),
                ("Access-Control-Request-Method", "PUT"),
                ("Access-Control-Request-Headers", "Content-Type,x-amz-date"),
            ],
        )
    };
    let allowed = preflight(ORIGIN);
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.values("content-length"), ["0"]);
    assert_eq!(
        allowed.values("access-control-allow-headers"),
        ["content-type, x-amz-date"]
    );
    assert_eq!(allowed.values("access-control-max-age"), ["60"]);
    let refused = preflight("https://evil.example");
    assert_eq!(refused.status, 403);
    assert_eq!(refused.values("content-type"), ["application/xml"]);
    assert!(
        refused.text().contains("<Code>AccessForbidden</Code>"),
        "{}",
        refused.text()
    );
    let id = refused.values("x-amz-request-id")[0].to_owned();
    assert!(
        refused
            .text()
            .contains(&format!("<RequestId>{id}</RequestId>"))
    );
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_transparent_route_touches_no_cors_field() {
    let upstream = MockUpstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAccess-Control-Allow-Origin: *\r\nVary: Cookie\r\n\r\n",
    );
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let response = ask(
        proxy.address,
        "OPTIONS",
        "/k",
        &[("Origin", ORIGIN), ("Access-Control-Request-Method", "PUT")],
    );
    assert_eq!(response.values("access-control-allow-origin"), ["*"]);
    assert_eq!(response.values("vary"), ["Cookie"]);
    assert_eq!(upstream.request().method(), "OPTIONS");
}

#[test]
fn each_bucket_has_its_policy_by_path_or_by_host() {
    let upstream = MockUpstream::answering(OK);
    for (addressing, in_bucket, elsewhere) in [
        (
            Addressing::Path,
            ("s3.example", "/photos/k"),
            ("s3.example", "/other/k"),
        ),
        (
            Addressing::Host,
            ("photos.s3.example", "/k"),
            ("other.s3.example", "/k"),
        ),
    ] {
        let mut route = TestRoute::new(upstream.address, "");
        route.hosts = vec!["s3.example", "*.s3.example"];
        route.cors = None;
        route.buckets = Some((addressing, vec![("photos", policy())]));
        let proxy = TestProxy::start(&[route]);
        let preflight = |(host, path)| {
            ask(
                proxy.address,
                "OPTIONS",
                path,
                &[
                    ("Host", host),
                    ("Origin", ORIGIN),
                    ("Access-Control-Request-Method", "PUT"),
                ],
            )
        };
        assert_eq!(preflight(in_bucket).status, 200, "{addressing:?}");
        let refused = preflight(elsewhere);
        assert_eq!(refused.status, 403);
        assert!(
            refused
                .text()
                .contains("CORS is not enabled for this bucket."),
            "{}",
            refused.text()
        );
        let (host, path) = elsewhere;
        let actual = ask(
            proxy.address,
            "GET",
            path,
            &[("Host", host), ("Origin", ORIGIN)],
        );
        assert_eq!(actual.status, 200);
        assert!(actual.values("access-control-allow-origin").is_empty());
    }
}

#[test]
fn an_unknown_host_gets_421_and_its_preflights_s3s_error() {
    let upstream = MockUpstream::answering(OK);
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let actual = ask(proxy.address, "GET", "/", &[("Host", "other.example")]);
    assert_eq!(actual.status, 421);
    let preflight = ask(
        proxy.address,
        "OPTIONS",
        "/",
        &[
            ("Host", "other.example"),
            ("Origin", ORIGIN),
            ("Access-Control-Request-Method", "GET"),
        ],
    );
    assert_eq!(preflight.status, 403);
    assert!(preflight.text().contains("CORSResponse: Bucket not found"));
    assert!(upstream.requests().is_empty());
}

#[test]
fn options_other_than_preflights_is_forwarded_unless_s3_exact() {
    let upstream = MockUpstream::answering(OK);
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let response = ask(proxy.address, "OPTIONS", "/k", &[("Origin", ORIGIN)]);
    assert_eq!(
        (response.status, upstream.request().method()),
        (200, "OPTIONS")
    );

    let mut exact = TestRoute::new(upstream.address, &policy());
    exact.options = Options {
        semantics: Semantics::S3Exact,
        ..Options::default()
    };
    let proxy = TestProxy::start(&[exact]);
    let mut client = RawClient::connect(proxy.address);
    let response = client
        .send("OPTIONS /k HTTP/1.1\r\nHost: photos.example\r\n\r\n")
        .receive("OPTIONS");
    assert_eq!(response.status, 400);
    assert_eq!(response.values("connection"), ["close"]);
    assert!(client.is_closed());
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn the_proxys_own_error_is_readable_by_the_allowed_origin_only() {
    let proxy = TestProxy::start(&[TestRoute::new(refusing(), &policy())]);
    let allowed = ask(proxy.address, "GET", "/k", &[("Origin", ORIGIN)]);
    assert_eq!(allowed.status, 502);
    assert_eq!(allowed.values("access-control-allow-origin"), [ORIGIN]);
    assert!(
        allowed.text().contains("<Code>BadGateway</Code>"),
        "{}",
        allowed.text()
    );
    let refused = ask(
        proxy.address,
        "GET",
        "/k",
        &[("Origin", "https://evil.example")],
    );
    assert_eq!(refused.status, 502);
    assert!(refused.values("access-control-allow-origin").is_empty());
    assert_eq!(refused.values("vary"), ["Origin"]);
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    let upstream = MockUpstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-Sum: 42\r\n\r\n",
    );
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let mut client = RawClient::connect(proxy.address);
    client.send(
        "PUT /k HTTP/1.1\r\nHost: photos.example\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
         Trailer: X-Amz-Checksum\r\n\r\n3\r\nabc\r\n0\r\nX-Amz-Checksum: 1\r\n\r\n",
    );
    let response = client.receive("PUT");
    assert_eq!(response.text(), "hello world");
    assert_eq!(response.trailers["x-sum"], "42");
    let request = upstream.request();
    let body = String::from_utf8(request.body.clone()).unwrap();
    assert_eq!(
        body.to_ascii_lowercase(),
        "3\r\nabc\r\n0\r\nx-amz-checksum: 1\r\n\r\n"
    );

    client
        .send("PUT /k HTTP/1.1\r\nHost: photos.example\r\nContent-Length: 3\r\n\r\nabc")
        .receive("PUT");
    assert_eq!(upstream.requests()[1].body, b"abc");
    assert_eq!(upstream.requests()[1].values("content-length"), ["3"]);
}

#[test]
fn expect_100_waits_for_the_upstreams_100() {
    let upstream = MockUpstream::scripted(false, |exchange| {
        assert_eq!(exchange.request.values("expect"), ["100-continue"]);
        exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = exchange.read(3);
        exchange.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        exchange.send(body);
        true
    });
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let mut client = RawClient::connect(proxy.address);
    client.send("PUT /k HTTP/1.1\r\nHost: photos.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.head().0, 100);
    assert_eq!(client.send("abc").receive("PUT").text(), "abc");
}

#[test]
fn a_refusal_instead_of_100_reaches_the_client_without_the_body_being_sent() {
    let upstream = MockUpstream::scripted(false, |exchange| {
        exchange.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        // No part of the body comes: the next bytes are the end.
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(exchange.stream, &mut rest);
        assert!(rest.is_empty(), "{rest:?}");
        false
    });
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let mut client = RawClient::connect(proxy.address);
    client.send(
        "PUT /k HTTP/1.1\r\nHost: photos.example\r\nExpect: 100-continue\r\n\
         Origin: https://app.example\r\nContent-Length: 3\r\n\r\n",
    );
    let response = client.receive("PUT");
    assert_eq!(response.status, 403);
    assert_eq!(response.values("access-control-allow-origin"), [ORIGIN]);
}

#[test]
fn a_body_is_released_for_an_upstream_that_never_says_100() {
    let upstream = MockUpstream::answering(OK);
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let mut client = RawClient::connect(proxy.address);
    client.send("PUT /k HTTP/1.1\r\nHost: photos.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.head().0, 100);
    assert_eq!(client.send("abc").receive("PUT").status, 200);
    assert_eq!(upstream.request().body, b"abc");
}

/// Responses to upgrade requests must follow the same rules as others.
#[test]
fn a_response_to_an_upgrade_follows_the_same_rules() {
    for (answer, status) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
            200,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
            502,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok".to_owned(),
            502,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20)
                + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            502,
        ),
    ] {
        let upstream = MockUpstream::answering(answer.clone());
        let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
        let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
        let response = ask(proxy.address, "GET", "/socket", &fields);
        assert_eq!(response.status, status, "{answer}");
    }
}

#[test]
fn an_upgrade_is_a_tunnel() {
    let upstream = MockUpstream::scripted(false, |exchange| {
        assert_eq!(exchange.request.values("upgrade"), ["websocket"]);
        assert_eq!(exchange.request.values("connection"), ["upgrade"]);
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        );
        let ping = exchange.read(4);
        exchange.send(ping);
        false
    });
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let mut client = RawClient::connect(proxy.address);
    client.send(
        "GET /socket HTTP/1.1\r\nHost: photos.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let (status, fields) = client.head();
    assert_eq!(
        (status, &fields["upgrade"]),
        (101, &"websocket".parse().unwrap())
    );
    assert_eq!(client.bytes(5), b"hello");
    assert_eq!(client.send("ping").bytes(4), b"ping");
    assert!(client.is_closed());
}

#[test]
fn the_clients_address_is_sent_if_configured_and_cannot_be_forged() {
    let upstream = MockUpstream::answering(OK);
    let mut route = TestRoute::new(upstream.address, &policy());
    route.forwarding = Forwarding {
        via: false,
        x_forwarded: true,
        forwarded: true,
        x_real_ip: false,
    };
    let proxy = TestProxy::start(&[route]);
    ask(
        proxy.address,
        "GET",
        "/",
        &[("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6")],
    );
    let request = upstream.request();
    assert_eq!(request.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.values("x-forwarded-proto"), ["http"]);
    assert_eq!(request.values("x-forwarded-host"), ["photos.example"]);
    assert_eq!(
        request.values("forwarded"),
        ["for=127.0.0.1;proto=http;host=\"photos.example\""]
    );
    assert!(request.values("via").is_empty());
}

#[test]
fn the_upstream_can_get_its_own_host() {
    let upstream = MockUpstream::answering(OK);
    let mut route = TestRoute::new(upstream.address, &policy());
    route.host_header = HostHeader::Upstream;
    let proxy = TestProxy::start(&[route]);
    ask(proxy.address, "GET", "/", &[]);
    assert_eq!(
        upstream.request().values("host"),
        [upstream.address.to_string()]
    );
}

#[test]
fn a_stale_connection_is_replaced_for_the_client() {
    // Responds once, and closes without announcing it.
    let upstream = MockUpstream::scripted(true, |exchange| {
        exchange.send(OK);
        false
    });
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
    let mut client = RawClient::connect(proxy.address);
    for _ in 0..50 {
        client.send("GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n");
        assert_eq!(client.receive("GET").status, 200);
    }
}

#[test]
fn several_upstreams_share_the_load_and_replace_each_other() {
    let upstreams = [MockUpstream::answering(OK), MockUpstream::answering(OK)];
    let mut route = TestRoute::new(refusing(), &policy());
    route
        .upstreams
        .extend(upstreams.iter().map(|upstream| upstream.address));
    let proxy = TestProxy::start(&[route]);
    for _ in 0..20 {
        assert_eq!(ask(proxy.address, "GET", "/k", &[]).status, 200);
    }
    let seen: usize = upstreams
        .iter()
        .map(|upstream| upstream.requests().len())
        .sum();
    assert_eq!(seen, 20);
}

#[test]
fn a_cut_body_is_visibly_cut() {
    for head in ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"] {
        let upstream = MockUpstream::scripted(true, move |exchange| {
            exchange.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n5\r\nhello"));
            false
        });
        let proxy = TestProxy::start(&[TestRoute::new(upstream.address, &policy())]);
        let response = ask(proxy.address, "GET", "/k", &[]);
        assert_eq!(response.status, 200);
        assert!(!response.whole, "{head}");
    }
}

#[test]
fn a_slow_upstream_gives_504_and_a_closing_one_502() {
    let slow = MockUpstream::scripted(true, |exchange| {
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(exchange.stream, &mut rest);
        false
    });
    let mut route = TestRoute::new(slow.address, &policy());
    route.timeouts = Timeouts {
        response_head: Duration::from_millis(50),
        ..Timeouts::default()
    };
    let proxy = TestProxy::start(&[route]);
    let response = ask(proxy.address, "GET", "/k", &[("Origin", ORIGIN)]);
    assert_eq!(response.status, 504);
    assert_eq!(response.values("access-control-allow-origin"), [ORIGIN]);

    for answer in ["", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let mute = MockUpstream::scripted(true, move |exchange| {
            exchange.send(answer);
            false
        });
        let proxy = TestProxy::start(&[TestRoute::new(mute.address, &policy())]);
        assert_eq!(
            ask(proxy.address, "GET", "/k", &[]).status,
            502,
            "{answer:?}"
        );
    }
}

#[test]
fn a_request_without_exactly_one_host_gets_400() {
    let upstream = MockUpstream::answering(OK);
    let mut route = TestRoute::new(upstream.address, &policy());
    route.hosts = vec!["*"];
    let proxy = TestProxy::start(&[route]);
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
        "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = RawClient::connect(proxy.address);
        assert_eq!(client.send(head).receive("GET").status, 400, "{head}");
        assert!(client.is_closed(), "{head}");
    }
    assert!(upstream.requests().is_empty());
}
