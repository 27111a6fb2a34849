//! Requests with bodies from HTTP/2 clients to HTTP/1.1 upstreams: framing, trailers, `Expect`,
//! and responses before the body's end.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use s3cors::upstream::local_executor::LocalExecutor;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::http2::on_one_thread;
use crate::support::http2::{DATA, END_HEADERS, HEADERS, SETTINGS, frame, reset};
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::{Exchange, MockUpstream};

/// An upper limit for every event.
const PATIENCE: Duration = Duration::from_secs(20);

/// A body whose frames a test sends one by one; it ends when the sender is dropped.
struct Pieces {
    frames: UnboundedReceiver<Frame<Bytes>>,
    length: Option<u64>,
}

fn pieces(length: Option<u64>) -> (UnboundedSender<Frame<Bytes>>, Pieces) {
    let (sender, frames) = unbounded_channel();
    (sender, Pieces { frames, length })
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

async fn connect(address: SocketAddr) -> SendRequest<Pieces> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let connected = handshake(LocalExecutor, TokioIo::new(stream)).await;
    let (sender, connection) = connected.unwrap();
    tokio::task::spawn_local(connection);
    sender
}

fn put(body: Pieces, fields: &[(&str, &str)]) -> Request<Pieces> {
    let request = Request::put("http://photos.example/k");
    let fields = fields.iter();
    let request = fields.fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    request.body(body).unwrap()
}

fn data(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

fn proxy_before(upstream: &MockUpstream) -> TestProxy {
    TestProxy::start(&[TestRoute::transparent(upstream.address)])
}

/// Reads one chunk: its size line, its data and its line end.
fn chunk(exchange: &mut Exchange<'_>) -> String {
    let mut line = String::new();
    std::io::BufRead::read_line(exchange.stream, &mut line).unwrap();
    let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
    let data = exchange.read(size + 2);
    assert!(data.ends_with(b"\r\n"));
    String::from_utf8(data[..size].to_vec()).unwrap()
}

#[test]
fn a_body_of_unknown_length_is_chunked_with_its_declared_trailers() {
    let upstream = MockUpstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nok\r\n0\r\nX-Sum: 42\r\nContent-Length: 9\r\n\r\n",
    );
    let proxy = proxy_before(&upstream);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        for (declared, trailers) in [(true, "x-a: 1\r\n"), (false, "")] {
            let (sender, body) = pieces(None);
            sender.send(data("abc")).unwrap();
            let sent = HeaderMap::from_iter([("x-a".parse().unwrap(), "1".parse().unwrap())]);
            sender.send(Frame::trailers(sent)).unwrap();
            drop(sender);
            let fields = [("te", "trailers"), ("trailer", "x-a")];
            let fields = if declared { &fields[..] } else { &fields[..1] };
            let response = client.send_request(put(body, fields)).await.unwrap();
            let answer = response.into_body().collect().await.unwrap();
            // Forbidden trailers are dropped.
            assert_eq!(answer.trailers().unwrap().len(), 1);
            assert_eq!(answer.trailers().unwrap()["x-sum"], "42");
            assert_eq!(answer.to_bytes(), "ok");
            let request = upstream.requests().pop().unwrap();
            assert_eq!(request.values("transfer-encoding"), ["chunked"]);
            assert!(request.values("content-length").is_empty());
            let body = String::from_utf8(request.body).unwrap();
            assert_eq!(body, format!("3\r\nabc\r\n0\r\n{trailers}\r\n"));
        }
    });
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_body_of_known_length_keeps_it() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = proxy_before(&upstream);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        for _ in 0..2 {
            let (sender, body) = pieces(Some(6));
            sender.send(data("abc")).unwrap();
            let response = client.send_request(put(body, &[]));
            sender.send(data("def")).unwrap();
            drop(sender);
            assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        }
    });
    for request in upstream.requests() {
        assert_eq!(request.values("content-length"), ["6"]);
        assert_eq!(request.body, b"abcdef");
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_body_waits_for_the_upstreams_100() {
    let (tell, told) = mpsc::channel();
    let upstream = MockUpstream::scripted(false, move |exchange| {
        assert_eq!(exchange.request.values("expect"), ["100-continue"]);
        // No part of the body precedes the 100.
        exchange.stream.get_ref().set_nonblocking(true).unwrap();
        let early = exchange.stream.get_ref().peek(&mut [0]);
        exchange.stream.get_ref().set_nonblocking(false).unwrap();
        tell.send(early.map_err(|error| error.kind())).unwrap();
        exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(exchange.read(3), b"abc");
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        true
    });
    let proxy = proxy_before(&upstream);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        let (sender, body) = pieces(Some(3));
        sender.send(data("abc")).unwrap();
        drop(sender);
        let request = put(body, &[("expect", "100-continue")]);
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    });
    let early = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock));
}

