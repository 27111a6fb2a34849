//! A request that storage servers could read as different buckets has no policy; it is forwarded
//! unchanged.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use s3cors::cors::{Options, Semantics};
use s3cors::routing::bucket::Addressing;

use crate::http2;
use crate::support::client::{RawClient, RawResponse, ask};
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::{MockUpstream, Recorded};

/// The foreign origin: only bucket `open`, and buckets without their own policy, allow it.
const FOREIGN: &str = "https://foreign.example";

/// The upstream's CORS fields must not reach any client.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nVary: Accept-Encoding\r\n\
     Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n\r\nsecret";

fn policy(origin: &str) -> String {
    format!(
        "<CORSConfiguration><CORSRule><AllowedOrigin>{origin}</AllowedOrigin>\
         <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>"
    )
}

fn proxy(upstream: &MockUpstream, addressing: Addressing, semantics: Semantics) -> TestProxy {
    let mut route = TestRoute::new(upstream.address, &policy("*"));
    route.hosts = vec!["s3.example", "*.s3.example"];
    route.buckets = Some((
        addressing,
        vec![
            ("open", policy(FOREIGN)),
            ("secret", policy("https://app.example")),
        ],
    ));
    route.options = Options {
        semantics,
        ..Options::default()
    };
    TestProxy::start(&[route])
}

/// Requests for an object of bucket `secret` to some storage server, although the path or the
/// host also looks like bucket `open`, or like one without its own policy.
const AMBIGUOUS: &[(&str, &str)] = &[
    ("open.s3.example.", "/secret/s.txt"),
    ("OPEN.s3.example", "/secret/s.txt"),
    ("Open.S3.Example.", "/secret/s.txt"),
    ("open.s3.example.:8080", "/secret/s.txt"),
    ("open.s3.example:", "/secret/s.txt"),
    ("open.s3.example:080", "/secret/s.txt"),
    ("open..s3.example", "/secret/s.txt"),
    ("other..s3.example", "/secret/s.txt"),
    ("s3.example.", "/open/s.txt"),
    ("S3.EXAMPLE", "/open/s.txt"),
    ("s3.example", "/open/..%2fsecret/s.txt"),
    ("s3.example", "/open/../secret/s.txt"),
    ("s3.example", "/open/%2e%2e/secret/s.txt"),
    ("s3.example", "/open%2f..%2fsecret%2fs.txt"),
    ("s3.example", "/open/..%5csecret/s.txt"),
    ("s3.example", "/secret%2fs.txt"),
    ("s3.example", "//secret/s.txt"),
    ("s3.example", "/%2fsecret/s.txt"),
    ("s3.example", "/./secret/s.txt"),
    ("s3.example", "/%2e/secret/s.txt"),
    ("s3.example", "/secret%00/s.txt"),
    ("s3.example", "/secret;a/s.txt"),
    ("s3.example", "/secret%252fs.txt"),
    ("open.s3.example", "/..%2fsecret/s.txt"),
    ("open.s3.example", "/../secret/s.txt"),
    ("open.s3.example", "//secret.s3.example/s.txt"),
];

/// Targets that only some parsers accept, and the HTTP/2 client here rejects.
const WITH_BACKSLASH: &[(&str, &str)] = &[
    ("s3.example", "/open\\..\\secret\\s.txt"),
    ("s3.example", "/open/..\\secret/s.txt"),
    ("s3.example", "/\\secret/s.txt"),
];

/// Unambiguous requests: which origin the response allows.
const PLAIN: &[(&str, &str, Option<&str>)] = &[
    ("s3.example", "/open/o.txt", Some(FOREIGN)),
    ("s3.example:8080", "/open/o.txt", Some(FOREIGN)),
    ("s3.example", "/open", Some(FOREIGN)),
    ("s3.example", "/op%65n/o.txt", Some(FOREIGN)),
    ("open.s3.example", "/o.txt", Some(FOREIGN)),
    ("open.s3.example:80", "/o.txt", Some(FOREIGN)),
    ("open.s3.example", "/a%2Fb//..c/d../%2e.x", Some(FOREIGN)),
    (
        "s3.example",
        "/open/a%2Fb//..c/d../100%25/%E3%83%86;v=1",
        Some(FOREIGN),
    ),
    ("s3.example", "/other/o.txt", Some("*")),
    ("other.s3.example", "/o.txt", Some("*")),
    ("s3.example", "/secret/s.txt", None),
    ("secret.s3.example", "/s.txt", None),
];

