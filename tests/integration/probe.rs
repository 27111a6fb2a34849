//! `s3cors probe` against servers with one fault each, as `tests/data/probe/servers.json` describes them.
//! `tests/clients/browser` compares the same servers with Chromium.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::support::binary::{Folder, line_with, run, s3cors};
use crate::support::certificates::Authority;

const PAGE: &str = "https://app.example";

/// The contents of `servers.json`.
fn cases() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/probe/servers.json");
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A server that answers `/N/…` like case N.
struct Servers {
    origins: [String; 2],
}

/// What caches store, by target.
type Kept = Arc<Mutex<HashMap<String, String>>>;

impl Servers {
    fn start() -> Self {
        let cases = Arc::new(cases());
        let kept = Kept::default();
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let origins = [&listeners[0], &listeners[1]]
            .map(|listener| format!("http://{}", listener.local_addr().unwrap()));
        for listener in listeners {
            let (cases, kept, origins) = (Arc::clone(&cases), Arc::clone(&kept), origins.clone());
            // Ends with the process.
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (cases, kept, origins) =
                        (Arc::clone(&cases), Arc::clone(&kept), origins.clone());
                    thread::spawn(move || serve(stream.unwrap(), &cases, &kept, &origins));
                }
            });
        }
        Self { origins }
    }

    fn url(&self, number: usize) -> String {
        format!("{}/{number}/k", self.origins[0])
    }
}

fn serve(stream: TcpStream, cases: &[Value], kept: &Kept, origins: &[String; 2]) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (method, target) = (
        line.split(' ').next()?.to_owned(),
        line.split(' ').nth(1)?.to_owned(),
    );
    let mut origin = None;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).ok()?;
        let (name, value) = match field.trim_end().split_once(':') {
            None => break,
            Some((name, value)) => (name.to_ascii_lowercase(), value.trim().to_owned()),
        };
        if name == "origin" {
            origin = Some(value);
        }
    }
    let path = target.split('?').next()?;
    let (number, rest) = path.trim_start_matches('/').split_once('/')?;
    let case = &cases[number.parse::<usize>().ok()?];
    let answer = match rest {
        "k" if method == "OPTIONS" => &case["preflight"],
        "k" if target == path && case.get("kept").is_some() => &case["kept"],
        "k" => match &origin {
            None if case.get("without_origin").is_some() => &case["without_origin"],
            Some(origin) if origin != PAGE && case.get("to_others").is_some() => &case["to_others"],
            _ => &case["response"],
        },
        "2" => &case["hops"][0],
        _ => &case["missing"],
    };
    let authority = origins[0].replacen("http://", "http://user:S3CR3T@", 1);
    let replace = |text: &str| {
        text.replace("$PAGE", PAGE)
            .replace("$ORIGIN", origin.as_deref().unwrap_or("*"))
            .replace("$URL", &format!("{}/{number}/k", origins[0]))
            .replace("$OTHER", &format!("{}/{number}", origins[1]))
            .replace("$AUTHORITY", &format!("{authority}/{number}"))
    };
    let mut head = match answer {
        Value::Null if matches!(rest, "k" | "2") => return None,
        Value::Null => "HTTP/1.1 404 Scripted\r\naccess-control-allow-origin: *\r\n".to_owned(),
        answer => format!("HTTP/1.1 {} Scripted\r\n", answer["status"]),
    };
    for field in answer["headers"].as_array().into_iter().flatten() {
        let value = replace(field[1].as_str().unwrap());
        head += &format!("{}: {value}\r\n", field[0].as_str().unwrap());
    }
    head += "content-length: 0\r\nconnection: close\r\n\r\n";
    if case["cache"] == true && method == "GET" {
        head = kept.lock().unwrap().entry(target).or_insert(head).clone();
    }
    let mut stream = stream;
    stream.write_all(head.as_bytes()).ok()
}