#[test]
fn a_refusal_instead_of_100_keeps_the_body_back() {
    let (tell, told) = mpsc::channel();
    let upstream = MockUpstream::scripted(false, move |exchange| {
        exchange.send("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n");
        let mut rest = Vec::new();
        let _ = exchange.stream.read_to_end(&mut rest);
        tell.send(rest.len()).unwrap();
        false
    });
    let proxy = proxy_before(&upstream);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        let (sender, body) = pieces(Some(3));
        sender.send(data("abc")).unwrap();
        let request = put(body, &[("expect", "100-continue")]);
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::EXPECTATION_FAILED);
        response.into_body().collect().await.unwrap();
    });
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 0);
}

/// An upstream may respond while it reads: neither side waits for the other's end.
#[test]
fn a_response_and_the_rest_of_the_request_pass_at_the_same_time() {
    let upstream = MockUpstream::scripted(false, |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        loop {
            let piece = chunk(exchange);
            exchange.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
            if piece.is_empty() {
                return true;
            }
        }
    });
    let proxy = proxy_before(&upstream);
    on_one_thread(async {
        let mut client = connect(proxy.address).await;
        let (sender, body) = pieces(None);
        let response = client.send_request(put(body, &[])).await.unwrap();
        let mut answer = response.into_body();
        for text in ["one", "two", "three"] {
            sender.send(data(text)).unwrap();
            let piece = answer.frame().await.unwrap().unwrap();
            assert_eq!(piece.into_data().unwrap(), text);
        }
        drop(sender);
        let rest = answer.collect().await.unwrap().to_bytes();
        assert!(rest.is_empty(), "{rest:?}");
    });
}

/// Only END_STREAM completes a body (RFC 9113 §8.1): whatever code resets a stream, the upstream
/// sees that the body is cut.
#[test]
fn a_body_whose_stream_is_reset_is_cut() {
    const NO_ERROR: u32 = 0;
    const INTERNAL_ERROR: u32 = 2;
    const CANCEL: u32 = 8;
    for code in [NO_ERROR, INTERNAL_ERROR, CANCEL] {
        for length in [None, Some("9")] {
            let (tell, told) = mpsc::channel();
            let upstream = MockUpstream::scripted(false, move |exchange| {
                let first = if length.is_none() {
                    chunk(exchange)
                } else {
                    String::from_utf8(exchange.read(3)).unwrap()
                };
                assert_eq!(first, "abc");
                tell.send(Vec::new()).unwrap();
                let mut rest = Vec::new();
                let _ = exchange.stream.read_to_end(&mut rest);
                tell.send(rest).unwrap();
                false
            });
            let proxy = proxy_before(&upstream);
            let mut client = TcpStream::connect(proxy.address).unwrap();
            let mut fields = vec![
                (":method", "PUT"),
                (":scheme", "http"),
                (":authority", "photos.example"),
                (":path", "/k"),
            ];
            fields.extend(length.map(|length| ("content-length", length)));
            let mut block = Vec::new();
            for (name, value) in fields {
                block.push(0);
                for text in [name, value] {
                    block.push(u8::try_from(text.len()).unwrap());
                    block.extend(text.as_bytes());
                }
            }
            let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            sent.extend(frame(SETTINGS, 0, 0, &[]));
            sent.extend(frame(HEADERS, END_HEADERS, 1, &block));
            sent.extend(frame(DATA, 0, 1, b"abc"));
            client.write_all(&sent).unwrap();
            told.recv_timeout(PATIENCE).unwrap();
            client.write_all(&reset(1, code)).unwrap();
            let rest = told.recv_timeout(PATIENCE).unwrap();
            assert!(rest.is_empty(), "{code}, {length:?}: {rest:?}");
        }
    }
}
