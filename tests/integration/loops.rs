//! Upstreams that lead back to the proxy, and what a start reports about upstreams.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use s3cors::config::{Input, load};

use crate::support::binary::{self, Process, run};
use crate::support::certificates::{Authority, TlsUpstream};
use crate::support::client::{RawClient, ask};
use crate::support::configured::Configured;
use crate::support::folder::Folder;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::{MockUpstream, refusing};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_looping_request_gets_508() {
    let folder = Folder::new();
    folder.write(
        "s3cors.toml",
        "workers = 1\n[[listen]]\naddress = 'unix:loop.sock'\n\
         [[route]]\nhost = '*'\nupstream = 'unix:loop.sock'\n",
    );
    let proxy = Configured::start(&folder.path("s3cors.toml"));
    for request in [
        "GET /k HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "POST /k HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let stream = UnixStream::connect(folder.path("loop.sock")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut client = RawClient::over(stream);
        let answer = client.send(request).receive("GET");
        assert_eq!(answer.status, 508, "{}", answer.text());
    }
    let counted = proxy.metrics.encode();
    let series = "s3cors_upstream_errors_total{route=\"*\",reason=\"loop\"} 2";
    assert!(counted.contains(series), "{counted}");
}

#[test]
fn chains_of_proxies_are_not_loops() {
    for http2 in [false, true] {
        let upstream = MockUpstream::answering(OK);
        let mut route = TestRoute::transparent(upstream.address);
        route.http2 = http2;
        let proxy = TestProxy::start(&[route]);
        let via = |hops: usize| vec!["1.1 s3cors, 1.1 cdn"; hops].join(", ");
        let status = |hops| ask(proxy.address, "GET", "/k", &[("Via", &via(hops))]).status;
        assert_eq!(status(8), 508);
        // An upstream of HTTP/1.1 alone is asked no more than that here.
        assert_ne!(status(7), 508);
    }
}

#[test]
fn an_upstream_that_is_a_listener_is_a_warning() {
    let folder = Folder::new();
    for (config, expected) in [
        ("upstream = 'http://127.0.0.1:8080'", 1),
        (
            "upstream = ['http://localhost:8080', 'http://127.0.0.1:9000']",
            1,
        ),
        ("upstream = 'http://127.0.0.1:9901'", 1),
        ("upstream = 'http://127.0.0.1:9000'", 0),
        ("upstream = 'http://s3.example:8080'", 0),
        (
            "upstream = 'unix:a.sock'\n[[listen]]\naddress = 'unix:a.sock'",
            1,
        ),
        (
            "upstream = 'http://[::1]:80'\n[[listen]]\naddress = '[::]:80'",
            1,
        ),
    ] {
        folder.write("s3cors.toml", &format!("[[route]]\nhost = '*'\n{config}\n"));
        let report = load(&Input::file(folder.path("s3cors.toml"))).report;
        let codes = report.diagnostics().iter().map(|one| one.code());
        let loops = codes.filter(|code| *code == "upstream-loop").count();
        assert_eq!(loops, expected, "{config}: {:?}", report.diagnostics());
    }
    let (_, said, more) = run(&[
        "check",
        "--config",
        folder.path("s3cors.toml").to_str().unwrap(),
    ]);
    let said = said + &more;
    assert!(said.contains("own listener [::]:80"), "{said}");
}

/// A server that answers any bytes like an HTTP server that does not understand them.
fn answering_without_tls() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The proxy may leave first.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    address
}

#[test]
fn a_start_reports_problems_of_upstreams_and_ends_with_one_line() {
    let folder = binary::Folder::new("start-check");
    let plain = MockUpstream::answering(OK);
    let authority = Authority::new();
    let tls = TlsUpstream::start(&authority.sign(&["127.0.0.1"]));
    // Accepts, and sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = silent.local_addr().unwrap();
    for (upstream, expected) in [
        (format!("http://{}", refusing()), "it refuses connections"),
        (
            "http://no-such-name.invalid:9000".to_owned(),
            "its name does not resolve",
        ),
        (
            format!("https://{}", answering_without_tls()),
            "probably plain HTTP: write http://",
        ),
        (
            format!("http://{}", tls.address),
            "it speaks TLS: write https://",
        ),
        ("unix:/no/such.sock".to_owned(), "its socket does not exist"),
    ] {
        let config = format!("[[route]]\nhost = '*'\nupstream = '{upstream}'\n");
        let config = folder.write("s3cors.toml", &config);
        let mut process = Process::start(&["run", "--config", &config]);
        let ready = process.logged("ready: ");
        let (listen, admin) = (process.address, process.admin);
        let line = format!("ready: http://{listen} → {upstream}, console http://{admin}/cors");
        assert!(ready.trim_end().ends_with(&line), "{ready}");
        let warning = process.logged("upstream check: ");
        assert!(warning.contains(expected), "{warning}");
        assert!(
            warning.contains("WARN") && warning.contains(&upstream),
            "{warning}"
        );
    }
    // Healthy upstreams are not mentioned, and get no request.
    let healthy = [
        format!("http://{}", plain.address),
        format!("http://{silent_address}"),
        format!("http://{}", refusing()),
    ];
    let config = format!("[[route]]\nhost = '*'\nupstream = {healthy:?}\n");
    let config = folder.write("s3cors.toml", &config);
    let mut process = Process::start(&["run", "--config", &config]);
    let warning = process.logged("upstream check: ");
    assert!(warning.contains("it refuses connections"), "{warning}");
    assert!(plain.requests().is_empty());
}
