//! The access log's fields, and unchanged trace fields.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::reference::{OBSERVABILITY, first_column, read};
use crate::support::client::{RawClient, ask};
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
                      <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy whose access log is read line by line as it is written.
pub(crate) fn logged(name: &str, route: TestRoute) -> (TestProxy, BufReader<File>) {
    let name = format!("s3cors-access-log-{name}-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    // Opened for both, so that neither side's open blocks.
    let pipe = OpenOptions::new().read(true).write(true).open(&path);
    let proxy = TestProxy::logged_to(&path, &[route]);
    std::fs::remove_file(path).unwrap();
    (proxy, BufReader::new(pipe.unwrap()))
}

pub(crate) fn line(log: &mut BufReader<File>) -> Value {
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// The names of a line's fields, nested ones as `outer.inner`.
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
fn a_line_has_the_documented_fields_and_the_unchanged_trace() {
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
        serde_json::json!({"request": "actual", "outcome": "allowed", "reason": "matched", "verdict": "readable"})
    );

    let preflight = [
        ("Host", "photos.example"),
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "x-a"),
    ];
    let refused = ask(proxy.address, "OPTIONS", "/a", &preflight);
    let answered = line(&mut log);
    assert_eq!(answered["status"], 403);
    assert_eq!(
        [answered["request_id"].as_str().unwrap()],
        refused.values("x-amz-request-id")[..]
    );
    assert!(answered.get("trace_id").is_none() && answered.get("upstream").is_none());

    let table = first_column(&read(OBSERVABILITY), "<!-- log:");
    let rare = BTreeSet::from(["cut", "failed.reason", "failed.upstream"].map(str::to_owned));
    assert_eq!(&(&names(&got) | &names(&answered)) | &rare, table);
}

#[test]
fn a_line_names_the_upstream_that_failed_and_why() {
    // A closed port.
    let address = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap();
    let (proxy, mut log) = logged("failed", TestRoute::new(address, POLICY));
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    // Without and with a field that `Connection` lists.
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

/// A path, the upstream's response, and who cuts it; `None` if it is complete.
const BODIES: [(&str, &str, Option<&str>); 9] = [
    ("/whole", "Content-Length: 2\r\n\r\nok", None),
    (
        "/chunks",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        None,
    ),
    ("/empty", "Content-Length: 0\r\n\r\n", None),
    ("/close", "Connection: close\r\n\r\nok", None),
    ("/short", "Content-Length: 9\r\n\r\nok", Some("upstream")),
    (
        "/open",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        Some("upstream"),
    ),
    (
        "/no-chunk",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nx\r\n",
        Some("upstream"),
    ),
    ("/silent", "Content-Length: 9\r\n\r\nok", Some("idle")),
    ("/left", "Content-Length: 9\r\n\r\nok", Some("client")),
];

#[test]
fn a_line_says_who_cut_a_body_short() {
    let (client_left, has_left) = std::sync::mpsc::channel::<()>();
    let has_left = std::sync::Mutex::new(has_left);
    let upstream = MockUpstream::scripted(false, move |exchange| {
        let target = exchange.request.target().to_owned();
        let (_, rest, _) = BODIES.iter().find(|(path, ..)| *path == target).unwrap();
        exchange.send(format!("HTTP/1.1 200 OK\r\n{rest}"));
        if target == "/left" {
            has_left.lock().unwrap().recv().unwrap();
        }
        if ["/silent", "/left"].contains(&&*target) {
            // Until the proxy gives up.
            let _ = std::io::Read::read(&mut exchange.stream, &mut [0]);
        }
        false
    });
    let mut route = TestRoute::transparent(upstream.address);
    route.timeouts.body_idle = std::time::Duration::from_millis(300);
    let (proxy, mut log) = logged("cut", route);
    let mut clients = Vec::new();
    let mut expected = BTreeMap::new();
    for version in ["HTTP/1.1", "HTTP/2.0"] {
        for (path, _, cut) in BODIES {
            let mut client = RawClient::connect(proxy.address);
            match version {
                "HTTP/2.0" => {
                    client.send(http2_get(path));
                    wait_for_headers(&mut client);
                }
                _ => {
                    client.send(format!(
                        "GET {path} HTTP/1.1\r\nHost: photos.example\r\n\r\n"
                    ));
                    assert_eq!(client.head().0, 200, "{path}");
                }
            }
            if path == "/left" {
                drop(client);
                client_left.send(()).unwrap();
            } else {
                clients.push(client);
            }
            expected.insert(
                (version.to_owned(), path.to_owned()),
                cut.map(str::to_owned),
            );
        }
    }
    let got: BTreeMap<_, _> = expected
        .iter()
        .map(|_| {
            let line = line(&mut log);
            let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
            (
                (text("version").unwrap(), text("target").unwrap()),
                text("cut"),
            )
        })
        .collect();
    assert_eq!(got, expected);
}

/// Reads frames up to a response's head.
fn wait_for_headers(client: &mut RawClient<TcpStream>) {
    loop {
        let head = client.bytes(9);
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        client.bytes(length);
        if head[3] == 1 {
            return;
        }
    }
}

/// A connection of HTTP/2 with one request, its fields as literals ([RFC 7541 §6.2.2]).
///
/// [RFC 7541 §6.2.2]: https://www.rfc-editor.org/rfc/rfc7541#section-6.2.2
fn http2_get(path: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let host = "photos.example";
    let mut block = vec![0x82, 0x86, 0x04, length(path)];
    block.extend(path.as_bytes());
    block.extend([0x01, length(host)]);
    block.extend(host.as_bytes());
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes
}
