//! Selection of upstreams, their limits, and their exclusion after failures.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use s3cors::routing::snapshot::HostHeader;
use s3cors::upstream::check_settings::CheckSettings;

use crate::support::client::{RawClient, RawResponse, ask};
use crate::support::configured::Configured;
use crate::support::folder::Folder;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::{MockUpstream, refusing_until_it_listens};

const ORIGIN: (&str, &str) = ("Origin", "https://app.example");

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
    <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const UNIX: &str = "workers = 1\n[[listen]]\naddress = 'unix:down.sock'\n\
    [[route]]\nhost = '*'\nupstream = 'unix:up.sock'\n";

/// An upper limit for every step.
const PATIENCE: Duration = Duration::from_secs(20);

/// An upstream that answers one request per message it receives.
fn holding() -> (MockUpstream, mpsc::Sender<()>) {
    let (go, going) = mpsc::channel();
    let going = Mutex::new(going);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        let gone = going.lock().unwrap().recv();
        exchange.send(OK);
        gone.is_ok()
    });
    (upstream, go)
}

fn get(proxy: &TestProxy) -> RawResponse {
    ask(proxy.address, "GET", "/k", &[ORIGIN])
}

fn value(proxy: &TestProxy, series: &str) -> Option<f64> {
    let text = proxy.metrics.encode();
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn errors(proxy: &TestProxy, reason: &str) -> Option<f64> {
    let labels = format!("{{route=\"photos.example\",reason=\"{reason}\"}}");
    value(proxy, &format!("s3cors_upstream_errors_total{labels}"))
}

fn is_healthy(proxy: &TestProxy, upstream: SocketAddr) -> bool {
    let labels = format!("{{route=\"photos.example\",upstream=\"http://{upstream}\"}}");
    value(proxy, &format!("s3cors_upstream_healthy{labels}")) == Some(1.0)
}

#[test]
fn each_upstream_gets_its_own_host_if_configured() {
    let upstreams = [MockUpstream::answering(OK), MockUpstream::answering(OK)];
    let mut route = TestRoute::new(upstreams[0].address, POLICY);
    route.upstreams = upstreams.each_ref().map(|upstream| upstream.address).into();
    route.host_header = HostHeader::Upstream;
    let proxy = TestProxy::start(&[route]);
    for _ in 0..4 {
        assert_eq!(get(&proxy).status, 200);
    }
    for upstream in upstreams {
        let requests = upstream.requests();
        assert!(!requests.is_empty());
        for request in requests {
            assert_eq!(request.values("host"), [upstream.address.to_string()]);
        }
    }
}

#[test]
fn beyond_its_connections_and_queue_an_upstream_gets_no_requests() {
    let (upstream, go) = holding();
    let mut route = TestRoute::new(upstream.address, POLICY);
    route.limits.connections = 1;
    route.limits.client_share_percent = 100;
    route.limits.queue = 1;
    route.timeouts.queue = PATIENCE;
    let proxy = TestProxy::start(&[route]);
    let request = "GET /k HTTP/1.1\r\nHost: photos.example\r\nOrigin: https://app.example\r\n\r\n";

    let mut first = RawClient::connect(proxy.address);
    first.send(request);
    upstream.wait_for_request();
    // One of the next two waits, whichever comes first; the other one gets 503.
    let (told, answers) = mpsc::channel();
    for _ in 0..2 {
        let (address, told) = (proxy.address, told.clone());
        thread::spawn(move || told.send(ask(address, "GET", "/k", &[ORIGIN])).unwrap());
    }
    let refused = answers.recv_timeout(PATIENCE).unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.values("retry-after"), ["1"]);
    assert_eq!(refused.values("access-control-allow-origin"), [ORIGIN.1]);
    assert!(refused.text().contains("<Code>SlowDown</Code>"));
    assert_eq!(errors(&proxy, "busy"), Some(1.0));

    go.send(()).unwrap();
    assert_eq!(first.receive("GET").status, 200);
    upstream.wait_for_request();
    go.send(()).unwrap();
    assert_eq!(answers.recv_timeout(PATIENCE).unwrap().status, 200);
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 2));
    assert!(
        is_healthy(&proxy, upstream.address),
        "asked too much is not ill"
    );
}

