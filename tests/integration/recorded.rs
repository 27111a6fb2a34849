//! Recorded exchanges: what the upstream gets, what the client gets, and the line in the access
//! log.
//!
//! The record is `tests/data/http1/exchanges.txt`. Its field names are in lower case and its
//! fields are sorted, so that it does not depend on the representation of fields; ids, ports and
//! times are omitted. `S3CORS_RECORD=1` rewrites the record: review the difference before
//! committing it.

use std::fmt::Write as _;
use std::path::Path;

use s3cors::routing::snapshot::Forwarding;
use s3cors::server::Limits;
use serde_json::Value;

use crate::forwarded_bytes::{routes, upstream};
use crate::support::client::{RawClient, RawResponse};
use crate::support::proxy::{TestProxy, listener};
use crate::support::upstream::{MockUpstream, Recorded};

const RECORD: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/http1/exchanges.txt"
);

/// Requests: a head without its last empty line, and a body.
const REQUESTS: &[(&str, &str)] = &[
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /0?a=%20&b HTTP/1.1\r\nHost: Photos.Example:80\r\nOrigin: https://evil.example\r\n",
        "",
    ),
    (
        "HEAD /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: null\r\n",
        "",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: exact.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: plain.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: without.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: nobody.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    // Fields of one connection.
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nConnection: X-Hop, Origin, keep-alive\r\nX-Hop: 1\r\nX-End: 2\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-a\r\nConnection: close\r\nX-A: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n",
        "",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nTE: trailers, deflate;q=0.5\r\nConnection: te\r\n",
        "",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n",
        "",
    ),
    // Bodies.
    (
        "PUT /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\nContent-Length: 4\r\n",
        "body",
    ),
    (
        "PUT /0 HTTP/1.1\r\nHost: photos.example\r\nContent-Length: 0\r\n",
        "",
    ),
    (
        "PUT /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\nTransfer-Encoding: chunked\r\n",
        "4\r\nbody\r\n0\r\n\r\n",
    ),
    (
        "POST /0 HTTP/1.1\r\nHost: photos.example\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nTransfer-Encoding: chunked\r\n",
        "1;x=y\r\na\r\n0\r\n\r\n",
    ),
    (
        "PUT /0 HTTP/1.1\r\nHost: photos.example\r\nTransfer-Encoding: chunked\r\nTrailer: x-amz-checksum-crc32\r\n",
        "4\r\nbody\r\n0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n",
    ),
    (
        "PUT /0 HTTP/1.1\r\nHost: photos.example\r\nTransfer-Encoding: chunked\r\n",
        "4\r\nbody\r\n0\r\nHost: evil.example\r\n\r\n",
    ),
    (
        "PUT /0 HTTP/1.1\r\nHost: photos.example\r\nTransfer-Encoding: chunked\r\n",
        "4\r\nbodyX\r\n0\r\n\r\n",
    ),
    (
        "DELETE /0 HTTP/1.1\r\nHost: photos.example\r\nContent-Length: 2\r\n",
        "ok",
    ),
    // Methods and targets.
    (
        "OPTIONS /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "OPTIONS /0 HTTP/1.1\r\nHost: exact.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "OPTIONS /0 HTTP/1.1\r\nHost: plain.example\r\nOrigin: https://a.app.example\r\nAccess-Control-Request-Method: PUT\r\n",
        "",
    ),
    (
        "OPTIONS /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\nAccess-Control-Request-Method: PUT\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "OPTIONS /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: PUT\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "OPTIONS /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\nAccess-Control-Request-Method: PUT\r\nContent-Length: 4\r\n",
        "body",
    ),
    ("OPTIONS * HTTP/1.1\r\nHost: photos.example\r\n", ""),
    ("OPTIONS * HTTP/1.1\r\nHost: plain.example\r\n", ""),
    (
        "OPTIONS /0 HTTP/1.1\r\nHost: plain.example\r\nMax-Forwards: 0\r\n",
        "",
    ),
    (
        "OPTIONS /0 HTTP/1.1\r\nHost: plain.example\r\nMax-Forwards: 5\r\n",
        "",
    ),
    (
        "TRACE /0 HTTP/1.1\r\nHost: plain.example\r\nMax-Forwards: 1\r\n",
        "",
    ),
    (
        "TRACE /0 HTTP/1.1\r\nHost: photos.example\r\nMax-Forwards: 0\r\n",
        "",
    ),
    (
        "CONNECT photos.example:80 HTTP/1.1\r\nHost: photos.example\r\n",
        "",
    ),
    (
        "PROPFIND /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET http://photos.example/0?q HTTP/1.1\r\nHost: other.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET https://without.example HTTP/1.1\r\nHost: photos.example\r\n",
        "",
    ),
    (
        "GET /0?a={b}|c^d HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    ("GET * HTTP/1.1\r\nHost: photos.example\r\n", ""),
    (
        "GET ftp://photos.example/0 HTTP/1.1\r\nHost: photos.example\r\n",
        "",
    ),
    // Hosts.
    ("GET /0 HTTP/1.1\r\n", ""),
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nHost: photos.example\r\n",
        "",
    ),
    ("GET /0 HTTP/1.1\r\nHost: user@photos.example\r\n", ""),
    // Origins.
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: \r\n",
        "",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Method: GET\r\n",
        "",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-amz-a\r\nAccess-Control-Request-Headers: X-Amz-B\r\n",
        "",
    ),
    // HTTP/1.0.
    (
        "GET /0 HTTP/1.0\r\nHost: photos.example\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /7 HTTP/1.0\r\nHost: photos.example\r\nConnection: keep-alive\r\n",
        "",
    ),
    (
        "PUT /0 HTTP/1.0\r\nHost: photos.example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n",
        "body",
    ),
    // What the upstream answers.
    (
        "GET /1 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /2 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /3 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /3 HTTP/1.1\r\nHost: plain.example\r\nConnection: x-nothing\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /4 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "GET /5 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "GET /7 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "HEAD /7 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "GET /8 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "GET /10 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "GET /11 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "GET /14 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "GET /15 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /16 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /18 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\nOrigin: https://a.app.example\r\n",
        "",
    ),
    (
        "GET /20 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "GET /22 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\n",
        "",
    ),
    (
        "GET /23 HTTP/1.1\r\nHost: photos.example\r\nConnection: x-nothing\r\n",
        "",
    ),
    // Forwarding fields.
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nForwarded: for=192.0.2.1\r\nForwarded: for=192.0.2.2\r\n",
        "",
    ),
    (
        "PUT /0 HTTP/1.1\r\nHost: photos.example\r\nX-Forwarded-Host: a.example\r\nX-Forwarded-Port: 1\r\nContent-Length: 1\r\n",
        "x",
    ),
    (
        "GET /0 HTTP/1.1\r\nHost: photos.example\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nUser-Agent: a\"b\r\nReferer: https://a.app.example/\r\n",
        "",
    ),
];