/// The arguments for a request of a case.
fn arguments(case: &Value, url: &str) -> Vec<String> {
    let request = &case["request"];
    let mut arguments = vec!["probe".into(), url.into(), "--origin".into(), PAGE.into()];
    arguments.extend(["--send".into(), "--format".into(), "json".into()]);
    for name in ["method", "credentials"] {
        if let Some(value) = request[name].as_str() {
            arguments.extend([format!("--{name}"), value.to_owned()]);
        }
    }
    for header in request["headers"].as_array().into_iter().flatten() {
        let header = format!(
            "{}: {}",
            header[0].as_str().unwrap(),
            header[1].as_str().unwrap()
        );
        arguments.extend(["--header".into(), header]);
    }
    for name in request["read"].as_array().into_iter().flatten() {
        arguments.extend(["--read".into(), name.as_str().unwrap().to_owned()]);
    }
    arguments
}

#[test]
fn each_planted_fault_is_found_and_nothing_else() {
    let servers = Servers::start();
    for (number, case) in cases().iter().enumerate() {
        let name = &case["name"];
        let arguments = arguments(case, &servers.url(number));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, output, complaint) = run(&arguments);
        assert_eq!(complaint, "", "{name}");
        assert!(!output.contains("S3CR3T"), "{name}: {output}");
        let document: Value = serde_json::from_str(&output).unwrap();
        let expected = &case["expect"];
        let parameter = expected["parameter"]
            .as_str()
            .unwrap()
            .replace("$PAGE", PAGE);
        assert_eq!(document["outcome"], expected["outcome"], "{name}: {output}");
        assert_eq!(document["verdict"]["error"], expected["error"], "{name}");
        assert_eq!(document["verdict"]["parameter"], parameter, "{name}");
        let findings = document["findings"].as_array().unwrap();
        let mut found: Vec<&str> = findings
            .iter()
            .map(|one| one["id"].as_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(
            Value::from(found),
            expected["findings"],
            "{name}: {findings:?}"
        );
        let satisfied = expected["outcome"] == "readable"
            && !findings.iter().any(|one| one["id"] == "field_not_exposed");
        assert_eq!(code, i32::from(!satisfied), "{name}");
        assert_eq!(document["fix"].is_null(), satisfied, "{name}");
        let human: Vec<&str> = arguments
            .iter()
            .map(|word| if *word == "json" { "human" } else { word })
            .collect();
        let (_, output, _) = run(&human);
        assert!(!output.contains("S3CR3T"), "{name}: {output}");
    }
}

#[test]
fn no_secret_is_printed_wherever_it_is() {
    let head: &[u8] = b"HTTP/1.1 302 Found\r\naccess-control-allow-origin: *\r\n\
        location: //user:S3CR3T@127.0.0.1:1/k\r\nset-cookie: a=S3CR3T\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let redirects = flood(head, b"").0;
    let blocks = flood(
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        b"",
    )
    .0;
    let key = "x-amz-server-side-encryption-customer-key: S3CR3T";
    let signed = "/it's'.jpg?X-Amz-Signature=S3CR3T";
    let urls = [
        redirects.clone(),
        redirects.replace("/k", signed),
        blocks.replace("/k", signed),
        blocks.replace("http:", "HTTP:").replace("/k", signed),
        "ftp://user:S3CR3T@a.example/?token=S3CR3T".to_owned(),
        "http://user:S3CR3T@a.example/?token=S3CR3T".to_owned(),
        "a.example/?token=S3CR3T".to_owned(),
    ];
    for url in urls {
        for format in ["human", "json"] {
            for more in [&[][..], &["--header", key]] {
                let fixed = ["probe", &url, "--origin", PAGE, "--format", format];
                let (_, output, complaint) = run(&[&fixed[..], more].concat());
                assert!(!output.contains("S3CR3T"), "{output}");
                assert!(!complaint.contains("S3CR3T"), "{complaint}");
            }
        }
    }
}

