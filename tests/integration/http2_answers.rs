//! HTTP/2 responses that no library would send.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::{RawClient, RawResponse};
use crate::support::http2::{DATA, END_STREAM, Frame, frame, head, response, scripted, writing};
use crate::support::proxy::{TestProxy, TestRoute};

fn route(upstream: SocketAddr) -> TestRoute {
    let mut route = TestRoute::transparent(upstream);
    route.http2 = true;
    route
}

fn ask(route: TestRoute, method: &str) -> RawResponse {
    let proxy = TestProxy::start(&[route]);
    let request = format!("{method} /k HTTP/1.1\r\nHost: photos.example\r\n\r\n");
    RawClient::connect(proxy.address)
        .send(request)
        .receive(method)
}

fn answering(answer: impl Fn(&Frame) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    scripted(move |frame| Some(answer(frame)))
}

/// As many as `interim_responses` allows, 16 by default.
#[test]
fn interim_responses_are_skipped_up_to_their_limit() {
    for (count, status) in [(1, 200), (16, 200), (18, 502), (10_000, 502)] {
        let upstream = answering(move |frame| {
            let fields = [("link", "</style.css>; rel=preload")];
            let mut answer = head(0, frame.stream, "103", &fields).repeat(count);
            answer.extend(response(frame.stream, "ok"));
            answer
        });
        let answer = ask(route(upstream), "GET");
        assert_eq!(answer.status, status, "{count}");
        assert!(answer.values("link").is_empty());
        assert_eq!(answer.text() == "ok", status == 200, "{count}");
    }
}

#[test]
fn endless_interim_responses_are_refused_at_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = writing(move |frame, stream| {
        if count.fetch_add(1, Ordering::SeqCst) > 0 {
            stream.write_all(&response(frame.stream, "ok"))?;
            return Ok(true);
        }
        let many = head(0, frame.stream, "102", &[]).repeat(1000);
        loop {
            stream.write_all(&many)?;
        }
    });
    let proxy = TestProxy::start(&[route(upstream)]);
    let get = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";
    let mut client = RawClient::connect(proxy.address);
    assert_eq!(client.send(get).receive("GET").status, 502);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // The next request gets another connection.
    assert_eq!(client.send(get).receive("GET").text(), "ok");
    let metrics = proxy.metrics.encode();
    let invalid =
        "s3cors_upstream_errors_total{route=\"photos.example\",reason=\"invalid_response\"} 1";
    assert!(metrics.contains(invalid), "{metrics}");
}

#[test]
fn responses_that_http2_forbids_are_refused() {
    type Answer = fn(u32) -> Vec<u8>;
    let cases: [(&str, &str, Answer, u16); 8] = [
        (
            "101",
            "GET",
            |stream| [head(0, stream, "101", &[]), response(stream, "ok")].concat(),
            200,
        ),
        (
            "an interim response that switches",
            "GET",
            |stream| head(0, stream, "101", &[("upgrade", "x")]),
            502,
        ),
        (
            "an interim response that ends",
            "GET",
            |stream| head(END_STREAM, stream, "103", &[]),
            502,
        ),
        (
            "Connection",
            "GET",
            |stream| head(END_STREAM, stream, "200", &[("connection", "close")]),
            502,
        ),
        (
            "Transfer-Encoding",
            "GET",
            |stream| {
                head(
                    END_STREAM,
                    stream,
                    "200",
                    &[("transfer-encoding", "chunked")],
                )
            },
            502,
        ),
        (
            "two lengths",
            "GET",
            |stream| {
                let fields = [("content-length", "1"), ("content-length", "2")];
                head(0, stream, "200", &fields)
            },
            502,
        ),
        (
            "a length of what does not come",
            "GET",
            |stream| head(END_STREAM, stream, "200", &[("content-length", "5")]),
            502,
        ),
        (
            "HEAD with a length",
            "HEAD",
            |stream| head(END_STREAM, stream, "200", &[("content-length", "5")]),
            200,
        ),
    ];
    for (name, method, answer, status) in cases {
        let upstream = answering(move |frame| answer(frame.stream));
        let answer = ask(route(upstream), method);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
}

#[test]
fn a_body_that_differs_from_its_declared_length_is_cut() {
    for body in ["1234", "123456"] {
        let upstream = answering(move |asked| {
            let mut answer = head(0, asked.stream, "200", &[("content-length", "5")]);
            answer.extend(frame(DATA, END_STREAM, asked.stream, body.as_bytes()));
            answer
        });
        let answer = ask(route(upstream), "GET");
        assert!(!answer.whole || answer.status == 502, "{answer:?}");
    }
}

#[test]
fn responses_without_a_body_get_none() {
    for (method, status) in [
        ("HEAD", "200"),
        ("GET", "204"),
        ("GET", "304"),
        ("GET", "205"),
    ] {
        let upstream = answering(move |asked| {
            let mut answer = head(0, asked.stream, status, &[]);
            answer.extend(frame(
                DATA,
                END_STREAM,
                asked.stream,
                b"HTTP/1.1 200 OK\r\n\r\n",
            ));
            answer
        });
        let proxy = TestProxy::start(&[route(upstream)]);
        let mut client = RawClient::connect(proxy.address);
        for _ in 0..2 {
            client.send(format!(
                "{method} /k HTTP/1.1\r\nHost: photos.example\r\n\r\n"
            ));
            let answer = client.receive(method);
            assert_eq!(answer.status.to_string(), status, "{method}: {answer:?}");
        }
    }
}
