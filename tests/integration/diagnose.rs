//! `s3cors diagnose`: recordings in, blocked requests out. `tests/clients/browser` has recordings of Chromium.

use std::fmt::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::binary::{Folder, run, s3cors};

const PAGE: &str = "https://app.example";

/// Event numbers of Chromium 156; other versions have others.
const TYPES: [(&str, i64); 9] = [
    ("CORS_REQUEST", 1),
    ("CORS_PREFLIGHT_URL_REQUEST", 2),
    ("CORS_PREFLIGHT_ERROR", 3),
    ("URL_REQUEST_START_JOB", 4),
    ("HTTP_TRANSACTION_HTTP2_SEND_REQUEST_HEADERS", 5),
    ("HTTP_TRANSACTION_READ_RESPONSE_HEADERS", 6),
    ("CANCELLED", 7),
    ("REQUEST_ALIVE", 8),
    ("SOCKET_BYTES_SENT", 9),
];

fn event(source: u64, name: &str, phase: i64, params: Value) -> Value {
    let kind = TYPES.iter().find(|(other, _)| *other == name).unwrap().1;
    json!({ "params": params, "phase": phase, "source": { "id": source, "type": 1 }, "time": "1", "type": kind })
}

fn constants() -> Value {
    let types: serde_json::Map<String, Value> = TYPES
        .iter()
        .map(|(name, number)| ((*name).to_owned(), (*number).into()))
        .collect();
    json!({
        "logEventTypes": types,
        "netError": { "ERR_NAME_NOT_RESOLVED": -105, "ERR_FAILED": -2 },
        "loadFlag": { "DO_NOT_SAVE_COOKIES": 64 },
    })
}

fn netlog(events: &[Value]) -> String {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    format!(
        "{{\"constants\":{},\n\"events\": [\n{}]}}\n",
        constants(),
        lines.join(",\n")
    )
}

/// A PUT whose preflight failed, as Chromium records it.
fn failed_preflight(source: u64, url: &str) -> Vec<Value> {
    let preflight = source + 1;
    vec![
        event(
            source,
            "CORS_REQUEST",
            1,
            json!({
                "request_headers": {
                    "headers": ["content-type: image/png", "authorization: Bearer S3CR3T", "User-Agent: x", "Accept: */*"],
                    "line": "PUT /b/k HTTP/1.1\r\n",
                },
                "url": url,
            }),
        ),
        event(
            source,
            "CORS_PREFLIGHT_URL_REQUEST",
            0,
            json!({ "source_dependency": { "id": preflight, "type": 1 } }),
        ),
        event(preflight, "REQUEST_ALIVE", 1, json!({ "url": url })),
        event(
            preflight,
            "URL_REQUEST_START_JOB",
            1,
            json!({ "initiator": PAGE, "load_flags": 64, "method": "OPTIONS", "url": url }),
        ),
        event(
            preflight,
            "HTTP_TRANSACTION_HTTP2_SEND_REQUEST_HEADERS",
            0,
            json!({
                "headers": [":method: OPTIONS", "origin: https://app.example", "cookie: a=S3CR3T"],
            }),
        ),
        event(
            preflight,
            "HTTP_TRANSACTION_READ_RESPONSE_HEADERS",
            0,
            json!({
                "headers": ["HTTP/1.1 403", "set-cookie: a=S3CR3T"],
            }),
        ),
        event(preflight, "REQUEST_ALIVE", 2, json!(null)),
        event(
            source,
            "CORS_PREFLIGHT_ERROR",
            0,
            json!({ "cors-error": 12, "error": "ERR_FAILED", "failed-parameter": "" }),
        ),
        event(source, "CORS_REQUEST", 2, json!(null)),
    ]
}