const PREFLIGHT: [(&str, &str); 2] = [
    ("Origin", FOREIGN),
    ("Access-Control-Request-Method", "PUT"),
];

fn allowed_origin(response: &RawResponse) -> Option<&str> {
    let values = response.values("access-control-allow-origin");
    assert!(values.len() <= 1, "{values:?}");
    values.first().copied()
}

fn assert_forwarded_unchanged(request: &Recorded, host: &str, path: &str) {
    assert_eq!(request.line(), format!("GET {path} HTTP/1.1"));
    assert_eq!(request.values("host"), [host]);
}

#[test]
fn an_ambiguous_request_is_under_no_policy_and_forwarded_as_it_came() {
    let upstream = MockUpstream::answering(ANSWER);
    let proxy = proxy(&upstream, Addressing::Both, Semantics::Safe);
    // Without and with a field that `Connection` lists.
    for way in [None, Some(("Connection", "x-none"))] {
        for (host, path) in AMBIGUOUS.iter().chain(WITH_BACKSLASH) {
            let fields: Vec<_> = [("Host", *host)].into_iter().chain(way).collect();
            let preflight = [fields.as_slice(), &PREFLIGHT].concat();
            let refused = ask(proxy.address, "OPTIONS", path, &preflight);
            assert_eq!(refused.status, 403, "{host} {path}");
            let text = refused.text();
            assert!(
                text.contains("CORS is not enabled for this bucket."),
                "{text}"
            );
            assert_eq!(allowed_origin(&refused), None, "{host} {path}");

            let seen = upstream.requests().len();
            let actual = [fields.as_slice(), &[("Origin", FOREIGN)]].concat();
            let actual = ask(proxy.address, "GET", path, &actual);
            assert_eq!((actual.status, actual.text()), (200, "secret".to_owned()));
            let names = actual.headers.keys();
            let cors: Vec<_> = names
                .filter(|name| name.as_str().starts_with("access-control-"))
                .collect();
            assert!(cors.is_empty(), "{host} {path}: {cors:?}");
            let requests = upstream.requests();
            assert_eq!(requests.len(), seen + 1, "a preflight is never forwarded");
            assert_forwarded_unchanged(&requests[seen], host, path);
        }
    }
}

#[test]
fn an_ambiguous_request_of_http2_is_under_no_policy() {
    let upstream = MockUpstream::answering(ANSWER);
    let proxy = proxy(&upstream, Addressing::Both, Semantics::Safe);
    http2::on_one_thread(async {
        let mut client = http2::connect(proxy.address).await;
        for (host, path) in AMBIGUOUS {
            let request = |method| {
                Request::builder()
                    .method(method)
                    .uri(format!("http://{host}{path}"))
                    .header("origin", FOREIGN)
            };
            let actual = request("GET").body(Full::<Bytes>::default()).unwrap();
            let preflight = request("OPTIONS").header("access-control-request-method", "PUT");
            let preflight = preflight.body(Full::default()).unwrap();
            let refused = client.send_request(preflight).await.unwrap();
            assert_eq!(refused.status(), 403, "{host} {path}");
            let actual = client.send_request(actual).await.unwrap();
            assert_eq!(actual.status(), 200, "{host} {path}");
            for response in [&refused, &actual] {
                let allowed = response.headers().get("access-control-allow-origin");
                assert_eq!(allowed, None, "{host} {path}");
            }
            let requests = upstream.requests();
            assert_forwarded_unchanged(requests.last().unwrap(), host, path);
        }
    });
}

#[test]
fn a_plain_request_is_under_the_policy_of_its_bucket() {
    let upstream = MockUpstream::answering(ANSWER);
    let proxy = proxy(&upstream, Addressing::Both, Semantics::Safe);
    for way in [None, Some(("Connection", "x-none"))] {
        for (host, path, allowed) in PLAIN {
            let fields: Vec<_> = [("Host", *host)].into_iter().chain(way).collect();
            let preflight = [fields.as_slice(), &PREFLIGHT].concat();
            let preflight = ask(proxy.address, "OPTIONS", path, &preflight);
            let actual = [fields.as_slice(), &[("Origin", FOREIGN)]].concat();
            let actual = ask(proxy.address, "GET", path, &actual);
            for response in [&preflight, &actual] {
                assert_eq!(allowed_origin(response), *allowed, "{host} {path}");
            }
        }
    }
}

