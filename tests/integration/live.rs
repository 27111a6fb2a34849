//! `/cors/live`: the events behind the console.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::binary::{Folder, Process, run};
use crate::support::client::{RawClient, ask};
use crate::support::http2::{END_STREAM, head, scripted};
use crate::support::upstream::MockUpstream;

const POLICY: &str = "<CORSConfiguration>
    <CORSRule><ID>uploads</ID><AllowedOrigin>https://*.app.example</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>
      <AllowedMethod>GET</AllowedMethod><AllowedHeader>content-type</AllowedHeader></CORSRule>
  </CORSConfiguration>";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PATIENCE: Duration = Duration::from_secs(60);
const HOST: (&str, &str) = ("Host", "photos.example");
const APP: (&str, &str) = ("Origin", "https://a.app.example");
const EVIL: (&str, &str) = ("Origin", "https://evil.example");

/// A proxy with a bucket that has its own policy, and a route without a policy.
struct Served {
    process: Process,
    _folder: Folder,
    _upstream: MockUpstream,
}

fn serve(name: &str) -> Served {
    let folder = Folder::new(name);
    let upstream = MockUpstream::answering(OK);
    folder.write("cors.xml", POLICY);
    std::fs::create_dir(folder.path("buckets")).unwrap();
    std::fs::write(folder.path("buckets/cats.xml"), POLICY).unwrap();
    let config = format!(
        "workers = 1\n[[route]]\nname = 'photos'\nhost = 'photos.example'\nupstream = 'http://{0}'\ncors = 'cors.xml'\n\
         buckets = {{ directory = 'buckets', address = 'path' }}\n\
         [[route]]\nname = 'plain'\nhost = 'plain.example'\nupstream = 'http://{0}'\n",
        upstream.address
    );
    let config = folder.write("s3cors.toml", &config);
    Served {
        process: Process::start(&["run", "--config", &config]),
        _folder: folder,
        _upstream: upstream,
    }
}

/// A viewer over HTTP/1.0, so that the body has no framing.
struct Viewer(BufReader<TcpStream>);

impl Viewer {
    fn join(admin: SocketAddr) -> Self {
        Self::try_join(admin).expect("there is room for a viewer")
    }