#[test]
fn waiting_for_a_connection_has_a_time_limit() {
    let (upstream, go) = holding();
    let mut route = TestRoute::new(upstream.address, POLICY);
    route.limits.connections = 1;
    route.limits.client_share_percent = 100;
    route.timeouts.queue = Duration::from_millis(1);
    let proxy = TestProxy::start(&[route]);
    let mut first = RawClient::connect(proxy.address);
    first.send("GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n");
    upstream.wait_for_request();
    assert_eq!(get(&proxy).status, 503);
    go.send(()).unwrap();
    assert_eq!(first.receive("GET").status, 200);
}

#[test]
fn an_upstream_that_refuses_is_excluded_and_returns_when_it_listens_again() {
    let (dead, socket) = refusing_until_it_listens();
    let alive = MockUpstream::answering(OK);
    let mut route = TestRoute::new(dead, POLICY);
    route.upstreams.push(alive.address);
    let proxy = TestProxy::start(&[route]);
    // Clients do not notice: requests that one upstream cannot get go to the other.
    let begin = Instant::now();
    while is_healthy(&proxy, dead) || alive.requests().is_empty() {
        assert_eq!(get(&proxy).status, 200);
        assert!(begin.elapsed() < PATIENCE);
    }
    assert_eq!(errors(&proxy, "connect"), Some(0.0));

    socket.listen(128).unwrap();
    let revived = MockUpstream::on(socket.into(), true, |exchange| {
        exchange.send(OK);
        true
    });
    while revived.requests().is_empty() {
        assert_eq!(get(&proxy).status, 200);
        assert!(begin.elapsed() < PATIENCE);
    }
    assert!(is_healthy(&proxy, dead));
}

#[test]
fn an_upstream_whose_checks_fail_is_excluded_until_they_pass() {
    let is_well = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&is_well);
    let ill = MockUpstream::scripted(true, move |exchange| {
        let is_check = exchange.request.target() == "/health?quick";
        let fails = is_check && !says.load(Ordering::SeqCst);
        let status = if fails { "500 Ill" } else { "204 Well" };
        exchange.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        true
    });
    let well = MockUpstream::answering("HTTP/1.1 204 Well\r\n\r\n");
    let mut route = TestRoute::new(ill.address, POLICY);
    route.upstreams.push(well.address);
    route.check = Some(CheckSettings {
        interval: Duration::from_millis(200),
        ..CheckSettings::new("/health?quick".parse().unwrap())
    });
    let proxy = TestProxy::start(&[route]);
    assert_eq!(get(&proxy).status, 204);
    let until = |healthy| {
        let begin = Instant::now();
        while is_healthy(&proxy, ill.address) != healthy {
            ill.wait_for_request();
            assert!(begin.elapsed() < PATIENCE);
        }
    };
    until(false);
    let asked = || {
        ill.requests()
            .iter()
            .filter(|seen| seen.target() == "/k")
            .count()
    };
    let before = asked();
    for _ in 0..10 {
        assert_eq!(get(&proxy).status, 204);
    }
    assert_eq!(asked(), before);
    assert!(is_healthy(&proxy, well.address));
    is_well.store(true, Ordering::SeqCst);
    until(true);
    for _ in 0..10 {
        assert_eq!(get(&proxy).status, 204);
    }
    assert!(asked() > before);
}

