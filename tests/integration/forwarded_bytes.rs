//! A `Connection` field that lists an absent field changes nothing.
//!
//! Each request is sent twice to the same proxy: unchanged, and with such a field. The upstream
//! and the client must get the same, except for letter case of names, the order of fields and the
//! clock.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use s3cors::cors::{Options, Semantics};
use s3cors::routing::snapshot::HostHeader;
use s3cors::server::Limits;
use serde_json::Value;

use crate::support::client::RawClient;
use crate::support::proxy::{TestProxy, TestRoute, listener};
use crate::support::upstream::MockUpstream;

const POLICY: &str = "<CORSConfiguration>\
     <CORSRule><AllowedOrigin>https://*.app.example</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>\
     <AllowedMethod>GET</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>\
     <MaxAgeSeconds>60</MaxAgeSeconds></CORSRule>\
     <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>HEAD</AllowedMethod></CORSRule></CORSConfiguration>";

/// The upstream's responses, by the number in the target; the part after `|` is not for HEAD.
pub(crate) const RESPONSES: [&str; 24] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n|ok",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: \"1\"\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n|",
    "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nVary: Accept\r\nVary: origin, Cookie\r\n\r\n|none",
    "HTTP/1.1 200 OK\r\nVary: *\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Max-Age: 1\r\nContent-Length: 1\r\n\r\n|x",
    "HTTP/1.1 304 Not Modified\r\nETag: \"2\"\r\n\r\n|",
    "HTTP/1.1 204 No Content\r\n\r\n|",
    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/2\r\nContent-Length: 1\r\n\r\n|x",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n|3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n|0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n|x",
    "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\nContent-Length: 1\r\n\r\n|x",
    "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nContent-Length: 1\r\n\r\n|x",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n|x",
    "HTTP/1.1 307 Temporary Redirect\r\nLocation: /k\r\nContent-Length: 0\r\n\r\n|",
    "HTTP/1.1 200 OK\r\nX-Odd: \u{e9}\r\nX-Empty:\r\nX-Two: a\r\nX-Two: b\r\nContent-Length: 1\r\n\r\n|x",
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n|",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n|x",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n|xy",
    "garbage\r\n\r\n|",
    "HTTP/1.1 200 OK\r\nX-Bad : 1\r\nContent-Length: 1\r\n\r\n|x",
    "HTTP/1.1 204 No Content\r\nETag: \"3\"\r\nContent-Length: 0\r\nX-End: 1\r\n\r\n|",
    "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n|",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n|3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: x-a\r\nConnection: x-b\r\nX-A: 1\r\nX-B: 2\r\nContent-Length: 1\r\n\r\n|x",
];

/// An upstream whose responses depend on the target's number.
pub(crate) fn upstream() -> MockUpstream {
    MockUpstream::scripted(true, |exchange| {
        let target = exchange.request.target().to_owned();
        let number = target.trim_start_matches('/').split('?').next().unwrap();
        // `*` and the like get the first.
        let response = RESPONSES[number.parse::<usize>().unwrap_or_default()];
        let (head, body) = response.split_once('|').unwrap();
        exchange.send(head);
        if exchange.request.method() != "HEAD" {
            exchange.send(body);
        }
        !response.contains("close") && !response.contains("garbage")
    })
}

pub(crate) fn routes(upstream: &MockUpstream) -> Vec<TestRoute> {
    let policy = |host, semantics| {
        let mut route = TestRoute::new(upstream.address, POLICY);
        route.hosts = vec![host];
        route.options = Options {
            semantics,
            ..Options::default()
        };
        route
    };
    let mut transparent = TestRoute::transparent(upstream.address);
    transparent.hosts = vec!["plain.example"];
    transparent.forwarding.via = false;
    let mut without = TestRoute::new(upstream.address, "");
    (without.hosts, without.cors) = (vec!["without.example"], None);
    without.host_header = HostHeader::Upstream;
    vec![
        policy("photos.example", Semantics::Safe),
        policy("exact.example", Semantics::S3Exact),
        transparent,
        without,
    ]
}

/// Status, fields and body, without the parts that differ between requests.
type Answer = (u16, Vec<(String, String)>, String);

/// The upstream's view: the request line, its fields and its body.
type Forwarded = (String, Vec<(String, String)>, Vec<u8>);

fn send(
    proxy: &TestProxy,
    upstream: &MockUpstream,
    request: &[u8],
    method: &str,
) -> (Answer, Vec<Forwarded>) {
    let before = upstream.requests().len();
    let mut client = RawClient::connect(proxy.address);
    let response = client.send(request).receive(method);
    assert!(response.whole, "{request:?}");
    let id = response
        .values("x-amz-request-id")
        .first()
        .copied()
        .unwrap_or("-")
        .to_owned();
    let mut fields: Vec<_> = response
        .headers
        .iter()
        .filter(|(name, _)| *name != "date" && *name != "connection")
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.replace(&id, "ID"))
        })
        .collect();
    fields.sort();
    assert!(response.headers.contains_key("date"));
    let text = response.text().replace(&id, "ID");
    let requests = upstream.requests();
    let forwarded = requests[before..].iter().map(|request| {
        let lines = request
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        let lines = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        let mut fields: Vec<_> = lines.collect();
        fields.sort();
        (request.line().to_owned(), fields, request.body.clone())
    });
    ((response.status, fields, text), forwarded.collect())
}

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(values)
}

