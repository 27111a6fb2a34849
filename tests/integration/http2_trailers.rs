//! Trailers of HTTP/2 upstreams: pseudo-fields make a response malformed (RFC 9113 §8.1), other fields pass.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt, Full};

use crate::http2::{connect, on_one_thread, request};
use crate::support::client::RawClient;
use crate::support::http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, frame, head, response, writing,
};
use crate::support::proxy::{TestProxy, TestRoute};

const CONTINUATION: u8 = 9;

/// An upper limit for every step of a test.
const PATIENCE: Duration = Duration::from_secs(30);

const GET: &str = "GET /k HTTP/1.1\r\nHost: photos.example\r\n\r\n";

/// The head of a response that announces trailers.
fn begin() -> Vec<u8> {
    head(0, 1, "200", &[("trailer", "x-sum")])
}

/// That head and a part of the body.
fn part() -> Vec<u8> {
    [begin(), frame(DATA, 0, 1, b"part")].concat()
}

fn trailers(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, block)
}

/// Responses on stream 1 with pseudo-fields in their trailers, and the part of the body before
/// them.
fn malformed() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let interim = head(0, 1, "103", &[("link", "</a.css>; rel=preload")]);
    // `:status: 200` in the dynamic table, at index 62.
    let known = frame(HEADERS, END_HEADERS, 1, b"\x48\x03200");
    vec![
        ("a status", "part", [part(), trailers(b"\x88")].concat()),
        (
            "a request's pseudo-field",
            "part",
            [part(), trailers(b"\x04\x02/k")].concat(),
        ),
        (
            "an unknown one",
            "part",
            [part(), trailers(b"\x00\x02:a\x011")].concat(),
        ),
        (
            "one in Huffman's code",
            "part",
            [part(), trailers(b"\x00\x82\xb8\x7f\x00")].concat(),
        ),
        (
            "after another field",
            "part",
            [part(), trailers(b"\x00\x01x\x011\x00\x02:a\x011")].concat(),
        ),
        (
            "in two frames",
            "part",
            [
                part(),
                frame(HEADERS, END_STREAM, 1, b"\x00\x01x\x011\x00"),
                frame(CONTINUATION, END_HEADERS, 1, b"\x02:a\x011"),
            ]
            .concat(),
        ),
        (
            "by an index of the dynamic table",
            "",
            [known, trailers(b"\xbe")].concat(),
        ),
        ("without data", "", [begin(), trailers(b"\x88")].concat()),
        (
            "after an interim response",
            "part",
            [interim, part(), trailers(b"\x88")].concat(),
        ),
    ]
}

/// Starts an upstream whose first connection responds with these bytes, waits for its end and
/// reports it. Other connections give complete responses.
fn upstream(answer: Vec<u8>) -> (SocketAddr, Receiver<bool>) {
    let (close, closed) = channel();
    let close = Mutex::new(close);
    let address = writing(move |asked, stream| {
        if asked.connection > 0 {
            stream.write_all(&response(asked.stream, "ok"))?;
            return Ok(true);
        }
        stream.write_all(&answer)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut rest = [0; 1024];
        let is_closed = loop {
            match stream.read(&mut rest) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        };
        close.lock().unwrap().send(is_closed).unwrap();
        Ok(false)
    });
    (address, closed)
}

fn start(upstream: SocketAddr) -> TestProxy {
    TestProxy::start(&[TestRoute {
        http2: true,
        ..TestRoute::transparent(upstream)
    }])
}

/// The upstream's connection is closed, and the failure is counted once.
fn assert_failed(proxy: &TestProxy, closed: &Receiver<bool>, name: &str) {
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(true), "{name}");
    let metrics = proxy.metrics.encode();
    let failed = "s3cors_upstream_errors_total{route=\"photos.example\",reason=\"body\"} 1\n";
    assert!(metrics.contains(failed), "{name}: {metrics}");
}

