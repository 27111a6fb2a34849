//! Heads that are refused before they become requests: identifiable senders can read why, and
//! each is logged.

use std::time::Duration;

use s3cors::server::Limits;
use serde_json::{Value, json};

use crate::support::client::{RawClient, RawResponse};
use crate::support::proxy::{TestProxy, TestRoute, listener};
use crate::support::upstream::MockUpstream;

const ALLOWED: &str = "https://app.example";
const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod><ExposeHeader>x-amz-request-id</ExposeHeader></CORSRule></CORSConfiguration>";

/// Limits on the head below the defaults.
fn limits() -> Limits {
    Limits {
        uri_bytes: 200,
        request_head_bytes: 4000,
        header_count: 20,
        head_read: Duration::from_millis(200),
        ..Limits::default()
    }
}

fn proxy(log: Option<&std::path::Path>) -> TestProxy {
    let upstream = MockUpstream::answering("");
    let mut transparent = TestRoute::transparent(upstream.address);
    transparent.hosts = vec!["plain.example"];
    let routes = [TestRoute::new(upstream.address, POLICY), transparent];
    TestProxy::trusting(&[], listener(), &routes, limits(), log)
}

fn refusal(proxy: &TestProxy, head: &str) -> RawResponse {
    let mut client = RawClient::connect(proxy.address);
    let response = client.send(head).receive(head.split(' ').next().unwrap());
    assert_eq!(response.values("connection"), ["close"], "{head:?}");
    assert!(client.is_closed(), "{head:?}");
    response
}

/// The fault, the head with it, and the status of the response.
fn heads() -> Vec<(&'static str, String, u16)> {
    let head = |what: &str| {
        format!("GET /k?a HTTP/1.1\r\nHost: photos.example\r\nOrigin: {ALLOWED}\r\n{what}")
    };
    let line = |line: &str| head(&format!("{line}\r\n\r\n"));
    vec![
        (
            "two lengths",
            line("Content-Length: 1\r\nContent-Length: 1"),
            400,
        ),
        (
            "a length and chunks",
            line("Content-Length: 1\r\nTransfer-Encoding: chunked"),
            400,
        ),
        ("a coding", line("Transfer-Encoding: gzip"), 400),
        ("a length that is none", line("Content-Length: +1"), 400),
        ("a NUL", line("X: \0"), 400),
        ("a space before the colon", line("X : y"), 400),
        ("no colon", line("nothing"), 400),
        ("a folded line", line("X: y\r\n z"), 400),
        ("a line that ends with LF", line("X: y\nZ: z"), 400),
        ("another version", line("X: y").replace("1.1", "1.2"), 400),
        ("a target with `#`", line("X: y").replace("?a", "?#"), 400),
        (
            "a target that is too long",
            line("X: y").replace("?a", &"?a".repeat(200)),
            414,
        ),
        (
            "a target that is longer than a head may be",
            line("X: y").replace("?a", &"?a".repeat(1800)),
            414,
        ),
        (
            "a field that is too long",
            line(&format!("X: {}", "y".repeat(4000))),
            431,
        ),
        ("too many fields", line(&"X: y\r\n".repeat(20)), 431),
        ("too slow", head("X: y\r\n"), 408),
    ]
}

#[test]
fn only_an_allowed_origin_can_read_why_its_head_is_refused() {
    let proxy = proxy(None);
    for (what, head, status) in heads() {
        let response = refusal(&proxy, &head);
        assert_eq!(response.status, status, "{what}");
        assert_eq!(
            response.values("content-type"),
            ["application/xml"],
            "{what}"
        );
        assert_eq!(
            response.values("access-control-allow-origin"),
            [ALLOWED],
            "{what}"
        );
        assert_eq!(
            response.values("access-control-expose-headers"),
            ["x-amz-request-id"],
            "{what}"
        );
        let id = response.values("x-amz-request-id")[0];
        assert!(
            response
                .text()
                .contains(&format!("<RequestId>{id}</RequestId>")),
            "{what}"
        );

        for other in [
            head.replace(ALLOWED, "https://evil.example"),
            head.replace("Origin:", "X-Origin:"),
            head.replacen("Host:", &format!("Origin: {ALLOWED}\r\nHost:"), 1),
            head.replacen("GET", "PUT", 1),
        ] {
            let response = refusal(&proxy, &other);
            assert_eq!(response.status, status, "{what}: {other:?}");
            assert!(
                response.values("access-control-allow-origin").is_empty(),
                "{what}: {other:?}"
            );
            assert_eq!(response.values("vary"), ["Origin"], "{what}: {other:?}");
            assert_eq!(
                response.values("content-type"),
                ["application/xml"],
                "{what}: {other:?}"
            );
        }
    }
}

