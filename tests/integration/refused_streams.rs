//! HTTP/2 upstreams that report unprocessed requests (RFC 9113 §6.8 and §8.7).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use http_body_util::Full;

use crate::http2::{connect, on_one_thread, request};
use crate::support::client::{RawClient, RawResponse};
use crate::support::http2::{HEADERS, go_away, reset, response, scripted};
use crate::support::proxy::{TestProxy, TestRoute};

const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A proxy that excludes an upstream after one failure.
fn proxy_before(upstream: SocketAddr) -> TestProxy {
    let mut route = TestRoute::transparent(upstream);
    route.http2 = true;
    route.health.failures = 1;
    TestProxy::start(&[route])
}

fn ask(proxy: &TestProxy, method: &str, body: &str) -> RawResponse {
    let length = body.len();
    let head = format!("{method} /k HTTP/1.1\r\nHost: photos.example\r\n");
    let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
    RawClient::connect(proxy.address)
        .send(request)
        .receive(method)
}

fn is_healthy(proxy: &TestProxy) -> bool {
    let metrics = proxy.metrics.encode();
    let mut lines = metrics.lines();
    lines.any(|line| line.starts_with("s3cors_upstream_healthy{") && line.ends_with(" 1"))
}

#[test]
fn an_unprocessed_request_is_retried() {
    for (says_go_away, at_end) in [(false, false), (false, true), (true, false), (true, true)] {
        for (method, body) in [("GET", ""), ("POST", ""), ("POST", "of the request")] {
            let connections = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&connections);
            let upstream = scripted(move |frame| {
                count.fetch_max(frame.connection + 1, Ordering::SeqCst);
                let is_asked = frame.connection > 0 || frame.stream > 1;
                Some(if is_asked && frame.ends() {
                    response(frame.stream, &String::from_utf8_lossy(&frame.payload))
                } else if is_asked || frame.ends() != at_end && !body.is_empty() {
                    Vec::new()
                } else if says_go_away {
                    go_away(0, NO_ERROR)
                } else {
                    reset(frame.stream, REFUSED_STREAM)
                })
            });
            let proxy = proxy_before(upstream);
            let answer = ask(&proxy, method, body);
            let case = format!("{method} {body}, {says_go_away}, {at_end}");
            assert_eq!(answer.status, 200, "{case}");
            if !body.is_empty() {
                assert_eq!(answer.text(), body, "{case}");
            }
            assert!(is_healthy(&proxy), "{case}");
            // An upstream that refuses a stream still accepts the next.
            let expected = 1 + usize::from(says_go_away);
            assert_eq!(connections.load(Ordering::SeqCst), expected, "{case}");
        }
    }
}

#[test]
fn a_request_is_retried_only_once() {
    let cases = [
        (503, true, REFUSED_STREAM, false),
        (503, true, NO_ERROR, true),
        (502, false, ENHANCE_YOUR_CALM, true),
    ];
    for (status, stays_healthy, code, says_go_away) in cases {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let upstream = scripted(move |frame| {
            count.fetch_add(1, Ordering::SeqCst);
            Some(match says_go_away {
                true => go_away(0, code),
                false => reset(frame.stream, code),
            })
        });
        let proxy = proxy_before(upstream);
        let answer = ask(&proxy, "GET", "");
        assert_eq!(answer.status, status, "{code}");
        assert_eq!(answer.values("retry-after").is_empty(), status == 502);
        assert_eq!(asked.load(Ordering::SeqCst), 2, "{code}");
        assert_eq!(is_healthy(&proxy), stays_healthy, "{code}");
    }
}

