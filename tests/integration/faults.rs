//! Whatever an upstream does wrong, the client gets one response in time, an allowed script can
//! read it, a cut body is visibly cut, and no client gets bytes meant for another.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use s3cors::server::Limits;
use s3cors::upstream::local_executor::LocalExecutor;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::support::client::{RawClient, ask};
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::{Exchange, MockUpstream, Recorded, refusing};

const ALLOWED: &str = "https://app.example";
const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod><AllowedMethod>HEAD</AllowedMethod>\
     <AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>";

/// The value of the time limit that a fault exceeds.
const SHORT: Duration = Duration::from_millis(100);

/// An upstream's fault, and the expected result.
struct Fault {
    name: &'static str,
    does: Does,
    /// The step that exceeds its time limit.
    short: Option<Step>,
    /// The method of the request without a body.
    method: &'static str,
    status: u16,
    /// The client's part of the body; `None` if cut.
    body: Option<&'static str>,
    /// The counted reason; empty if none, because no client is affected.
    reason: &'static str,
}

/// A step with a time limit.
#[derive(Clone, Copy)]
enum Step {
    Connect,
    Head,
    Body,
}

/// An upstream's behaviour.
#[derive(Clone, Copy)]
enum Does {
    /// It does not listen.
    Refuse,
    /// It never accepts a connection.
    Vanish,
    /// It responds with these bytes and closes.
    Answer(&'static str),
    /// It responds with these bytes and continues listening.
    AnswerAndWait(&'static str),
    /// It responds with these bytes and resets the connection.
    Reset(&'static str),
    /// It responds with the first, and then endlessly with the second.
    Flood(&'static str, &'static str),
}

const fn fault(name: &'static str, does: Does, reason: &'static str) -> Fault {
    Fault {
        name,
        does,
        short: None,
        method: "GET",
        status: 502,
        body: Some(""),
        reason,
    }
}

/// A fault whose response begins and breaks off.
const fn cut(name: &'static str, does: Does) -> Fault {
    Fault {
        status: 200,
        body: None,
        ..fault(name, does, "body")
    }
}

/// A fault that exceeds a time limit.
const fn slow(name: &'static str, does: Does, step: Step, reason: &'static str) -> Fault {
    Fault {
        status: 504,
        short: Some(step),
        ..fault(name, does, reason)
    }
}

/// A fault with bytes beyond the response.
const fn excess(name: &'static str, answer: &'static str, status: u16) -> Fault {
    Fault {
        status,
        ..fault(name, Does::AnswerAndWait(answer), "")
    }
}

#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    fault("refused", Does::Refuse, "connect"),
    slow("black-holed", Does::Vanish, Step::Connect, "connect_timeout"),
    fault("closed before the head", Does::Answer(""), "closed"),
    fault("reset before the head", Does::Reset(""), "closed"),
    fault("closed in the head", Does::Answer("HTTP/1.1 200 OK\r\nContent-Le"), "closed"),
    fault("reset in the head", Does::Reset("HTTP/1.1 200 OK\r\nContent-Le"), "closed"),
    slow("no head", Does::AnswerAndWait(""), Step::Head, "response_head_timeout"),
    slow("half a head", Does::AnswerAndWait("HTTP/1.1 200 OK\r\nCont"), Step::Head, "response_head_timeout"),
    slow("interim responses only", Does::AnswerAndWait("HTTP/1.1 103 Early Hints\r\n\r\n"), Step::Head, "response_head_timeout"),
    fault("garbage", Does::AnswerAndWait("\0\u{1}\u{2}garbage\r\n\r\n"), "invalid_response"),
    fault("HTTP/0.9", Does::Answer("<html>hello</html>\n"), "invalid_response"),
    fault("a version that is none", Does::AnswerAndWait("HTTP/3.7 200 OK\r\n\r\n"), "invalid_response"),
    fault("a NUL in a value", Does::AnswerAndWait("HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 0\r\n\r\n"), "invalid_response"),
    fault("a space within a name", Does::AnswerAndWait("HTTP/1.1 200 OK\r\nContent Length: 0\r\n\r\n"), "invalid_response"),
    fault("a folded line", Does::AnswerAndWait("HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n"), "invalid_response"),
    fault("a head without end", Does::Flood("HTTP/1.1 200 OK\r\nA: ", "aaaaaaaaaaaaaaaa"), "invalid_response"),
    fault("fields without end", Does::Flood("HTTP/1.1 200 OK\r\n", "a: b\r\n"), "invalid_response"),
    fault("a flood of 100", Does::Flood("", "HTTP/1.1 100 Continue\r\n\r\n"), "invalid_response"),
    fault("a flood of 103", Does::Flood("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), "invalid_response"),
    fault("101 that nobody asked for", Does::AnswerAndWait("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), "invalid_response"),
    fault("a negative length", Does::AnswerAndWait("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "invalid_response"),
    fault("a length beyond 64 bits", Does::AnswerAndWait("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n"), "invalid_response"),
    fault("two lengths", Does::AnswerAndWait("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nokok"), "invalid_response"),
    fault("a length and chunks", Does::AnswerAndWait("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "invalid_response"),
    fault("a transfer coding", Does::Answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok"), "invalid_response"),
    fault("two transfer codings", Does::AnswerAndWait("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "invalid_response"),
    fault("chunks in HTTP/1.0", Does::Answer("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "invalid_response"),
    cut("closed in the body", Does::Answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")),
    cut("reset in the body", Does::Reset("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")),
    cut("closed in a chunk", Does::Answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf")),
    cut("closed between chunks", Does::Answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")),
    cut("a chunk's size that is none", Does::AnswerAndWait("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n")),
    cut("reset before a body's end is told", Does::Reset("HTTP/1.1 200 OK\r\n\r\nhalf")),
    Fault { short: Some(Step::Body), ..cut("a body that stops", Does::AnswerAndWait("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")) },
    Fault { body: Some("ok"), ..excess("a length too short", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 200) },
    Fault { body: Some("ok"), ..excess("bytes behind the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 200) },
    excess("a body on 204", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 204),
    excess("a body on 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 46\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 304),
    Fault { method: "HEAD", ..excess("a body on HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 200) },
];

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Origin {
    Allowed,
    Refused,
    Absent,
}

impl Origin {
    fn value(self) -> Option<&'static str> {
        match self {
            Self::Allowed => Some(ALLOWED),
            Self::Refused => Some("https://evil.example"),
            Self::Absent => None,
        }
    }
}

/// The result of a request.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    /// `None` if cut.
    body: Option<String>,
}

/// A client of one HTTP version.
type Client = fn(SocketAddr, &str, Origin) -> Answer;

fn http1(address: SocketAddr, method: &str, origin: Origin) -> Answer {
    let mut request = format!("{method} /fault HTTP/1.1\r\nHost: photos.example\r\n");
    for (name, value) in fields(method, origin) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body_of(method);
    if !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut client = RawClient::connect(address);
    client.send(format!("{request}\r\n{body}"));
    let response = client.receive(method);
    Answer {
        status: response.status,
        body: response.whole.then(|| response.text()),
        headers: response.headers,
    }
}

fn http2(address: SocketAddr, method: &str, origin: Origin) -> Answer {
    let body = Full::new(Bytes::from(body_of(method)));
    http2_with(address, method, origin, body)
}

fn http2_with(
    address: SocketAddr,
    method: &str,
    origin: Origin,
    body: impl hyper::body::Body<Data = Bytes, Error = Infallible> + Unpin + 'static,
) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let handshake = http2::handshake(LocalExecutor, TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::task::spawn_local(connection);
        let mut request = Request::builder()
            .method(method)
            .uri("http://photos.example/fault");
        for (name, value) in fields(method, origin) {
            request = request.header(name, value);
        }
        let response = sender.send_request(request.body(body).unwrap());
        let (parts, body) = response.await.unwrap().into_parts();
        let body = body.collect().await.ok();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.map(|body| String::from_utf8(body.to_bytes().into()).unwrap()),
        }
    })
}

fn fields(method: &str, origin: Origin) -> Vec<(&'static str, &'static str)> {
    let origin = origin.value().map(|value| ("origin", value));
    let preflight = (method == "OPTIONS").then_some(("access-control-request-method", "PUT"));
    origin.into_iter().chain(preflight).collect()
}

fn body_of(method: &str) -> &'static str {
    if method == "PUT" { "a body" } else { "" }
}

/// An upstream that fails on `/fault`, and works otherwise.
struct Wrongdoer {
    address: SocketAddr,
    mock: Option<MockUpstream>,
    /// Connections on which it failed and got another request.
    asked_again: Arc<Mutex<usize>>,
    /// Keeps the address from accepting connections.
    _full: Vec<TcpStream>,
    _listener: Option<Socket>,
}

impl Wrongdoer {
    fn start(does: Does) -> Self {
        let nobody = |address, listener, full| Self {
            address,
            mock: None,
            asked_again: Arc::default(),
            _full: full,
            _listener: listener,
        };
        match does {
            Does::Refuse => nobody(refusing(), None, Vec::new()),
            Does::Vanish => {
                let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
                listener.bind(&SockAddr::from(any)).unwrap();
                listener.listen(0).unwrap();
                let address = listener.local_addr().unwrap().as_socket().unwrap();
                // While there is room for unaccepted connections, they are accepted by the
                // system.
                let fill = || TcpStream::connect_timeout(&address, SHORT).ok();
                nobody(address, Some(listener), std::iter::from_fn(fill).collect())
            }
            _ => {
                let asked_again = Arc::new(Mutex::new(0));
                let (again, wronged) = (Arc::clone(&asked_again), Mutex::new(HashSet::new()));
                let mock = MockUpstream::scripted(true, move |exchange| {
                    // `None`: the proxy has left, and sends no more on this connection.
                    let peer = exchange.stream.get_ref().peer_addr().ok();
                    if peer.is_some_and(|peer| wronged.lock().unwrap().contains(&peer)) {
                        *again.lock().unwrap() += 1;
                    }
                    if exchange.request.target() != "/fault" {
                        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean");
                        return true;
                    }
                    wronged.lock().unwrap().extend(peer);
                    does.to(exchange)
                });
                Self {
                    address: mock.address,
                    mock: Some(mock),
                    asked_again,
                    _full: Vec::new(),
                    _listener: None,
                }
            }
        }
    }

    /// The number of preflights that it received. Other requests may come late: the client has
    /// its response once the proxy's time limit has passed.
    fn preflights(&self) -> usize {
        let requests = self.mock.as_ref().map(MockUpstream::requests);
        let requests = requests.unwrap_or_default();
        let has = |request: &Recorded, field| !request.values(field).is_empty();
        requests
            .iter()
            .filter(|request| has(request, "origin") && request.method() == "OPTIONS")
            .count()
    }
}

impl Does {
    /// Returns whether the connection continues.
    fn to(self, exchange: &mut Exchange<'_>) -> bool {
        match self {
            Self::Refuse | Self::Vanish => false,
            Self::Answer(bytes) => {
                exchange.send(bytes);
                false
            }
            Self::AnswerAndWait(bytes) => {
                exchange.send(bytes);
                true
            }
            Self::Reset(bytes) => {
                exchange.send(bytes);
                let socket = SockRef::from(exchange.stream.get_ref());
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                false
            }
            Self::Flood(first, then) => {
                exchange.send(first);
                let then = then.repeat(1000);
                while exchange.try_send(&then) {}
                false
            }
        }
    }
}

fn run(fault: &Fault) {
    let upstream = Wrongdoer::start(fault.does);
    let mut route = TestRoute::new(upstream.address, POLICY);
    match fault.short {
        Some(Step::Connect) => route.timeouts.connect = SHORT,
        Some(Step::Head) => route.timeouts.response_head = SHORT,
        // The request's body has the same limit, and on a busy machine it may come late.
        Some(Step::Body) => route.timeouts.body_idle = Duration::from_secs(1),
        None => {}
    }
    let proxy = TestProxy::start(&[route]);
    let clients: [(&str, Client); 2] = [("HTTP/1.1", http1), ("h2", http2)];
    for (version, client) in clients {
        for method in [fault.method, "PUT", "OPTIONS"] {
            for origin in [Origin::Allowed, Origin::Refused, Origin::Absent] {
                let case = format!("{}, {version}, {method}, {origin:?}", fault.name);
                let mut counted = failures(&proxy);
                let answer = client(proxy.address, method, origin);
                let is_preflight = method == "OPTIONS" && origin != Origin::Absent;
                check_readable(&answer, origin, &case);
                if is_preflight {
                    let status = if origin == Origin::Allowed { 200 } else { 403 };
                    assert_eq!(answer.status, status, "{case}");
                    assert_eq!(upstream.preflights(), 0, "{case}");
                    continue;
                }
                assert_eq!(answer.status, fault.status, "{case}: {answer:?}");
                if answer.status >= 500 {
                    let id = answer.headers["x-amz-request-id"].to_str().unwrap();
                    let says = answer.body.as_deref().expect(&case);
                    assert!(method == "HEAD" || says.contains(id), "{case}: {says}");
                } else {
                    assert_eq!(answer.body.as_deref(), fault.body, "{case}");
                }
                if !fault.reason.is_empty() {
                    *counted.entry(fault.reason.to_owned()).or_default() += 1;
                }
                assert_eq!(failures(&proxy), counted, "{case}");
                if upstream.mock.is_some() && fault.short.is_none() {
                    let clean = ask(proxy.address, "GET", "/clean", &[]);
                    assert_eq!((clean.status, &*clean.text()), (200, "clean"), "{case}");
                }
            }
        }
    }
    assert_eq!(*upstream.asked_again.lock().unwrap(), 0, "{}", fault.name);
}

/// An allowed page can read it, no other page can, and caches distinguish them.
fn check_readable(answer: &Answer, origin: Origin, case: &str) {
    let allowed = answer.headers.get("access-control-allow-origin");
    let expected = (origin == Origin::Allowed).then_some(ALLOWED);
    assert_eq!(
        allowed.map(|value| value.to_str().unwrap()),
        expected,
        "{case}"
    );
    let vary = answer.headers.get_all("vary").iter();
    let names_origin = vary
        .flat_map(|line| line.to_str().unwrap().split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("origin"));
    assert!(names_origin, "{case}");
}

/// The counted failures, by reason.
fn failures(proxy: &TestProxy) -> BTreeMap<String, u64> {
    let text = proxy.metrics.encode();
    let lines = text.lines();
    lines
        .filter_map(|line| line.strip_prefix("s3cors_upstream_errors_total{"))
        .map(|line| {
            let reason = line.split("reason=\"").nth(1).unwrap().split('"').next();
            let count = line.rsplit(' ').next().unwrap().parse().unwrap();
            (reason.unwrap().to_owned(), count)
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[test]
fn every_fault_has_one_response_that_the_allowed_origin_can_read() {
    thread::scope(|scope| {
        for fault in FAULTS {
            scope.spawn(|| run(fault));
        }
    });
}

#[test]
fn a_request_that_is_too_large_is_refused_readably() {
    let upstream = MockUpstream::answering("");
    let limits = Limits {
        uri_bytes: "/fault".len() - 1,
        ..Limits::default()
    };
    let proxy = TestProxy::with_limits(&[TestRoute::new(upstream.address, POLICY)], limits);
    for origin in [Origin::Allowed, Origin::Refused, Origin::Absent] {
        let answer = http2(proxy.address, "GET", origin);
        assert_eq!(answer.status, 414, "{origin:?}");
        check_readable(&answer, origin, "too long");
        assert!(answer.headers.contains_key("x-amz-request-id"));
    }
    assert!(upstream.requests().is_empty());
}

/// The client gets its response before it has sent its body: the rest is discarded.
#[test]
fn an_early_answer_ends_the_upload() {
    let (told, taken) = mpsc::channel();
    let upstream = MockUpstream::scripted(false, move |exchange| {
        if exchange.request.method() == "GET" {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean");
            return true;
        }
        exchange.read(4);
        exchange.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        let mut rest = Vec::new();
        let _ = exchange.stream.read_to_end(&mut rest);
        told.send(rest.len()).unwrap();
        false
    });
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    let mut client = RawClient::connect(proxy.address);
    client.send(format!(
        "PUT /k HTTP/1.1\r\nHost: photos.example\r\nOrigin: {ALLOWED}\r\nContent-Length: 1000000\r\n\r\nhalf"
    ));
    let answer = client.receive("PUT");
    assert_eq!((answer.status, &*answer.text()), (403, "no"));
    assert_eq!(answer.values("access-control-allow-origin"), [ALLOWED]);
    // The client keeps its connection open; the upstream's is closed anyway.
    let patience = Duration::from_secs(20);
    assert_eq!(taken.recv_timeout(patience).unwrap(), 0);
    let clean = ask(proxy.address, "GET", "/clean", &[]);
    assert_eq!((clean.status, &*clean.text()), (200, "clean"));
    assert_eq!(upstream.connections(), 2);
}

/// Here the write fails first, but the response can still be read.
#[test]
fn an_early_answer_is_seen_even_if_the_upstream_closes_at_once() {
    let upstream = MockUpstream::scripted(false, |exchange| {
        exchange.read(4);
        exchange.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        // With unread bytes: the connection is reset.
        false
    });
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    let length = 8 << 20;
    let body = vec![b'a'; length];
    for turn in 0..20 {
        // Without and with a field that `Connection` lists.
        let connection = ["", "Connection: x-nothing\r\n"][turn % 2];
        let head = format!(
            "PUT /k HTTP/1.1\r\nHost: photos.example\r\nOrigin: {ALLOWED}\r\n{connection}Content-Length: {length}\r\n\r\n"
        );
        let mut client = RawClient::connect(proxy.address);
        let mut upload = client.stream().try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                // The rest is not read.
                let _ = upload.write_all(head.as_bytes());
                let _ = upload.write_all(&body);
            });
            let (status, headers) = client.head();
            assert_eq!(status, 403, "{turn}");
            assert_eq!(headers["access-control-allow-origin"], ALLOWED);
            assert_eq!(client.bytes(2), b"no");
            // The proxy may have left before.
            let _ = client.stream().shutdown(std::net::Shutdown::Both);
        });
    }
}

#[test]
fn an_early_answer_ends_the_upload_in_http2_too() {
    let (told, taken) = mpsc::channel();
    let upstream = MockUpstream::scripted(false, move |exchange| {
        exchange.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        let mut rest = Vec::new();
        let _ = exchange.stream.read_to_end(&mut rest);
        told.send(()).unwrap();
        false
    });
    let proxy = TestProxy::start(&[TestRoute::new(upstream.address, POLICY)]);
    let answer = http2_with(proxy.address, "PUT", Origin::Allowed, Unending);
    assert_eq!(answer.status, 403);
    assert_eq!(answer.body.as_deref(), Some("no"));
    taken.recv_timeout(Duration::from_secs(20)).unwrap();
}

/// A body whose end never comes.
struct Unending;

impl hyper::body::Body for Unending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        Poll::Pending
    }
}