#[test]
fn a_request_that_may_change_something_is_sent_only_if_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/k", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let _ = reader.read_line(&mut line);
            while reader
                .read_line(&mut String::new())
                .is_ok_and(|read| read > 2)
            {}
            seen.lock()
                .unwrap()
                .extend(line.split(' ').next().map(str::to_owned));
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\naccess-control-allow-methods: DELETE\r\n\
                  content-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
    });
    let probe = |more: &[&str]| run(&[&["probe", &url, "--origin", PAGE], more].concat());

    let (code, output, _) = probe(&["--method", "DELETE"]);
    assert_eq!(code, 0, "{output}");
    assert!(output.starts_with("PREFLIGHT PASSES: DELETE"), "{output}");
    assert!(asked.lock().unwrap().contains(&"OPTIONS".to_owned()));
    assert!(!asked.lock().unwrap().contains(&"DELETE".to_owned()));

    let (code, output, _) = probe(&["--method", "DELETE", "--send"]);
    assert_eq!(code, 0, "{output}");
    assert!(output.starts_with("READABLE: DELETE"), "{output}");
    assert!(asked.lock().unwrap().contains(&"DELETE".to_owned()));

    // Same-origin requests need no preflight, whatever the method.
    let origin = url.trim_end_matches("/k");
    let (code, _, complaint) = run(&["probe", &url, "--origin", origin, "--method", "PUT"]);
    assert_eq!(code, 2, "{complaint}");
    assert!(complaint.contains("--send"), "{complaint}");

    // Only its response would show anything.
    let (code, output, complaint) = probe(&["--method", "POST"]);
    assert_eq!((code, &*output), (2, ""));
    assert!(complaint.contains("--send"), "{complaint}");
    assert!(!asked.lock().unwrap().contains(&"POST".to_owned()));
}

#[test]
fn invalid_arguments_and_unreachable_servers_are_clear_errors() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/", silent.local_addr().unwrap());
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let origin = ["--origin", PAGE];
    let cases: [(&str, &[&str], i32, &str); 11] = [
        ("http://a.example/", &[], 2, "--origin"),
        (
            "a.example/k",
            &origin,
            2,
            "has no scheme; write http://a.example/k",
        ),
        ("ftp://a.example/k", &origin, 2, "only http and https"),
        ("http://u:p@a.example/", &origin, 2, "browsers refuse"),
        (
            "http://a.example/",
            &["--origin", "app.example"],
            2,
            "write https://app.example",
        ),
        (
            "http://a.example/",
            &["--origin", PAGE, "--method", "TRACE"],
            2,
            "no script can use it",
        ),
        (
            "http://a.example/",
            &["--origin", PAGE, "--header", "a b: 1"],
            2,
            "isn't a valid header name",
        ),
        (
            "http://a.example/",
            &["--origin", PAGE, "--read", "a b"],
            2,
            "isn't a valid header name",
        ),
        (
            "http://a.example/",
            &["--origin", PAGE, "--resolve", "a.example:80"],
            2,
            "HOST:PORT:ADDRESS",
        ),
        (&closed, &origin, 3, "cannot connect"),
        (
            &silent,
            &["--origin", PAGE, "--timeout", "1"],
            3,
            "no answer within 1 s",
        ),
    ];
    for (url, more, expected, why) in cases {
        let (code, _, complaint) = run(&[&["probe", url], more].concat());
        assert_eq!(code, expected, "{url} {more:?}: {complaint}");
        assert!(complaint.contains(why), "{url} {more:?}: {complaint}");
    }
    let (code, output, _) = run(&["probe", &closed, "--origin", PAGE, "--format", "json"]);
    let document: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, &document["outcome"]), (3, &"unreached".into()));
}

