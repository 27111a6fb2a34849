//! What the access log tells of a request, and that a trace goes through untouched.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::readme::{first_column, readme};
use crate::support::client::ask;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
                      <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy whose access log is read line by line as it is written.
fn logged(name: &str, route: TestRoute) -> (TestProxy, BufReader<File>) {
    let name = format!("s3cors-access-log-{name}-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    // For both, so that neither side's opening waits for the other.
    let pipe = OpenOptions::new().read(true).write(true).open(&path);
    let proxy = TestProxy::logged_to(&path, &[route]);
    std::fs::remove_file(path).unwrap();
    (proxy, BufReader::new(pipe.unwrap()))
}

fn line(log: &mut BufReader<File>) -> Value {
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// The names of a line's fields, inner ones as `outer.inner`.
fn names(line: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (name, value) in line.as_object().unwrap() {
        match value.as_object() {
            None => names.extend([name.clone()]),
            Some(inner) => names.extend(inner.keys().map(|inner| format!("{name}.{inner}"))),
        }
    }
    names
}

#[test]
fn a_line_has_the_fields_of_the_readme_and_the_trace_that_went_through_untouched() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let upstream = MockUpstream::answering(OK);
    let (proxy, mut log) = logged("fields", TestRoute::new(upstream.address, POLICY));
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let fields = [
        ("Host", "photos.example"),
        ("Origin", "https://app.example"),
        ("Referer", "https://app.example/album"),
        ("User-Agent", "\"quoted\""),
        ("traceparent", &parent),
        ("tracestate", "b=2, a=1"),
        ("tracestate", "c=3"),
    ];
    let response = ask(proxy.address, "GET", "/a?X-Amz-Signature=5ec2e7", &fields);
    assert_eq!(response.status, 200);
    let forwarded = &upstream.requests()[0];
    assert_eq!(forwarded.values("traceparent"), [parent]);
    assert_eq!(forwarded.values("tracestate"), ["b=2, a=1", "c=3"]);

    let got = line(&mut log);
    assert_eq!(got["trace_id"], TRACE);
    assert_eq!(got["target"], "/a?X-Amz-Signature=-");
    assert_eq!(got["user_agent"], "\"quoted\"");
    assert_eq!(got["upstream"], upstream.address.to_string());
    assert_eq!(
        got["cors"],
        serde_json::json!({"request": "actual", "outcome": "allowed", "reason": "matched"})
    );

    let preflight = [
        ("Host", "photos.example"),
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "GET"),
    ];
    let refused = ask(proxy.address, "OPTIONS", "/a", &preflight);
    let answered = line(&mut log);
    assert_eq!(answered["status"], 403);
    assert_eq!(
        [answered["request_id"].as_str().unwrap()],
        refused.values("x-amz-request-id")[..]
    );
    assert!(answered.get("trace_id").is_none() && answered.get("upstream").is_none());

    let table = first_column(&readme(), "<!-- log:");
    let failed = BTreeSet::from(["failed.reason", "failed.upstream"].map(str::to_owned));
    assert_eq!(&(&names(&got) | &names(&answered)) | &failed, table);
}

#[test]
fn a_line_names_the_upstream_that_gave_no_answer_and_why() {
    // Somebody's port, who is gone.
    let address = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap();
    let (proxy, mut log) = logged("failed", TestRoute::new(address, POLICY));
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    // The lane's way, and the other one.
    for more in [&[][..], &upgrade] {
        let fields = [&[("host", "photos.example")][..], more].concat();
        assert_eq!(ask(proxy.address, "GET", "/a", &fields).status, 502);
        let line = line(&mut log);
        assert_eq!(line["status"], 502);
        assert!(line.get("upstream").is_none(), "nobody answered: {line}");
        let failed = serde_json::json!({"upstream": address.to_string(), "reason": "connect"});
        assert_eq!(line["failed"], failed);
    }
}