#[test]
fn the_only_upstream_is_used_even_if_it_is_unhealthy() {
    let upstream = MockUpstream::scripted(true, |exchange| {
        if exchange.request.target() == "/good" {
            exchange.send(OK);
        }
        false
    });
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    let threshold = s3cors::upstream::health::HealthSettings::default().failures;
    for _ in 0..threshold {
        assert_eq!(get(&proxy).status, 502);
    }
    assert!(!is_healthy(&proxy, upstream.address));
    assert_eq!(ask(proxy.address, "GET", "/good", &[]).status, 200);
}

#[test]
fn a_request_on_a_closed_connection_goes_to_another_upstream() {
    let alive = MockUpstream::answering(OK);
    // Closes its connection and its listener after one response.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut route = TestRoute::new(address, POLICY);
    route.upstreams.push(alive.address);
    let proxy = TestProxy::start(&[route]);
    let closing = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0];
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(OK.as_bytes()).unwrap();
    });
    while !closing.is_finished() {
        assert_eq!(get(&proxy).status, 200);
    }
    for _ in 0..6 {
        assert_eq!(get(&proxy).status, 200);
    }
}

/// The upstream closes a connection after its first response, and reports it.
fn closing_after_one() -> (MockUpstream, mpsc::Receiver<()>) {
    let (told, closed) = mpsc::channel();
    let upstream = MockUpstream::scripted(true, move |exchange| {
        exchange.send(OK);
        if exchange.request.target() == "/first" {
            exchange.stream.get_ref().shutdown(Shutdown::Both).unwrap();
            told.send(()).unwrap();
            return false;
        }
        true
    });
    (upstream, closed)
}

#[test]
fn a_non_idempotent_request_uses_a_new_connection_if_the_old_one_was_closed_before() {
    for connection in ["", "Connection: x-nothing\r\n"] {
        let (upstream, closed) = closing_after_one();
        let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
        let head = |method: &str, target: &str| {
            format!("{method} {target} HTTP/1.1\r\nHost: photos.example\r\n{connection}")
        };
        let mut client = RawClient::connect(proxy.address);
        for (method, body) in [("PUT", "body"), ("POST", "")] {
            client.send(format!("{}\r\n", head("GET", "/first")));
            assert_eq!(client.receive("GET").status, 200);
            closed.recv_timeout(PATIENCE).unwrap();
            let length = body.len();
            let request = head(method, "/k");
            client.send(format!("{request}Content-Length: {length}\r\n\r\n{body}"));
            assert_eq!(client.receive(method).status, 200, "{method} {connection}");
        }
        let requests = upstream.requests();
        let bodies: Vec<_> = requests.iter().map(|request| &request.body[..]).collect();
        assert_eq!(bodies, [&b""[..], b"body", b"", b""], "{connection}");
    }
}

#[test]
fn an_unsolicited_408_is_not_the_response_to_the_next_request() {
    const LATE: &str =
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    // An idempotent request, and one that is not: the response may be meant for it.
    for (method, field, status) in [
        ("GET", "x: y", 200),
        ("GET", "connection: x", 200),
        ("POST", "x: y", 408),
        ("POST", "connection: x", 408),
    ] {
        let asked = Mutex::new(0);
        let upstream = MockUpstream::scripted(true, move |exchange| {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            // As if it had been sent while the second request was on its way.
            exchange.send(if *asked == 2 { LATE } else { OK });
            *asked != 2
        });
        let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
        let head = format!("/k HTTP/1.1\r\nHost: photos.example\r\n{field}\r\n");
        let mut client = RawClient::connect(proxy.address);
        let first = format!("GET {head}\r\n");
        assert_eq!(client.send(first).receive("GET").status, 200);
        let second = format!("{method} {head}Content-Length: 0\r\n\r\n");
        let answer = client.send(second).receive(method);
        assert_eq!(answer.status, status, "{method} {field}");
    }
}