/// A proxy with TLS in its own process.
struct Secure(Child);

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn tls_is_verified_as_in_browsers_and_http2_is_used_if_offered() {
    let folder = Folder::new("probe-tls");
    let authority = Authority::new();
    let pair = authority.sign(&["photos.test"]);
    folder.write("site.crt", &pair.certificate);
    folder.write("site.key", &pair.key);
    let trusted = folder.write("authority.pem", &authority.pem());
    folder.write(
        "cors.xml",
        "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
         <AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>",
    );
    let config = folder.write(
        "s3cors.toml",
        "workers = 1\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
         tls = [{ certificate = \"site.crt\", key = \"site.key\" }]\n[admin]\naddress = \"off\"\n\
         [[route]]\nhost = [\"photos.test\"]\nupstream = [\"http://127.0.0.1:1\"]\ncors = \"cors.xml\"\n",
    );
    let mut command = s3cors(&["run", "--config", &config]);
    let mut proxy = Secure(command.stderr(Stdio::piped()).spawn().unwrap());
    let line = line_with(
        &mut BufReader::new(proxy.0.stderr.take().unwrap()),
        "listening",
    );
    let port = line.trim().rsplit_once(':').unwrap().1.to_owned();

    let url = format!("https://photos.test:{port}/k");
    let resolve = format!("PHOTOS.test:{port}:127.0.0.1");
    let probe = |more: &[&str], trust: &str| {
        let fixed = [
            "probe",
            &url,
            "--origin",
            PAGE,
            "--method",
            "PUT",
            "--resolve",
            &resolve,
        ];
        let mut command = s3cors(&[&fixed[..], &["--format", "json"], more].concat());
        let output = command.env("SSL_CERT_FILE", trust).output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), document, complaint)
    };
    let (code, document, complaint) = probe(&[], &folder.write("none.pem", &pair.certificate));
    assert_eq!((code, &document["outcome"]), (3, &"unreached".into()));
    assert!(complaint.contains("--insecure"), "{complaint}");
    for (more, trust) in [(&["--insecure"][..], "/dev/null"), (&[], &*trusted)] {
        let (code, document, complaint) = probe(more, trust);
        assert_eq!(code, 0, "{complaint}{document:#}");
        assert_eq!(document["outcome"], "unsent");
        assert_eq!(document["exchange"][0]["response"]["version"], "HTTP/2");
    }
}

/// Answers every connection with these bytes, repeatedly until the other side leaves. Returns the
/// URL, and the most that was written to one connection.
fn flood(head: &'static [u8], endless: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/k", listener.local_addr().unwrap());
    let most = Arc::new(AtomicUsize::new(0));
    let written = Arc::clone(&most);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let written = Arc::clone(&written);
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(head);
                let mut count = head.len();
                while !endless.is_empty() && stream.write_all(endless).is_ok() {
                    count += endless.len();
                    written.fetch_max(count, Ordering::Relaxed);
                }
            });
        }
    });
    (url, most)
}

#[test]
fn no_server_can_exhaust_its_time_or_memory() {
    let line = b"x-a: 0123456789012345678901234567890123456789\r\n";
    let body = [b'x'; 1 << 16].as_slice();
    let body: &'static [u8] = Box::leak(body.to_vec().into_boxed_slice());
    let ok = b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\n";
    let cases = [
        (flood(b"HTTP/1.1 200 OK\r\n", line), 3),
        (flood(b"", body), 3),
        (
            flood(
                b"HTTP/1.1 100 Continue\r\n\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\n",
            ),
            3,
        ),
        (flood([&ok[..], b"\r\n"].concat().leak(), body), 0),
        (
            flood(
                [&ok[..], b"content-length: 5\r\n\r\n12"].concat().leak(),
                b"",
            ),
            0,
        ),
    ];
    // The limit, and the buffers of the two sockets.
    const MOST: usize = (256 << 10) + (16 << 20);
    for ((url, written), expected) in cases {
        let (code, output, complaint) = run(&["probe", &url, "--origin", PAGE, "--timeout", "2"]);
        assert_eq!(code, expected, "{url}: {output}{complaint}");
        let written = written.load(Ordering::Relaxed);
        let is_interim = expected == 3 && complaint.contains("no answer within");
        assert!(
            written < MOST || is_interim,
            "{url}: {written} bytes were read"
        );
    }
}