    /// `None`: there are too many viewers.
    fn try_join(admin: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        (&stream)
            .write_all(b"GET /cors/live HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut viewer = Self(BufReader::new(stream));
        let is_full = viewer.line() != "HTTP/1.0 200 OK";
        while !viewer.line().is_empty() {}
        (!is_full).then_some(viewer)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next event: its name and its data.
    fn event(&mut self) -> (String, Value) {
        loop {
            let line = self.line();
            if let Some(name) = line.strip_prefix("event: ") {
                let name = name.to_owned();
                let data = self.line();
                let data = data.strip_prefix("data: ").unwrap();
                assert!(
                    data.bytes().all(|byte| matches!(byte, b' '..=b'~')),
                    "{data}"
                );
                assert_eq!(self.line(), "");
                return (name, serde_json::from_str(data).unwrap());
            }
        }
    }

    fn snapshot(&mut self) -> Value {
        loop {
            let (name, data) = self.event();
            if name == "snapshot" {
                return data;
            }
        }
    }

    fn cors(&mut self) -> Value {
        loop {
            let (name, data) = self.event();
            if name == "cors" {
                return data;
            }
        }
    }
}

fn preflight(process: &Process, host: &str, target: &str, origin: &str, headers: &str) -> u16 {
    let fields = [
        ("Host", host),
        ("Origin", origin),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", headers),
    ];
    ask(process.address, "OPTIONS", target, &fields).status
}

#[test]
fn a_refused_request_is_an_event_and_in_the_next_viewers_snapshot() {
    let served = serve("live-refused");
    let process = &served.process;
    let mut viewer = Viewer::join(process.admin);
    let first = viewer.event();
    assert_eq!(first.0, "snapshot");
    for (name, expected) in [
        ("refused", json!([])),
        ("generation", json!(1)),
        ("viewers", json!(1)),
        ("dropped_events", json!(0)),
        ("policies_count", json!(2)),
        ("upstreams_count", json!(2)),
        ("out_of_date", json!([])),
        ("phase", json!("serving")),
    ] {
        assert_eq!(first.1[name], expected, "{name}");
    }
    let origin = "https://a.app.example";
    let status = preflight(
        process,
        "photos.example",
        "/cats/1.jpg?X-Amz-Signature=5ec2e7",
        origin,
        "content-type, x-amz-acl",
    );
    assert_eq!(status, 403);
    let event = viewer.cors();
    assert_eq!(event["target"], "/cats/1.jpg?X-Amz-Signature=-");
    assert_eq!(event["status"], 403);
    assert_eq!(
        event["cors"],
        json!({"request": "preflight", "outcome": "denied", "reason": "header", "verdict": "blocked",
               "error": "PreflightMissingAllowOriginHeader", "method": "PUT", "headers": "content-type, x-amz-acl"})
    );
    assert_eq!(
        event["refused"],
        json!({"by": "policy", "reason": "header"})
    );
    assert_eq!(
        (&event["bucket"], &event["rule"], &event["rule_id"]),
        (&json!("cats"), &json!(1), &json!("uploads"))
    );
    assert_eq!(event["missing"], json!(["x-amz-acl"]));
    let why = event["why"].as_str().unwrap();
    assert!(
        why.starts_with("header x-amz-acl is not in AllowedHeader (content-type) of rule 1, "),
        "{why}"
    );

    // «Explain exactly this» agrees with the actual decision.
    let explained = ask(
        process.admin,
        "GET",
        event["explain"].as_str().unwrap(),
        &[("Host", "localhost")],
    );
    assert_eq!(explained.status, 200);
    let text = explained.text();
    assert!(
        text.contains("x-amz-acl") && text.contains("\"header\""),
        "{text}"
    );

    preflight(
        process,
        "photos.example",
        "/cats/2.jpg",
        origin,
        "x-amz-acl",
    );
    let last = viewer.cors();
    let mut next = Viewer::join(process.admin);
    let snapshot = next.snapshot();
    let groups = snapshot["refused"].as_array().unwrap();
    assert_eq!(groups.len(), 1);
    let group = &groups[0];
    for (name, expected) in [
        ("origin", json!(origin)),
        ("route", json!("photos")),
        ("bucket", json!("cats")),
        ("request", json!("preflight")),
        ("by", json!("policy")),
        ("reason", json!("header")),
        ("count", json!(2)),
        ("last", last),
    ] {
        assert_eq!(group[name], expected, "{name}");
    }
    let minutes = snapshot["minutes"].as_array().unwrap();
    let denied: u64 = minutes
        .iter()
        .map(|minute| minute["denied"]["header"].as_u64().unwrap())
        .sum();
    assert_eq!(denied, 2);
    let policy = &snapshot["policies"][1];
    assert_eq!(
        (&policy["route"], &policy["bucket"], &policy["rules"]),
        (&json!("photos"), &json!("cats"), &json!(1))
    );
    assert!(
        policy["text"]
            .as_str()
            .unwrap()
            .contains("https://*.app.example")
    );
    assert!(policy["warnings"].is_array());
}

#[test]
fn refused_requests_are_recorded_always_and_others_only_with_viewers() {
    let served = serve("live-kept");
    let process = &served.process;
    ask(process.address, "GET", "/a", &[HOST, APP]);
    ask(process.address, "GET", "/a", &[HOST, EVIL]);
    ask(
        process.address,
        "GET",
        "/a",
        &[("Host", "plain.example"), APP],
    );
    ask(
        process.address,
        "GET",
        "/a",
        &[("Host", "nobody.example"), APP],
    );
    let mut viewer = Viewer::join(process.admin);
    let snapshot = viewer.snapshot();
    let groups = snapshot["refused"].as_array().unwrap();
    let mut by: Vec<_> = groups
        .iter()
        .map(|group| {
            (
                group["by"].as_str().unwrap(),
                group["reason"].as_str().unwrap(),
            )
        })
        .collect();
    by.sort_unstable();
    let expected = [
        ("no_route", "MissingAllowOriginHeader"),
        ("policy", "origin"),
        ("upstream", "MissingAllowOriginHeader"),
    ];
    assert_eq!(by, expected);
    let allowed = &snapshot["allowed"][0];
    assert_eq!(
        (&allowed["origin"], &allowed["count"]),
        (&json!("https://*.app.example"), &json!(1))
    );
    assert_eq!(allowed["rules"].as_array().unwrap().len(), 2);

    ask(process.address, "GET", "/a", &[HOST]);
    ask(process.address, "GET", "/cats/a", &[HOST, APP]);
    let event = viewer.cors();
    assert_eq!(event["cors"]["outcome"], "allowed");
    assert_eq!(
        (&event["pattern"], &event["rule"], &event["bucket"]),
        (&json!("https://*.app.example"), &json!(1), &json!("cats"))
    );
    assert!(event.get("refused").is_none());
    let mut before = viewer.snapshot();
    while before["allowed"][0]["count"] != 2 {
        before = viewer.snapshot();
    }
}

#[test]
fn over_http2_the_events_are_the_same() {
    let upstream = scripted(|frame| Some(head(END_STREAM, frame.stream, "200", &[])));
    let folder = Folder::new("live-http2");
    folder.write("cors.xml", POLICY);
    let config = format!(
        "[[route]]\nname = 'photos'\nhost = 'photos.example'\nupstream = 'http://{upstream}'\ncors = 'cors.xml'\n\
         upstream_http2 = true\n[[route]]\nname = 'plain'\nhost = 'plain.example'\nupstream = 'http://{upstream}'\n\
         upstream_http2 = true\n"
    );
    let config = folder.write("s3cors.toml", &config);
    let process = Process::start(&["run", "--config", &config]);
    for (host, fields) in [("photos.example", [EVIL]), ("plain.example", [APP])] {
        ask(process.address, "GET", "/a", &[("Host", host), fields[0]]);
    }
    let mut viewer = Viewer::join(process.admin);
    let snapshot = viewer.snapshot();
    let groups = snapshot["refused"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{groups:?}");
    let denied = groups.iter().find(|group| group["by"] == "policy").unwrap();
    assert_eq!(denied["last"]["status"], 200);
    assert!(
        denied["last"]["why"]
            .as_str()
            .unwrap()
            .contains("https://evil.example")
    );
    ask(process.address, "GET", "/a", &[HOST, APP]);
    assert_eq!(viewer.cors()["pattern"], "https://*.app.example");
}

#[test]
fn there_are_at_most_eight_viewers_and_one_that_leaves_makes_room() {
    let served = serve("live-eight");
    let admin = served.process.admin;
    let mut viewers: Vec<_> = (0..8).map(|_| Viewer::join(admin)).collect();
    for viewer in &mut viewers {
        viewer.snapshot();
    }
    let live = || {
        ask(
            admin,
            "GET",
            "/cors/live",
            &[("Host", "localhost"), ("Connection", "close")],
        )
    };
    let ninth = live();
    assert_eq!(ninth.status, 503);
    assert!(
        ninth
            .text()
            .starts_with("the live feed already has 8 viewers"),
        "{}",
        ninth.text()
    );
    // The listener still serves others.
    assert_eq!(
        ask(admin, "GET", "/livez", &[("Host", "localhost")]).status,
        200
    );
    viewers.pop();
    loop {
        let mut client = RawClient::connect(admin);
        client.send("GET /cors/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (status, fields) = client.head();
        if status == 200 {
            assert_eq!(fields["content-type"], "text/event-stream");
            assert_eq!(fields["cache-control"], "no-store");
            break;
        }
        std::thread::yield_now();
    }
    let head = ask(admin, "HEAD", "/cors/live", &[("Host", "localhost")]);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn a_viewer_that_reads_nothing_is_cut_and_others_are_not() {
    let served = serve("live-silent");
    let process = &served.process;
    // With a small buffer for unread bytes.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.set_recv_buffer_size(1024).unwrap();
    silent.connect(&process.admin.into()).unwrap();
    let mut silent = TcpStream::from(silent);
    silent
        .write_all(b"GET /cors/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut viewer = Viewer::join(process.admin);
    while viewer.snapshot()["viewers"] != 2 {}
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = format!("/{}", "a".repeat(400));
            let request = format!("GET {path} HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://evil.example\r\n\r\n");
            let mut client = RawClient::connect(process.address);
            while !stop.load(Ordering::Relaxed) {
                client.send(&request);
                client.receive("GET");
            }
        });
        while viewer.snapshot()["viewers"] != 1 {}
        stop.store(true, Ordering::Relaxed);
    });
    // The bytes sent before arrive, then the end.
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    let ended = silent.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
    assert!(served.process.status()["phase"] == "serving");
}

#[test]
fn unread_events_are_dropped_and_counted() {
    let served = serve("live-dropped");
    let process = &served.process;
    let mut client = RawClient::connect(process.address);
    let dropped = || {
        let metrics = ask(process.admin, "GET", "/metrics", &[("Host", "localhost")]).text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("s3cors_live_dropped_events_total "));
        line.unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert_eq!(dropped(), 0);
    // Many more than a ring holds, faster than it is read.
    let request = "OPTIONS /a HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://evil.example\r\n\
                   Access-Control-Request-Method: PUT\r\n\r\n";
    while dropped() == 0 {
        client.send(request.repeat(500));
        (0..500).for_each(|_| drop(client.receive("OPTIONS")));
    }
    let mut viewer = Viewer::join(process.admin);
    assert!(viewer.snapshot()["dropped_events"].as_u64().unwrap() > 0);
    // With a viewer, allowed requests count too, also on a route without a policy.
    for (host, method) in [("photos.example", "OPTIONS"), ("plain.example", "GET")] {
        let before = dropped();
        let request = format!(
            "{method} /a HTTP/1.1\r\nHost: {host}\r\nOrigin: https://a.app.example\r\n\
             Access-Control-Request-Method: PUT\r\n\r\n"
        );
        while dropped() == before {
            client.send(request.repeat(100));
            (0..100).for_each(|_| drop(client.receive(method)));
        }
    }
}

#[test]
fn top_prints_refused_requests_or_why_it_cannot_connect() {
    let served = serve("live-top");
    let process = &served.process;
    ask(process.address, "GET", "/cats/1.jpg", &[HOST, EVIL]);
    let admin = process.admin.to_string();
    let top = |admin: &str| run(&["top", "--once", "--admin", admin]);
    let (code, output, complaints) = top(&admin);
    assert_eq!((code, &*complaints), (0, ""));
    for part in [
        "serving · generation 1",
        "photos/cats",
        "https://evil.example",
        "is not in any AllowedOrigin of ",
    ] {
        assert!(output.contains(part), "{part}\n{output}");
    }
    // The place of `top` is free once its end was noticed.
    let mut viewers = Vec::new();
    while viewers.len() < 8 {
        viewers.extend(Viewer::try_join(process.admin));
    }
    let (code, _, full) = top(&admin);
    assert_eq!(code, 1);
    assert!(
        full.contains("the live feed already has 8 viewers"),
        "{full}"
    );
    drop(viewers);
    // Not an admin listener, a closed port, and nonsense.
    let (code, _, complaints) = top(&process.address.to_string());
    assert_eq!(code, 1);
    assert!(
        complaints.contains("not from an admin listener of s3cors"),
        "{complaints}"
    );
    let nobody = crate::support::upstream::refusing().to_string();
    assert_eq!(top(&nobody).0, 1);
    assert_eq!(top("nonsense").0, 2);
    assert_eq!(top("off").0, 2);
}

#[test]
fn planted_secrets_are_never_in_an_event() {
    const SECRET: &str = "5ec2e75ec2e7";
    let served = serve("live-secrets");
    let process = &served.process;
    let mut viewer = Viewer::join(process.admin);
    viewer.snapshot();
    let queries = [
        "?X-Amz-Signature=S",
        "?x-amz-signature=S&X-Amz-Date=1",
        "?X%2DAmz%2dSignature=S",
        "?X-Amz-Signature%3DS",
        "?%58-Amz-Security-Token=S",
        "?Signature=S&AWSAccessKeyId=S",
        "?access_token=S",
        "?a=1;X-Amz-Signature=S",
        "?S",
        "%3FX-Amz-Signature=S",
        "%253fX-Amz-Signature=S",
        ";token=S",
        "?list-type=S%26",
        "?X-Amz-Credential=S/20261130",
        "?jwt=S&code=S&sig=S&X-Goog-Signature=S",
    ];
    let token = format!("Bearer {SECRET}");
    let cookie = format!("session={SECRET}");
    for query in queries {
        let target = format!(
            "/k{}",
            query
                .replace('S', SECRET)
                .replace(&format!("{SECRET}ignature"), "Signature")
        );
        // Names that contain a capital S.
        let target = target
            .replace(&format!("{SECRET}ecurity"), "Security")
            .replace(&format!("AW{SECRET}"), "AWS");
        let referer = format!("https://user:{SECRET}@app.example{target}");
        for origin in [EVIL, APP] {
            let fields = [
                HOST,
                origin,
                ("Referer", &referer),
                ("Authorization", &token),
                ("Cookie", &cookie),
                ("X-Amz-Security-Token", SECRET),
                ("Proxy-Authorization", &token),
            ];
            ask(process.address, "GET", &target, &fields);
            let event = viewer.cors().to_string();
            assert!(!event.contains(SECRET), "{target}: {event}");
        }
    }
    let snapshot = Viewer::join(process.admin).snapshot().to_string();
    assert!(!snapshot.contains(SECRET));
}

#[test]
fn pages_of_other_sites_get_nothing_from_the_listener() {
    let served = serve("live-foreign");
    let admin = served.process.admin;
    for path in [
        "/",
        "/livez",
        "/readyz",
        "/metrics",
        "/status",
        "/cors",
        "/cors/live",
        "/console.js",
        "/console.css",
    ] {
        let refused: [(&[(&str, &str)], u16); 6] = [
            // An image, a script, an EventSource, a rebound name, a form.
            (
                &[
                    ("Host", "localhost"),
                    ("Sec-Fetch-Site", "cross-site"),
                    ("Sec-Fetch-Mode", "no-cors"),
                ],
                403,
            ),
            (
                &[
                    ("Host", "localhost"),
                    ("Sec-Fetch-Site", "same-site"),
                    ("Sec-Fetch-Mode", "cors"),
                ],
                403,
            ),
            (
                &[("Host", "localhost"), ("Origin", "https://evil.example")],
                403,
            ),
            (&[("Host", "localhost"), ("Origin", "null")], 403),
            (
                &[("Host", "localhost"), ("Origin", "http://localhost:3000")],
                403,
            ),
            (&[("Host", "evil.example")], 421),
        ];
        for (fields, status) in refused {
            let answer = ask(admin, "GET", path, fields);
            assert_eq!(answer.status, status, "{path} {fields:?}");
            let has_cors = answer
                .headers
                .keys()
                .any(|name| name.as_str().starts_with("access-control-"));
            assert!(!has_cors);
        }
        let form = [
            ("Host", "localhost"),
            ("Content-Length", "0"),
            ("Sec-Fetch-Mode", "navigate"),
        ];
        assert_eq!(ask(admin, "POST", path, &form).status, 405, "{path}");
    }
    // None of them took a viewer's place.
    let mut viewer = Viewer::join(admin);
    assert_eq!(viewer.snapshot()["viewers"], 1);
    // A link to the console may be followed.
    let link = [
        ("Host", "localhost"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Accept", "text/html"),
    ];
    assert_eq!(ask(admin, "GET", "/cors", &link).status, 200);
}