/// Without a host there is no policy: the response is a line of text, and `Vary` tells caches
/// that it may differ.
#[test]
fn an_ambiguous_host_gets_only_a_line_of_text() {
    let proxy = proxy(None);
    let good = format!(
        "GET /k HTTP/1.1\r\nHost: photos.example\r\nOrigin: {ALLOWED}\r\nContent-Length: x\r\n\r\n"
    );
    for head in [
        good.replace("Host: photos.example\r\n", ""),
        good.replace("Host:", "Host: photos.example\r\nHost:"),
        good.replace("Host:", "Host :"),
        good.replace("Host:", "Host : other.example\r\nHost:"),
        good.replace("Host: photos.example", "Host: photos.example\r\n .example"),
        good.replace("Host: photos.example\r\n", "Host: photos.example\n"),
        good.replace("Host:", "X: y\nHost:"),
        good.replace("1.1\r\n", "1.1\n"),
        good.replace("/k", "/k b"),
        good.replace("/k", "/k<b"),
        good.replace("photos.example", "nobody.example"),
        good.replace("photos.example", "photos example"),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\r\n\r\n".to_owned(),
    ] {
        let response = refusal(&proxy, &head);
        assert_eq!(response.status, 400, "{head:?}");
        assert_eq!(
            response.values("content-type"),
            ["text/plain; charset=utf-8"],
            "{head:?}"
        );
        assert!(
            response.values("access-control-allow-origin").is_empty(),
            "{head:?}"
        );
        assert_eq!(response.values("vary"), ["Origin"], "{head:?}");
        assert_eq!(response.values("x-amz-request-id").len(), 1, "{head:?}");
    }
    let plain = refusal(&proxy, &good.replace("photos.example", "plain.example"));
    assert_eq!((plain.status, plain.values("vary")), (400, vec![]));
}

#[test]
fn a_target_beyond_visible_ascii_is_refused_readably_too() {
    let proxy = proxy(None);
    let head =
        format!("GET /k\u{e9}b HTTP/1.1\r\nHost: photos.example\r\nOrigin: {ALLOWED}\r\n\r\n");
    let response = refusal(&proxy, &head);
    assert_eq!(response.status, 400);
    assert_eq!(response.values("access-control-allow-origin"), [ALLOWED]);
    assert!(response.text().contains("percent-encode"), "{response:?}");
    // The fault is in the path, but the query is still found.
    let response = refusal(&proxy, &head.replace("/k\u{e9}b", "/k?\u{7f}"));
    assert_eq!(response.status, 400);
    assert_eq!(response.values("access-control-allow-origin"), [ALLOWED]);
}

#[test]
fn a_refused_head_is_logged_and_counted() {
    let log = std::env::temp_dir().join(format!("s3cors-refused-{}", std::process::id()));
    let proxy = proxy(Some(&log));
    let mut ids = Vec::new();
    let mut refuse = |head: &str| {
        let response = refusal(&proxy, head);
        ids.push(response.values("x-amz-request-id")[0].to_owned());
    };
    refuse(
        "HEAD /k?X-Amz-Signature=5ec2e7 HTTP/1.1\r\nHost: photos.example\r\nUser-Agent: \"a\"\r\nContent-Length: x\r\n\r\n",
    );
    refuse("\0\u{1}\n\r\n");
    refuse(&format!(
        "GET /{} HTTP/1.1\r\nHost: photos.example\r\n\r\n",
        "a".repeat(300)
    ));
    let metrics = proxy.metrics.encode();
    for (method, status) in [("HEAD", 400), ("other", 400), ("GET", 414)] {
        let line = format!(
            "s3cors_requests_total{{route=\"-\",method=\"{method}\",status=\"{status}\"}} 1"
        );
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    proxy.finish_log();
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = ["method", "target", "host", "status", "bytes", "user_agent"]
        .map(|name| {
            lines
                .iter()
                .map(|line| line[name].clone())
                .collect::<Vec<_>>()
        })
        .into();
    let long = format!("/{}", "a".repeat(300));
    assert_eq!(told[0], [json!("HEAD"), json!("-"), json!("GET")]);
    assert_eq!(
        told[1],
        [json!("/k?X-Amz-Signature=-"), json!("-"), json!(long)]
    );
    assert_eq!(
        told[2],
        [
            json!("photos.example"),
            Value::Null,
            json!("photos.example")
        ]
    );
    assert_eq!(told[3], [json!(400), json!(400), json!(414)]);
    assert_eq!(told[4][0], json!(0));
    assert_eq!(told[5], [json!("\"a\""), Value::Null, Value::Null]);
    for (line, id) in lines.iter().zip(ids) {
        assert_eq!(line["request_id"], id);
        assert_eq!(line["client"], "127.0.0.1");
        assert!(line.get("route").is_none());
    }
}