#[test]
fn closing_an_idle_connection_is_not_a_failure_of_the_upstream() {
    for connection in ["", "Connection: x-nothing\r\n"] {
        // Closes as soon as there are more bytes to read.
        let upstream = MockUpstream::scripted(false, |exchange| {
            exchange.send(if exchange.request.method() == "GET" {
                OK
            } else {
                ""
            });
            exchange.request.method() == "GET"
        });
        let mut route = TestRoute::new(upstream.address, POLICY);
        route.health.failures = 1;
        let proxy = TestProxy::start(&[route]);
        let ask = |method: &str, body: &str| {
            let length = body.len();
            let request = format!(
                "{method} /k HTTP/1.1\r\nHost: photos.example\r\n{connection}Content-Length: {length}\r\n\r\n{body}"
            );
            RawClient::connect(proxy.address)
                .send(request)
                .receive(method)
                .status
        };
        for (method, body) in [("PUT", "body"), ("POST", ""), ("PUT", "body")] {
            assert_eq!(ask("GET", ""), 200);
            assert_eq!(ask(method, body), 502, "{method} {connection}");
            assert!(
                is_healthy(&proxy, upstream.address),
                "{method} {connection}"
            );
        }
        assert_eq!(errors(&proxy, "closed"), Some(3.0));
        assert_eq!(ask("PUT", "body"), 502);
        assert!(!is_healthy(&proxy, upstream.address), "{connection}");
    }
}

#[test]
fn unix_sockets_work_for_listeners_and_upstreams() {
    let folder = Folder::new();
    folder.write("s3cors.toml", UNIX);
    let listener = UnixListener::bind(folder.path("up.sock")).unwrap();
    let upstream = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            stream.read_line(&mut head).unwrap();
        }
        stream.get_mut().write_all(OK.as_bytes()).unwrap();
        head
    });
    let _proxy = Configured::start(&folder.path("s3cors.toml"));
    let mode = fs::metadata(folder.path("down.sock"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o666);
    let stream = UnixStream::connect(folder.path("down.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = RawClient::over(stream);
    client.send("GET /a%2Fb HTTP/1.1\r\nHost: photos.example\r\n\r\n");
    assert_eq!(client.receive("GET").text(), "ok");
    let head = upstream.join().unwrap();
    assert!(head.starts_with("GET /a%2Fb HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_ascii_lowercase()
            .contains("\r\nhost: photos.example\r\n"),
        "{head}"
    );
}

#[test]
fn checks_have_their_own_host_method_and_statuses() {
    for (http2, keys) in [
        (
            false,
            "check_method = 'HEAD'\ncheck_status = [200, '420-430']",
        ),
        (
            false,
            "check_method = 'OPTIONS'\ncheck_status = '418 - 429'",
        ),
        (false, "check_status = 420"),
    ] {
        let upstream = MockUpstream::answering("HTTP/1.1 420 Calm\r\nContent-Length: 0\r\n\r\n");
        let folder = Folder::new();
        folder.write(
            "s3cors.toml",
            &format!(
                "workers = 1\n[[listen]]\naddress = '127.0.0.1:0'\n[[route]]\nname = 'r'\nhost = '*'\n\
                 upstream = 'http://{}'\nupstream_http2 = {http2}\n[route.health]\n\
                 check_path = '/health'\ncheck_seconds = 0.2\ncheck_failures = 1\n\
                 check_host = 'live.example:9000'\n{keys}\n",
                upstream.address
            ),
        );
        let proxy = Configured::start(&folder.path("s3cors.toml"));
        // The third check starts after the second one was counted.
        (0..3).for_each(|_| upstream.wait_for_request());
        let seen = &upstream.requests()[0];
        assert_eq!(seen.target(), "/health");
        assert_eq!(seen.values("host"), ["live.example:9000"], "{keys}");
        let expected = ["HEAD", "OPTIONS"]
            .into_iter()
            .find(|method| keys.contains(method));
        assert_eq!(seen.method(), expected.unwrap_or("GET"));
        assert_eq!(ask(proxy.address(), "GET", "/k", &[]).status, 420);
        let text = proxy.metrics.encode();
        let url = format!("http://{}", upstream.address);
        let healthy = format!("s3cors_upstream_healthy{{route=\"r\",upstream=\"{url}\"}} 1");
        assert!(text.contains(&healthy), "{keys}: {text}");
    }
}

#[test]
fn keys_of_health_checks_and_timeouts_are_validated() {
    let folder = Folder::new();
    for (keys, errors) in [
        (
            "health = { check_path = '/', check_status = [200, '300-399'] }",
            0,
        ),
        ("health = { check_path = '/', check_status = 99 }", 1),
        ("health = { check_path = '/', check_status = '300-200' }", 1),
        ("health = { check_path = '/', check_status = [] }", 1),
        (
            "health = { check_path = '/', check_status = ['a', 600] }",
            2,
        ),
        ("health = { check_path = '/', check_method = 'POST' }", 1),
        ("health = { check_path = '/', check_host = 'a b' }", 1),
        (
            "health = { check_path = '/', check_host = '[::1]:9000' }",
            0,
        ),
        (
            "timeouts = { body_idle_seconds = 0, upstream_max_age_seconds = 0 }",
            0,
        ),
        ("timeouts = { upstream_idle_seconds = 0 }", 1),
        ("timeouts = { upstream_max_age_seconds = -1 }", 1),
    ] {
        let text = format!("[[route]]\nhost = '*'\nupstream = 'http://127.0.0.1:1'\n{keys}\n");
        folder.write("s3cors.toml", &text);
        let loaded = s3cors::config::load(&s3cors::config::Input::file(folder.path("s3cors.toml")));
        let report = loaded.report;
        assert_eq!(
            report.errors(),
            errors,
            "{keys}: {:?}",
            report.diagnostics()
        );
    }
}

/// An upstream that responds, then reports when the proxy has closed its connection.
fn telling_of_the_end(field: &'static str) -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, ended) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap_or(0) > 0 {
                if line == "\r\n" {
                    let answer = format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 2\r\n\r\nok");
                    stream.get_mut().write_all(answer.as_bytes()).unwrap();
                }
                line.clear();
            }
            if told.send(()).is_err() {
                return;
            }
        }
    });
    (address, ended)
}