#[test]
fn a_request_whose_body_was_sent_is_not_retried() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = scripted(move |frame| {
        if frame.kind == HEADERS {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Some(match frame.ends() {
            true => reset(frame.stream, REFUSED_STREAM),
            false => Vec::new(),
        })
    });
    let proxy = proxy_before(upstream);
    assert_eq!(ask(&proxy, "PUT", &"x".repeat(40_000)).status, 503);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn other_resets_may_follow_processing_and_are_not_retried() {
    const CANCEL: u32 = 8;
    let upstream = scripted(|frame| {
        Some(match frame.connection {
            0 => reset(frame.stream, CANCEL),
            _ => response(frame.stream, ""),
        })
    });
    assert_eq!(ask(&proxy_before(upstream), "POST", "").status, 502);
}

#[test]
fn a_connection_with_goaway_gets_no_more_requests() {
    let upstream = scripted(|frame| {
        let mut answer = response(frame.stream, &frame.connection.to_string());
        answer.extend(go_away(frame.stream, NO_ERROR));
        Some(answer)
    });
    let proxy = proxy_before(upstream);
    for connection in 0..5 {
        let answer = ask(&proxy, "POST", "");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text(), connection.to_string());
    }
    assert!(is_healthy(&proxy));
}

#[test]
fn a_closed_idle_connection_loses_no_response() {
    let upstream = scripted(|frame| match (frame.connection % 2, frame.stream) {
        (0, 1) => Some(response(frame.stream, "first")),
        // The request arrived, and its fate is unknown.
        (0, _) => None,
        _ => Some(response(frame.stream, "again")),
    });
    let proxy = proxy_before(upstream);
    assert_eq!(ask(&proxy, "POST", "").text(), "first");
    assert_eq!(ask(&proxy, "GET", "").text(), "again");
    let proxy = proxy_before(upstream);
    assert_eq!(ask(&proxy, "POST", "").text(), "first");
    // It may have been processed.
    assert_eq!(ask(&proxy, "POST", "").status, 502);
}

#[test]
fn many_requests_share_a_connection_and_then_its_replacement() {
    for says_go_away in [true, false] {
        check_crowd(says_go_away);
    }
}

fn check_crowd(says_go_away: bool) {
    const CROWD: u32 = 50;
    let opened = Arc::new(AtomicUsize::new(0));
    let most = Arc::clone(&opened);
    let upstream = scripted(move |frame| {
        most.fetch_max(frame.connection + 1, Ordering::SeqCst);
        let mut answer = response(frame.stream, "");
        let last = 2 * CROWD - 1;
        if frame.connection == 0 && says_go_away && frame.stream == last {
            answer.extend(go_away(frame.stream, NO_ERROR));
        }
        (frame.connection > 0 || frame.stream <= last).then_some(answer)
    });
    let proxy = proxy_before(upstream);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        for connections in 1..=2 {
            let ask = |_| {
                let get = request("GET", "http://photos.example/k");
                client.send_request(get.body(Full::default()).unwrap())
            };
            let asked: Vec<_> = (0..CROWD).map(ask).collect();
            for answer in asked {
                assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
            }
            assert_eq!(opened.load(Ordering::SeqCst), connections, "{says_go_away}");
        }
    });
    assert!(is_healthy(&proxy));
}

/// A request that ended two connections may end a third one.
#[test]
fn a_request_that_was_cut_twice_is_not_retried() {
    const CROWD: u32 = 5;
    let opened = Arc::new(AtomicUsize::new(0));
    let most = Arc::clone(&opened);
    let upstream = scripted(move |frame| {
        most.fetch_max(frame.connection + 1, Ordering::SeqCst);
        // All requests have arrived.
        let last = |asked_before| 2 * (CROWD + asked_before) - 1;
        match (frame.connection, frame.stream) {
            (0, 1) => Some(response(frame.stream, "")),
            (0, stream) => (stream < last(1)).then(Vec::new),
            (1, stream) => (stream < last(0)).then(Vec::new),
            (_, stream) => Some(response(stream, "")),
        }
    });
    let proxy = proxy_before(upstream);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        let mut ask = || {
            let get = request("GET", "http://photos.example/k");
            client.send_request(get.body(Full::default()).unwrap())
        };
        assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
        let asked: Vec<_> = (0..CROWD).map(|_| ask()).collect();
        for answer in asked {
            assert_eq!(answer.await.unwrap().status(), StatusCode::BAD_GATEWAY);
        }
    });
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}