/// A GET with these response fields, which Chromium cancels if it blocks it.
fn got(source: u64, url: &str, headers: &[&str], is_cancelled: bool) -> Vec<Value> {
    let mut events = vec![
        event(
            source,
            "CORS_REQUEST",
            1,
            json!({ "request_headers": { "headers": ["Accept: */*"], "line": "GET /b/k HTTP/1.1\r\n" }, "url": url }),
        ),
        event(source, "REQUEST_ALIVE", 1, json!({ "url": url })),
        event(
            source,
            "URL_REQUEST_START_JOB",
            1,
            json!({ "initiator": PAGE, "load_flags": 64, "method": "GET", "url": url }),
        ),
        event(
            source,
            "HTTP_TRANSACTION_HTTP2_SEND_REQUEST_HEADERS",
            0,
            json!({ "headers": ["origin: https://app.example", "sec-fetch-mode: cors"] }),
        ),
        event(
            source,
            "HTTP_TRANSACTION_READ_RESPONSE_HEADERS",
            0,
            json!({ "headers": headers }),
        ),
        event(source, "CORS_REQUEST", 2, json!(null)),
    ];
    if is_cancelled {
        events.push(event(source, "CANCELLED", 0, json!(null)));
    }
    events.push(event(source, "REQUEST_ALIVE", 2, json!(null)));
    events
}

fn diagnosed(path: &str, more: &[&str]) -> (i32, Value) {
    let (code, output, complaint) = run(&[&["diagnose", "--format", "json", path], more].concat());
    let parsed = serde_json::from_str(&output);
    (
        code,
        parsed.unwrap_or_else(|error| panic!("{error}: {output}{complaint}")),
    )
}

const SIGNED: &str = "https://s3.example/b/k?X-Amz-Signature=S3CR3T&partNumber=2";

#[test]
fn blocked_requests_are_grouped_by_reason() {
    let folder = Folder::new("diagnose-groups");
    let mut events = failed_preflight(10, SIGNED);
    events.extend(failed_preflight(20, "https://s3.example/b/l"));
    events.extend(got(
        30,
        "https://s3.example/b/k",
        &["HTTP/1.1 200 OK"],
        true,
    ));
    events.extend(got(
        40,
        "https://s3.example/b/k",
        &["HTTP/1.1 200 OK", "access-control-allow-origin: *"],
        false,
    ));
    // Same-origin requests do not use CORS.
    events.extend(got(
        50,
        "https://app.example/k",
        &["HTTP/1.1 200 OK"],
        false,
    ));
    let file = folder.write("net.json", &netlog(&events));
    let (code, document) = diagnosed(&file, &[]);
    assert_eq!(code, 1);
    assert_eq!(
        (&document["format"], &document["broken_off"]),
        (&"netlog".into(), &Value::Null)
    );
    assert_eq!(document["cross_origin_requests"], 4);
    let [get, put] = document["blocked"].as_array().unwrap().as_slice() else {
        panic!("{document:#}");
    };
    assert_eq!(
        (&get["error"], &get["count"]),
        (&"MissingAllowOriginHeader".into(), &1.into())
    );
    assert_eq!(put["error"], "PreflightMissingAllowOriginHeader");
    assert_eq!((&put["method"], &put["count"]), (&"PUT".into(), &2.into()));
    assert_eq!(put["headers"], json!(["content-type", "authorization"]));
    let urls = json!([
        "https://s3.example/b/k?X-Amz-Signature=HIDDEN&partNumber=2",
        "https://s3.example/b/l"
    ]);
    assert_eq!(put["urls"], urls);
    for engine in ["chromium", "firefox", "webkit"] {
        assert!(put["messages"][engine].is_string(), "{engine}");
    }
    for format in ["human", "json"] {
        let (_, output, _) = run(&["diagnose", "--format", format, &file]);
        assert!(!output.contains("S3CR3T"), "{output}");
    }

    // A NetLog of a killed Chrome: cut at any byte.
    let text = netlog(&events);
    let start = text.find("\"events\"").unwrap();
    for end in (start..text.len() - 4).step_by(97) {
        let file = folder.write("cut.json", &text[..end]);
        let (code, document) = diagnosed(&file, &[]);
        let blocked = document["blocked"].as_array().unwrap();
        assert_eq!(code, i32::from(!blocked.is_empty()), "{end}");
        assert!(document["broken_off"].is_string(), "{end}");
    }
}