#[test]
fn pseudo_fields_in_trailers_cut_the_response_to_an_http1_client() {
    for (name, before, answer) in malformed() {
        let (address, closed) = upstream(answer);
        let proxy = start(address);
        let mut client = RawClient::connect(proxy.address);
        let response = client.send(GET).receive("GET");
        assert_eq!(response.status, 200, "{name}");
        assert_eq!(response.values("transfer-encoding"), ["chunked"], "{name}");
        assert_eq!(response.text(), before, "{name}");
        assert!(!response.whole, "{name}");
        assert_failed(&proxy, &closed, name);
        // Other requests get another connection.
        let next = RawClient::connect(proxy.address).send(GET).receive("GET");
        assert_eq!((next.status, next.text()), (200, "ok".to_owned()), "{name}");
    }
}

#[test]
fn pseudo_fields_in_trailers_cut_the_response_to_an_http2_client() {
    for (name, before, answer) in malformed() {
        let (address, closed) = upstream(answer);
        let proxy = start(address);
        on_one_thread(async {
            let mut client = connect(proxy.address).await;
            let get = || {
                let get = request("GET", "http://photos.example/k").header("te", "trailers");
                get.body(Full::default()).unwrap()
            };
            let response = client.send_request(get()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{name}");
            let mut body = response.into_body();
            let mut data = Vec::new();
            let error = loop {
                match body.frame().await {
                    Some(Ok(frame)) => data.extend(frame.into_data().unwrap()),
                    Some(Err(error)) => break error,
                    None => panic!("{name}: the response is complete"),
                }
            };
            assert_eq!(data, before.as_bytes(), "{name}");
            let source = std::error::Error::source(&error).unwrap();
            let reset = source.downcast_ref::<h2::Error>().unwrap();
            assert!(reset.is_reset() && reset.is_remote(), "{name}: {reset}");
            assert_failed(&proxy, &closed, name);
            // Only the stream was reset, and the upstream gets another connection.
            let next = client.send_request(get()).await.unwrap();
            let next = next.into_body().collect().await.unwrap();
            assert_eq!(next.to_bytes(), "ok", "{name}");
        });
    }
}

#[test]
fn other_trailers_and_heads_that_end_a_response_pass() {
    let interim = || head(0, 1, "103", &[("link", "</a.css>; rel=preload")]);
    let sum = trailers(b"\x00\x05x-sum\x02:a");
    for (name, answer, body, trailer) in [
        (
            "trailers",
            [part(), sum.clone()].concat(),
            "part",
            Some(":a"),
        ),
        (
            "trailers without data",
            [begin(), sum.clone()].concat(),
            "",
            Some(":a"),
        ),
        (
            "trailers after an interim response",
            [interim(), part(), sum].concat(),
            "part",
            Some(":a"),
        ),
        ("a head alone", head(END_STREAM, 1, "200", &[]), "", None),
        (
            "a head after interim responses",
            [interim(), interim(), head(END_STREAM, 1, "200", &[])].concat(),
            "",
            None,
        ),
    ] {
        let trailer = trailer.map(|value| value.parse().unwrap());
        let (address, _closed) = upstream(answer.clone());
        let proxy = start(address);
        let response = RawClient::connect(proxy.address).send(GET).receive("GET");
        assert!(response.whole, "{name}");
        assert_eq!(
            (response.status, response.text()),
            (200, body.to_owned()),
            "{name}"
        );
        assert_eq!(response.trailers.get("x-sum"), trailer.as_ref(), "{name}");

        let (address, _closed) = upstream(answer);
        let proxy = start(address);
        on_one_thread(async {
            let mut client = connect(proxy.address).await;
            let get = request("GET", "http://photos.example/k").header("te", "trailers");
            let get = get.body(Full::default()).unwrap();
            let response = client.send_request(get).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{name}");
            let got = response.into_body().collect().await.unwrap();
            let came = got.trailers().and_then(|trailers| trailers.get("x-sum"));
            assert_eq!(came, trailer.as_ref(), "{name}");
            assert_eq!(got.to_bytes(), body, "{name}");
        });
    }
}