#[test]
fn an_idle_connection_is_closed_at_the_configs_or_the_upstreams_limit() {
    for (field, idle, connection) in [
        ("Keep-Alive: timeout=1, max=100\r\n", 60.0, ""),
        (
            "KEEP-ALIVE: max=100, timeout=1\r\n",
            60.0,
            "Connection: x-nothing\r\n",
        ),
        ("", 0.5, ""),
        (
            "Keep-Alive: timeout=60\r\n",
            0.5,
            "Connection: x-nothing\r\n",
        ),
    ] {
        let (address, ended) = telling_of_the_end(field);
        let mut route = TestRoute::transparent(address);
        route.timeouts.upstream_idle = Duration::from_secs_f64(idle);
        let proxy = TestProxy::start(&[route]);
        let request = format!("GET /k HTTP/1.1\r\nHost: photos.example\r\n{connection}\r\n");
        let mut client = RawClient::connect(proxy.address);
        assert_eq!(client.send(request).receive("GET").status, 200);
        // Long before its 60 seconds.
        ended.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn a_connection_that_is_too_old_gets_no_more_requests() {
    for connection in ["", "Connection: x-nothing\r\n"] {
        let upstream = MockUpstream::answering(OK);
        let mut route = TestRoute::transparent(upstream.address);
        route.timeouts.upstream_max_age = Some(Duration::from_millis(50));
        let proxy = TestProxy::start(&[route]);
        let request = format!("GET /k HTTP/1.1\r\nHost: photos.example\r\n{connection}\r\n");
        let mut client = RawClient::connect(proxy.address);
        let begin = Instant::now();
        while upstream.connections() < 3 {
            assert_eq!(client.send(&request).receive("GET").status, 200);
            assert!(begin.elapsed() < PATIENCE);
        }
    }
}