#[test]
fn the_smallest_change_of_a_policy_or_a_config_is_shown() {
    let folder = Folder::new("diagnose-policy");
    let file = folder.write(
        "net.json",
        &netlog(&failed_preflight(10, "http://s3.example/b/k")),
    );
    let rule = "<CORSRule><AllowedOrigin>https://app.example</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>\
                <AllowedHeader>authorization</AllowedHeader></CORSRule>";
    let cors = folder.write(
        "cors.xml",
        &format!("<CORSConfiguration>{rule}</CORSConfiguration>"),
    );
    folder.write(
        "s3cors.toml",
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[[route]]\nname = \"s3\"\nhost = [\"s3.example\"]\n\
         upstream = [\"http://127.0.0.1:9\"]\ncors = \"cors.xml\"\n",
    );
    let config = folder.path("s3cors.toml").display().to_string();
    for more in [["--cors", &cors], ["--config", &config]] {
        let (code, document) = diagnosed(&file, &more);
        assert_eq!(code, 1);
        let policy = &document["blocked"][0]["policy"];
        assert_eq!(policy["verdict"], "refused", "{document:#}");
        assert_eq!(
            policy["advice"]["xml"],
            "<AllowedHeader>content-type</AllowedHeader>"
        );
        let (_, output, _) = run(&["diagnose", &file, more[0], more[1]]);
        assert!(
            output.contains("<AllowedHeader>content-type</AllowedHeader>"),
            "{output}"
        );
    }
    let (code, _, complaint) = run(&["diagnose", &file, "--cors", "no-such-file"]);
    assert_eq!(code, 2);
    assert!(complaint.contains("no-such-file"), "{complaint}");
}

fn entry(
    method: &str,
    url: &str,
    sent: &[(&str, &str)],
    status: i64,
    answered: &[(&str, &str)],
) -> Value {
    let fields = |fields: &[(&str, &str)]| -> Vec<Value> {
        fields
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect()
    };
    json!({
        "request": { "method": method, "url": url, "headers": fields(sent), "cookies": [], "postData": { "text": "S3CR3T" } },
        "response": { "status": status, "headers": fields(answered), "content": { "text": "S3CR3T" } },
    })
}

#[test]
fn a_har_is_diagnosed_as_far_as_it_goes() {
    let folder = Folder::new("diagnose-har");
    let origin = ("Origin", PAGE);
    let url = "https://s3.example/b/k?token=S3CR3T";
    let asked = ("Access-Control-Request-Method", "PUT");
    // As Chrome exports it: the request without a response first, then its preflight.
    let chrome = [
        entry("PUT", url, &[origin, ("Cookie", "S3CR3T")], 0, &[]),
        entry("OPTIONS", url, &[origin, asked], 403, &[]),
        entry("GET", "https://s3.example/b/l", &[origin], 0, &[]),
    ];
    // As Firefox does: with the response.
    let firefox = [entry(
        "GET",
        url,
        &[origin, ("Sec-Fetch-Mode", "cors")],
        200,
        &[("ETag", "x")],
    )];
    let cases = [
        (
            &chrome[..],
            vec![Value::Null, "PreflightMissingAllowOriginHeader".into()],
        ),
        (&firefox[..], vec!["MissingAllowOriginHeader".into()]),
        (
            &[entry(
                "GET",
                url,
                &[origin],
                200,
                &[("Access-Control-Allow-Origin", "*")],
            )],
            vec![],
        ),
        (
            &[entry(
                "GET",
                url,
                &[
                    ("Sec-Fetch-Mode", "no-cors"),
                    ("Referer", "https://app.example/"),
                ],
                200,
                &[],
            )],
            vec![],
        ),
    ];
    for (entries, expected) in cases {
        let har = json!({ "log": { "version": "1.2", "pages": [], "entries": entries } });
        let file = folder.write("page.har", &har.to_string());
        let (code, document) = diagnosed(&file, &[]);
        let errors = document["blocked"].as_array().unwrap().iter();
        let errors: Vec<Value> = errors.map(|group| group["error"].clone()).collect();
        assert_eq!(errors, expected, "{document:#}");
        assert_eq!(code, i32::from(!errors.is_empty()));
        let (_, output, _) = run(&["diagnose", &file]);
        assert!(
            !output.contains("S3CR3T") && !document.to_string().contains("S3CR3T"),
            "{output}"
        );
    }
}