/// A request's method, and its bytes except the end of its head; then its body.
fn requests() -> impl Strategy<Value = (String, String, &'static str)> {
    let host = one_of(&[
        "photos.example",
        "Photos.Example:80",
        "exact.example",
        "plain.example",
        "without.example",
    ]);
    let method = one_of(&["GET", "GET", "HEAD", "PUT", "POST", "DELETE", "PROPFIND"]);
    let fields = prop::collection::vec(
        prop_oneof![
            4 => one_of(&["https://a.app.example", "https://evil.example", "null", "", "a b"])
                .prop_map(|value| ("Origin", value)),
            1 => one_of(&["PUT", "GET", "BLAH", ""]).prop_map(|value| ("Access-Control-Request-Method", value)),
            1 => one_of(&["x-amz-date", "X-Amz-A,cookie", "", "a b"])
                .prop_map(|value| ("access-control-request-HEADERS", value)),
            1 => Just(("Keep-Alive", "timeout=1")),
            1 => Just(("Cookie", "a=b")),
            1 => one_of(&["X-Two", "Forwarded", "x-forwarded-FOR", "X-S3cors-Any"]).prop_map(|name| (name, "1")),
            1 => Just(("X-Odd", "\u{e9}")),
            1 => Just(("Via", "1.0 before")),
        ],
        0..6,
    );
    let body = one_of(&["", "", "body", "0123456789"]);
    (host, method, 0..RESPONSES.len(), fields, body).prop_map(
        |(host, method, number, fields, body)| {
            let mut head = format!("{method} /{number}?a=%20&b HTTP/1.1\r\nHost: {host}\r\n");
            for (name, value) in fields {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            if !body.is_empty() {
                head.push_str(&format!("Content-Length: {}\r\n", body.len()));
            }
            (method.to_owned(), head, body)
        },
    )
}

#[test]
fn a_listed_field_changes_nothing_else() {
    let upstream = Arc::new(upstream());
    let proxy = TestProxy::start(&routes(&upstream));
    let cases = std::env::var("S3CORS_EDGE_CASES").ok();
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases.map_or(400, |cases| cases.parse().unwrap()))
    });
    let same = |(method, head, body): (String, String, &str)| {
        let plain = format!("{head}\r\n{body}");
        let listed = format!("{head}Connection: x-nothing\r\n\r\n{body}");
        let [plain, listed] =
            [plain, listed].map(|text| send(&proxy, &upstream, text.as_bytes(), &method));
        prop_assert_eq!(&plain, &listed, "{}", head);
        Ok(())
    };
    runner.run(&requests(), same).unwrap();
}

#[test]
fn a_204_has_no_length() {
    let upstream = upstream();
    let proxy = TestProxy::start(&routes(&upstream));
    for number in [20, 21] {
        for connection in ["", "Connection: x-nothing\r\n"] {
            let request =
                format!("GET /{number} HTTP/1.1\r\nHost: photos.example\r\n{connection}\r\n");
            let mut client = RawClient::connect(proxy.address);
            let response = client.send(request).receive("GET");
            assert_eq!(response.status, 204);
            assert!(response.values("content-length").is_empty());
        }
    }
}

#[test]
fn the_access_log_is_the_same_for_both() {
    let upstream = upstream();
    let log = std::env::temp_dir().join(format!(
        "s3cors-forwarded-bytes-{}",
        upstream.address.port()
    ));
    let limits = Limits::default();
    let proxy = TestProxy::trusting(&[], listener(), &routes(&upstream), limits, Some(&log));
    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    for (method, number, origin, other) in [
        (
            "GET",
            0,
            "https://a.app.example",
            "Referer: https://a.app.example/\r\nUser-Agent: \"x\u{e9}\r\n",
        ),
        ("PUT", 7, "https://a.app.example", trace),
        ("DELETE", 2, "https://evil.example", ""),
        ("HEAD", 0, "", ""),
        ("GET", 18, "https://a.app.example", ""),
        (
            "OPTIONS",
            0,
            "https://a.app.example",
            "Access-Control-Request-Method: PUT\r\n",
        ),
        (
            "OPTIONS",
            0,
            "https://evil.example",
            "Access-Control-Request-Method: PUT\r\n",
        ),
    ] {
        let head = format!(
            "{method} /{number}?a HTTP/1.1\r\nHost: photos.example\r\nOrigin: {origin}\r\n{other}"
        );
        for connection in ["", "Connection: x-nothing\r\n"] {
            let request = format!("{head}{connection}\r\n");
            RawClient::connect(proxy.address)
                .send(request.as_bytes())
                .receive(method);
        }
    }
    proxy.finish_log();
    let lines = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let fields = line.as_object_mut().unwrap();
            for differs in ["time", "duration_seconds"] {
                assert!(fields.remove(differs).is_some(), "{differs}");
            }
            if let Some(id) = fields.get_mut("request_id") {
                *id = Value::Bool(id.as_str().unwrap().len() == 16);
            }
            line
        })
        .collect();
    assert_eq!(lines.len(), 14);
    for (index, pair) in lines.chunks(2).enumerate() {
        assert_eq!(pair[0], pair[1], "{index}");
    }
}

/// A client that does not read for a while gets every byte once, and then the next response.
#[test]
fn a_slow_reader_gets_every_byte_once() {
    let body: Vec<u8> = (0..24 * 1024 * 1024_u32).map(|at| (at / 7) as u8).collect();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let response = [head.as_bytes(), &body].concat();
    let upstream = MockUpstream::answering(response);
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let mut client = RawClient::connect(proxy.address);
    let request = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";
    for _ in 0..2 {
        client.send(request);
        upstream.wait_for_request();
        // The system's buffers between the two ends are full long before the body's end.
        let answer = client.receive("GET");
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "the body is another one");
    }
    client.send(request.replace("GET", "HEAD"));
    assert_eq!(client.receive("HEAD").status, 200);
}