/// A line for each field, sorted.
fn sorted(fields: impl Iterator<Item = (String, String)>) -> String {
    let mut lines: Vec<_> = fields
        .map(|(name, value)| format!("  {}: {value}\n", name.to_ascii_lowercase()))
        .collect();
    lines.sort();
    lines.concat()
}

fn forwarded(request: &Recorded) -> String {
    let lines = request.head.lines().skip(1);
    let fields = lines.filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    let body = String::from_utf8_lossy(&request.body).into_owned();
    format!("> {}\n{}  {body:?}\n", request.line(), sorted(fields))
}

fn answered(response: &RawResponse, id: &str) -> String {
    let fields = |map: &http::HeaderMap| {
        let fields = map.iter().filter(|(name, _)| *name != "date");
        let fields = fields.map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.replace(id, "ID"))
        });
        sorted(fields)
    };
    let body = response.text().replace(id, "ID");
    format!(
        "< {}\n{}  {body:?}\n{}",
        response.status,
        fields(&response.headers),
        fields(&response.trailers),
    )
}

/// The result of a request.
fn exchange(proxy: &TestProxy, upstream: &MockUpstream, head: &str, body: &str) -> String {
    let before = upstream.requests().len();
    let mut client = RawClient::connect(proxy.address);
    client.send(format!("{head}\r\n{body}"));
    let response = client.receive(head.split(' ').next().unwrap());
    assert!(response.whole, "{head}");
    let ids = response.values("x-amz-request-id");
    let id = ids.first().copied().unwrap_or("\0").to_owned();
    let mut text = format!("{:?} {body:?}\n", head);
    for request in &upstream.requests()[before..] {
        text.push_str(&forwarded(request));
    }
    text.push_str(&answered(&response, &id));
    let port = upstream.address.port().to_string();
    text.replace(&port, "PORT")
}

fn log_lines(path: &Path, port: u16) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let fields = line.as_object_mut().unwrap();
        fields.remove("time");
        fields.remove("duration_seconds");
        if let Some(id) = fields.get_mut("request_id") {
            *id = "ID".into();
        }
        line.to_string().replace(&port.to_string(), "PORT")
    };
    text.lines().map(line).collect()
}

#[test]
fn exchanges_match_the_record() {
    let mut record = String::new();
    for (what, proxies, forwarding) in [
        ("nothing is forwarded of the client", &[][..], None),
        (
            "everything is, of a listed proxy",
            &["127.0.0.1"],
            Some(Forwarding {
                via: true,
                x_forwarded: true,
                forwarded: true,
                x_real_ip: false,
            }),
        ),
    ] {
        let upstream = upstream();
        let mut routes = routes(&upstream);
        for route in &mut routes {
            route.forwarding = forwarding.unwrap_or(route.forwarding);
        }
        let log = std::env::temp_dir().join(format!("s3cors-record-{}", upstream.address.port()));
        let limits = Limits::default();
        let proxy = TestProxy::trusting(proxies, listener(), &routes, limits, Some(&log));
        let exchanges: Vec<_> = REQUESTS
            .iter()
            .map(|(head, body)| exchange(&proxy, &upstream, head, body))
            .collect();
        proxy.finish_log();
        let lines = log_lines(&log, upstream.address.port());
        std::fs::remove_file(&log).unwrap();
        assert_eq!(lines.len(), exchanges.len());
        for (exchange, line) in exchanges.iter().zip(lines) {
            writeln!(record, "# {what}\n{exchange}= {line}\n").unwrap();
        }
    }
    if std::env::var_os("S3CORS_RECORD").is_some() {
        std::fs::write(RECORD, &record).unwrap();
    }
    let expected = std::fs::read_to_string(RECORD).unwrap();
    let difference = record
        .split("\n\n")
        .zip(expected.split("\n\n"))
        .find(|(got, expected)| got != expected);
    if let Some((got, expected)) = difference {
        panic!("got\n{got}\nexpected\n{expected}");
    }
    assert_eq!(record.len(), expected.len());
}