#[test]
fn what_is_not_a_recording_is_a_clear_error() {
    let folder = Folder::new("diagnose-errors");
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let many = format!("{{\"constants\":{},\"events\":[", constants());
    let cases = [
        ("", "breaks off"),
        ("hello", "is not a NetLog or a HAR"),
        ("[]", "is not a NetLog or a HAR"),
        ("{}", "is neither a NetLog"),
        ("{\"log\":{\"entries\":[]}}", "is a HAR without entries"),
        ("{\"log\":{}}", "is a HAR without entries"),
        ("{\"log\":{\"entries\":[", "breaks off"),
        ("{\"events\":[]}", "has no `constants`"),
        (&deep, "nested more than"),
    ];
    for (text, why) in cases {
        let file = folder.write("file.json", text);
        let (code, output, complaint) = run(&["diagnose", &file]);
        assert_eq!((code, &*output), (2, ""), "{text:.30}");
        assert!(complaint.contains(why), "{text:.30}: {complaint}");
    }
    let (code, _, complaint) = run(&["diagnose", "no-such-file"]);
    assert_eq!(code, 2);
    assert!(
        complaint.contains("cannot read no-such-file"),
        "{complaint}"
    );
    // Nothing was recorded before Chrome was killed.
    let file = folder.write("file.json", &many);
    let (code, document) = diagnosed(&file, &[]);
    assert_eq!((code, &document["blocked"]), (0, &json!([])));
}

/// Parts of a NetLog, written one after the other, and the memory that reading them needs.
fn peak_of(write: impl FnOnce(&mut dyn std::io::Write) + Send + 'static) -> (i32, Value, u64) {
    // The shell reports its child's memory.
    let mut command = s3cors(&["diagnose", "--format", "json", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let writer = std::thread::spawn(move || {
        write(&mut stdin);
        // The pipe is still open, so the process is still running.
        let text = std::fs::read_to_string(status).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        let kib = line.split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() * 1024
    });
    let output = child.wait_with_output();
    let peak = writer.join().unwrap();
    let output = output.unwrap();
    let document = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), document, peak)
}

#[test]
fn memory_is_bounded_for_any_recording() {
    const LIMIT: u64 = 100 << 20;
    let start = || format!("{{\"constants\":{},\"events\":[\n", constants());
    let blocked: Vec<String> = failed_preflight(10, SIGNED)
        .iter()
        .map(Value::to_string)
        .collect();
    let end = blocked.join(",\n") + "]}";

    // Many irrelevant events, and one long string.
    let text = end.clone();
    let (code, document, peak) = peak_of(move |out| {
        let noise = event(
            1,
            "SOCKET_BYTES_SENT",
            0,
            json!({ "bytes": "x".repeat(20_000) }),
        )
        .to_string()
            + ",\n";
        out.write_all(start().as_bytes()).unwrap();
        for _ in 0..500 {
            out.write_all(noise.as_bytes()).unwrap();
        }
        out.write_all(b"{\"params\":{\"url\":\"").unwrap();
        for _ in 0..(24 << 20) / 4096 {
            out.write_all(&[b'x'; 4096]).unwrap();
        }
        out.write_all(b"\"},\"source\":{\"id\":1},\"type\":1,\"phase\":1},\n")
            .unwrap();
        out.write_all(text.as_bytes()).unwrap();
    });
    assert_eq!((code, &document["blocked"][0]["count"]), (1, &1.into()));
    assert!(peak < LIMIT, "{peak}");

    // Requests that never end, each with long fields.
    let (code, document, peak) = peak_of(move |out| {
        out.write_all(start().as_bytes()).unwrap();
        for source in 0..3000 {
            let mut one = got(
                100 + source,
                "https://s3.example/b/k",
                &[&format!("x: {}", "y".repeat(15_000))],
                false,
            );
            one.truncate(3);
            one[0]["params"]["request_headers"]["headers"] =
                json!([format!("x-a: {}", "y".repeat(15_000))]);
            let mut text = String::new();
            for event in one {
                writeln!(text, "{event},").unwrap();
            }
            out.write_all(text.as_bytes()).unwrap();
        }
        out.write_all(end.as_bytes()).unwrap();
    });
    assert_eq!((code, &document["blocked"][0]["count"]), (1, &1.into()));
    assert!(
        document["forgotten"].as_u64().unwrap() > 1000,
        "{}",
        document["forgotten"]
    );
    assert!(peak < LIMIT, "{peak}");
}
