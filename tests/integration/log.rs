//! The process's own log: errors have their cause, and input cannot forge log lines.

use crate::support::binary::{Folder, Process};
use crate::support::client::ask;
use crate::support::upstream::{MockUpstream, refusing};

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

#[test]
fn a_response_that_cannot_be_forwarded_is_logged() {
    let fields = "a: b\r\n".repeat(101);
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nX Bad\x1b: secret\r\n\r\n".to_owned(),
            "sent an invalid field name: \"X Bad\\x1b\"",
            "not valid HTTP",
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{fields}\r\n"),
            "sent more fields than `response_header_count`",
            "is too large",
        ),
        (
            format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(70_000)),
            "sent a head that is longer than `response_head_bytes`",
            "is too large",
        ),
        (
            "\x15\x03\x03\0\x02\x02\x0a".to_owned(),
            "sent TLS instead of HTTP",
            "not valid HTTP",
        ),
    ];
    let folder = Folder::new("log-upstream");
    let cors = folder.write("cors.xml", POLICY);
    for (answer, logged, told) in cases {
        let upstream = MockUpstream::answering(answer);
        let url = format!("http://{}", upstream.address);
        let mut proxy = Process::start(&["run", "--upstream", &url, "--cors", &cors]);
        let response = ask(proxy.address, "GET", "/k", &[]);
        assert_eq!(response.status, 502, "{logged}");
        assert!(response.text().contains(told), "{}", response.text());
        let line = proxy.logged("upstream failed");
        assert!(line.contains(logged), "{logged} in {line}");
        assert!(!line.contains("cause="), "{line}");
    }
}

#[test]
fn a_failed_check_is_logged_with_its_upstream_and_reason() {
    let upstream = MockUpstream::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let folder = Folder::new("log-check");
    for (address, cause) in [(upstream.address, "status 404"), (refusing(), "refused")] {
        let config = folder.write(
            "s3cors.toml",
            &format!(
                "[[route]]\nhost = [\"*\"]\nupstream = [\"http://{address}\"]\n\
                 health = {{ check_path = \"/ready?x\", check_seconds = 1, check_failures = 1 }}\n"
            ),
        );
        let mut proxy = Process::start(&["run", "--config", &config]);
        let line = proxy.logged("health check state changed");
        for part in ["path=\"/ready?x\"", "is_failing=true", cause] {
            assert!(line.contains(part), "{part} in {line}");
        }
        let health = &proxy.status()["routes"][0]["upstream_health"][0];
        let shown = health["failed_check"].as_str().unwrap();
        assert!(shown.contains(cause), "{health}");
    }
}

#[test]
fn a_refusal_is_logged_with_host_and_bucket_and_unknown_hosts_are_counted() {
    let folder = Folder::new("log-refusals");
    std::fs::create_dir(folder.path("buckets")).unwrap();
    folder.write("buckets/photos.xml", POLICY);
    let config = folder.write(
        "s3cors.toml",
        "[[route]]\nname = \"store\"\nhost = [\"s3.example\"]\nupstream = [\"http://127.0.0.1:1\"]\n\
         buckets = { directory = \"buckets\", address = \"path\" }\n",
    );
    let mut proxy = Process::start(&["run", "--config", &config]);
    let preflight = |host: &str, method: &str| {
        let fields = [
            ("host", host),
            ("origin", "https://a reason=forged"),
            ("access-control-request-method", "GET"),
        ];
        ask(proxy.address, method, "/photos/x", &fields).status
    };
    assert_eq!(preflight("s3.example", "OPTIONS"), 403);
    assert_eq!(preflight("elsewhere.example", "OPTIONS"), 403);
    assert_eq!(preflight("elsewhere.example", "GET"), 421);
    let known = proxy.logged("CORS request refused");
    let unknown = proxy.logged("CORS request refused");
    let misdirected = proxy.logged("no route serves the request's host");
    let origin = "origin=\"https://a reason=forged\"";
    for (line, parts) in [
        (
            known,
            &[
                "route=\"store\"",
                "host=\"s3.example\"",
                "bucket=\"photos\"",
            ][..],
        ),
        (
            unknown,
            &[
                "route=\"-\"",
                "host=\"elsewhere.example\"",
                "reason=\"no_cors\"",
            ],
        ),
        (misdirected, &["host=\"elsewhere.example\""]),
    ] {
        for part in [parts, &[origin]].concat() {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    let metrics = ask(proxy.admin, "GET", "/metrics", &[("host", "localhost")]).text();
    let counted = "s3cors_cors_decisions_total{route=\"-\",request=\"preflight\",outcome=\"denied\",reason=\"no_cors\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}
