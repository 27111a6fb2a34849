//! What upstreams may answer over HTTP/2 that no library would.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

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

/// Interim responses have no limit here, as they are not kept.
#[test]
fn interim_responses_are_left_out_and_hold_nothing_up() {
    let upstream = answering(|frame| {
        let fields = [("link", "</style.css>; rel=preload")];
        let mut answer = head(0, frame.stream, "103", &fields).repeat(10_000);
        answer.extend(response(frame.stream, "ok"));
        answer
    });
    let answer = ask(route(upstream), "GET");
    assert_eq!((answer.status, &*answer.text()), (200, "ok"));
    assert!(answer.values("link").is_empty());
}

#[test]
fn interim_responses_without_end_are_no_response() {
    let upstream = writing(|frame, stream| {
        let many = head(0, frame.stream, "102", &[]).repeat(1000);
        loop {
            stream.write_all(&many)?;
        }
    });
    let mut route = route(upstream);
    route.timeouts.response_head = Duration::from_millis(300);
    assert_eq!(ask(route, "GET").status, 504);
}

#[test]
fn what_http2_has_not_is_no_answer() {
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
fn a_body_that_is_not_as_long_as_told_is_cut() {
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
fn what_has_no_body_gets_none() {
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