/// The target of an absolute form names the host, whatever `Host` says (RFC 9112 §3.2.2).
#[test]
fn the_host_of_an_absolute_target_counts() {
    let upstream = MockUpstream::answering(ANSWER);
    let proxy = proxy(&upstream, Addressing::Both, Semantics::Safe);
    for (authority, host, allowed) in [
        ("open.s3.example", "open.s3.example.", Some(FOREIGN)),
        ("open.s3.example", "secret.s3.example", Some(FOREIGN)),
        ("open.s3.example.", "open.s3.example", None),
        ("OPEN.s3.example", "open.s3.example", None),
        ("secret.s3.example", "open.s3.example", None),
    ] {
        let request = format!(
            "GET http://{authority}/k HTTP/1.1\r\nHost: {host}\r\nOrigin: {FOREIGN}\r\n\r\n"
        );
        let mut client = RawClient::connect(proxy.address);
        let response = client.send(request).receive("GET");
        assert_eq!(allowed_origin(&response), allowed, "{authority} {host}");
        let requests = upstream.requests();
        assert_eq!(requests.last().unwrap().values("host"), [authority]);
    }
}

/// A cache that takes two spellings of a URL for one, or that merges slashes, must not serve the
/// bare response to an origin that the policy allows: it varies like any other response.
#[test]
fn a_response_without_a_policy_varies_by_origin_unless_as_s3() {
    let upstream = MockUpstream::answering(ANSWER);
    for (semantics, preflight, actual) in [
        (
            Semantics::Safe,
            Some("Origin, Access-Control-Request-Headers, Access-Control-Request-Method"),
            "Accept-Encoding, Origin",
        ),
        (Semantics::S3Exact, None, "Accept-Encoding"),
    ] {
        let proxy = proxy(&upstream, Addressing::Both, semantics);
        for (host, path) in [("open.s3.example.", "/k"), ("s3.example", "//open/k")] {
            let fields = [&[("Host", host)], &PREFLIGHT[..]].concat();
            let refused = ask(proxy.address, "OPTIONS", path, &fields);
            assert_eq!(refused.values("vary").first().copied(), preflight, "{host}");
            for origin in [FOREIGN, "https://app.example", ""] {
                let fields = [("Host", host), ("Origin", origin)];
                let response = ask(proxy.address, "GET", path, &fields);
                assert_eq!(response.values("vary"), [actual], "{host} {origin}");
            }
        }
    }
}

/// A store reads the path where the host names no bucket: the route's policy must not cover a
/// bucket that has its own.
#[test]
fn a_host_without_a_bucket_gives_no_access_to_one_in_the_path() {
    let upstream = MockUpstream::answering(ANSWER);
    let proxy = proxy(&upstream, Addressing::Host, Semantics::Safe);
    for (host, path, allowed) in [
        ("s3.example", "/", Some("*")),
        ("s3.example", "/other/k", Some("*")),
        ("s3.example", "/secret/s.txt", None),
        ("s3.example", "/open/o.txt", None),
        ("s3.example", "/secret%2fs.txt", None),
        ("s3.example.", "/", None),
        ("open.s3.example", "/secret/s.txt", Some(FOREIGN)),
    ] {
        let fields = [("Host", host), ("Origin", FOREIGN)];
        let response = ask(proxy.address, "GET", path, &fields);
        assert_eq!(allowed_origin(&response), allowed, "{host} {path}");
    }
}

/// Without buckets, one policy covers the whole host: how its paths are read does not matter.
#[test]
fn a_route_without_buckets_has_its_policy_for_every_path_and_spelling() {
    let upstream = MockUpstream::answering(ANSWER);
    let mut route = TestRoute::new(upstream.address, &policy("*"));
    route.hosts = vec!["s3.example", "*.s3.example"];
    let proxy = TestProxy::start(&[route]);
    for (host, path) in AMBIGUOUS {
        let fields = [("Host", *host), ("Origin", FOREIGN)];
        let response = ask(proxy.address, "GET", path, &fields);
        assert_eq!(allowed_origin(&response), Some("*"), "{host} {path}");
    }
}
