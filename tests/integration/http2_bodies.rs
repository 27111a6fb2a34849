//! Bodies over HTTP/2: complete only with END_STREAM, and with their declared length.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::support::http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS, frame, head, reset,
};
use crate::support::proxy::{TestProxy, TestRoute};

/// The codes of RFC 9113 §7, and an unknown one.
const CODES: [u32; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xffff];

/// An upper limit for every step of a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a side continues after a part of a body.
#[derive(Clone, Copy, Debug)]
enum Ending {
    EndStream,
    Reset(u32),
    /// END_STREAM, then a reset: a server that has responded and does not need the rest of the
    /// request.
    EndStreamAndReset,
    Fin,
}

impl Ending {
    fn cuts() -> impl Iterator<Item = Self> {
        CODES.into_iter().map(Self::Reset).chain([Self::Fin])
    }

    /// Applies it to stream 1.
    fn apply(self, stream: &mut TcpStream) {
        let end = frame(DATA, END_STREAM, 1, b"");
        match self {
            Self::EndStream => stream.write_all(&end).unwrap(),
            Self::Reset(code) => stream.write_all(&reset(1, code)).unwrap(),
            Self::EndStreamAndReset => stream.write_all(&[end, reset(1, 0)].concat()).unwrap(),
            Self::Fin => stream.shutdown(std::net::Shutdown::Both).unwrap(),
        }
    }
}

/// How a stream ended, as the other side sees it.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Whole(Vec<u8>),
    Cut,
}

/// Reads frames until the next one of a stream.
fn next_frame(stream: &mut TcpStream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).ok()?;
    let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some((head[3], head[4], id, payload))
}

/// Reads stream 1 to its end; `begun` is called once after data has come.
fn end_of_stream(stream: &mut TcpStream, mut begun: impl FnMut(&mut TcpStream)) -> Ended {
    let mut body = Vec::new();
    while let Some((kind, flags, id, payload)) = next_frame(stream) {
        match kind {
            SETTINGS if flags == 0 => stream.write_all(&frame(SETTINGS, 1, 0, b"")).unwrap(),
            HEADERS | DATA if id == 1 => {
                let has_begun = !body.is_empty();
                if kind == DATA {
                    body.extend(payload);
                }
                if flags & END_STREAM != 0 {
                    return Ended::Whole(body);
                }
                if !has_begun && !body.is_empty() {
                    begun(stream);
                }
            }
            RST_STREAM | GOAWAY => return Ended::Cut,
            _ => {}
        }
    }
    Ended::Cut
}

/// An HTTP/2 client that can send anything.
fn client(proxy: &TestProxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let hello = [&preface[..], &frame(SETTINGS, 0, 0, b"")].concat();
    stream.write_all(&hello).unwrap();
    stream
}

/// The head of a request on stream 1, with literal fields (RFC 7541 §6.2.2).
fn request(flags: u8, method: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "photos.example"),
        (":path", "/k"),
    ];
    let mut block = Vec::new();
    for (name, value) in pseudo.iter().chain(fields) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    frame(HEADERS, flags | END_HEADERS, 1, &block)
}

/// An HTTP/1.1 upstream that reports when a head and `part` have come, and then all bytes of a
/// request. It responds to requests that are complete by its own parsing.
fn http1_upstream(part: &'static str) -> (SocketAddr, Receiver<()>, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (begun, has_begun) = channel();
    let (done, is_done) = channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut request, mut piece) = (String::new(), [0; 4096]);
            let mut told = false;
            loop {
                let read = match stream.read(&mut piece) {
                    Ok(read) => read,
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                    Err(error) => panic!("{error}"),
                };
                request.push_str(std::str::from_utf8(&piece[..read]).unwrap());
                let body = request.split_once("\r\n\r\n").map(|(_, body)| body);
                if !told && body.is_some_and(|body| body.contains(part)) {
                    told = true;
                    let _ = begun.send(());
                }
                if read == 0 || is_whole(&request) {
                    break;
                }
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            // A connection may be opened for a request that is then not sent.
            if !request.is_empty() {
                let _ = done.send(request);
            }
        }
    });
    (address, has_begun, is_done)
}

/// Whether a request is complete by RFC 9112 §6.
fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    match length {
        _ if head.contains("transfer-encoding: chunked") => body.ends_with("0\r\n\r\n"),
        Some(length) => body.len() == length.parse::<usize>().unwrap(),
        None => true,
    }
}

#[test]
fn a_cut_request_body_is_never_complete_to_an_http1_upstream() {
    let (address, begun, done) = http1_upstream("part");
    let proxy = TestProxy::start(&[TestRoute::transparent(address)]);
    for ending in Ending::cuts().chain([Ending::EndStream]) {
        for fields in [&[][..], &[("content-length", "8")]] {
            let mut client = client(&proxy);
            client.write_all(&request(0, "PUT", fields)).unwrap();
            client.write_all(&frame(DATA, 0, 1, b"part")).unwrap();
            begun.recv_timeout(PATIENCE).unwrap();
            if matches!(ending, Ending::EndStream) && !fields.is_empty() {
                client.write_all(&frame(DATA, 0, 1, b"rest")).unwrap();
            }
            ending.apply(&mut client);
            let request = done.recv_timeout(PATIENCE).unwrap();
            let is_expected = matches!(ending, Ending::EndStream);
            assert_eq!(is_whole(&request), is_expected, "{ending:?}: {request:?}");
        }
    }
}

#[test]
fn a_cut_request_body_is_never_complete_to_an_http2_upstream() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for ending in Ending::cuts().chain([Ending::EndStream]) {
        // One connection each, so that each request is on stream 1.
        let route = TestRoute {
            http2: true,
            ..TestRoute::transparent(address)
        };
        let proxy = TestProxy::start(&[route]);
        let mut client = client(&proxy);
        client.write_all(&request(0, "PUT", &[])).unwrap();
        client.write_all(&frame(DATA, 0, 1, b"part")).unwrap();
        let (mut upstream, _) = listener.accept().unwrap();
        upstream.read_exact(&mut [0; 24]).unwrap();
        upstream.write_all(&frame(SETTINGS, 0, 0, b"")).unwrap();
        let ended = end_of_stream(&mut upstream, |_| ending.apply(&mut client));
        let expected = match ending {
            Ending::EndStream => Ended::Whole(b"part".to_vec()),
            _ => Ended::Cut,
        };
        assert_eq!(ended, expected, "{ending:?}");
    }
}

/// Starts an HTTP/2 upstream that responds with a part of a body and then does `ending`.
fn ending_with(ending: Ending, is_taken: Receiver<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 24]).unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, b"")).unwrap();
        while let Some((kind, ..)) = next_frame(&mut stream) {
            if kind == HEADERS {
                let part = [head(0, 1, "200", &[]), frame(DATA, 0, 1, b"part")].concat();
                stream.write_all(&part).unwrap();
                is_taken.recv_timeout(PATIENCE).unwrap();
                ending.apply(&mut stream);
            }
        }
    });
    address
}

#[test]
fn a_cut_response_of_an_http2_upstream_is_cut_for_every_client() {
    let endings = [Ending::EndStream, Ending::EndStreamAndReset];
    for ending in Ending::cuts().chain(endings) {
        for is_http2 in [true, false] {
            let (take, is_taken) = channel();
            let route = TestRoute {
                http2: true,
                ..TestRoute::transparent(ending_with(ending, is_taken))
            };
            let proxy = TestProxy::start(&[route]);
            let ended = if is_http2 {
                let mut client = client(&proxy);
                client.write_all(&request(END_STREAM, "GET", &[])).unwrap();
                end_of_stream(&mut client, |_| take.send(()).unwrap())
            } else {
                let mut client = TcpStream::connect(proxy.address).unwrap();
                let request =
                    b"GET /k HTTP/1.1\r\nHost: photos.example\r\nConnection: close\r\n\r\n";
                client.write_all(request).unwrap();
                let (mut response, mut piece) = (Vec::new(), [0; 4096]);
                let mut told = false;
                loop {
                    let read = client.read(&mut piece).unwrap_or(0);
                    response.extend(&piece[..read]);
                    if !told && response.ends_with(b"part\r\n") {
                        told = true;
                        take.send(()).unwrap();
                    }
                    if read == 0 {
                        break;
                    }
                }
                match response.ends_with(b"part\r\n0\r\n\r\n") {
                    true => Ended::Whole(b"part".to_vec()),
                    false => Ended::Cut,
                }
            };
            let expected = match ending {
                Ending::EndStream | Ending::EndStreamAndReset => Ended::Whole(b"part".to_vec()),
                Ending::Reset(_) | Ending::Fin => Ended::Cut,
            };
            assert_eq!(ended, expected, "{ending:?}, HTTP/2: {is_http2}");
        }
    }
}

#[test]
fn a_request_that_http2_ends_without_a_body_has_the_length_0_over_http1() {
    let (address, _, done) = http1_upstream("part");
    let proxy = TestProxy::start(&[TestRoute::transparent(address)]);
    for (method, has_length) in [
        ("POST", true),
        ("PUT", true),
        ("PATCH", true),
        ("DELETE", false),
        ("GET", false),
    ] {
        for has_data in [false, true] {
            let mut client = client(&proxy);
            let sent = match has_data {
                false => request(END_STREAM, method, &[]),
                true => [request(0, method, &[]), frame(DATA, END_STREAM, 1, b"")].concat(),
            };
            client.write_all(&sent).unwrap();
            let request = done.recv_timeout(PATIENCE).unwrap().to_ascii_lowercase();
            let says_length = request.contains("\r\ncontent-length: 0\r\n");
            assert_eq!(says_length, has_length, "{request}");
            assert!(!request.contains("transfer-encoding"), "{request}");
        }
    }
}

#[test]
fn a_body_that_differs_from_its_declared_length_resets_the_stream() {
    let (address, _, done) = http1_upstream("part");
    let proxy = TestProxy::start(&[TestRoute::transparent(address)]);
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let cases = [
        ("0", vec![data(END_STREAM, b"part")], false),
        ("0", vec![data(0, b"part")], false),
        ("0", vec![data(0, b""), data(0, b"p")], false),
        (
            "4",
            vec![data(0, b"part"), data(END_STREAM, b"more")],
            false,
        ),
        (
            "4",
            vec![data(0, b"part"), data(0, b""), data(0, b"m")],
            false,
        ),
        ("9", vec![data(END_STREAM, b"part")], false),
        ("9", vec![data(0, b"part"), data(END_STREAM, b"")], false),
        ("0", vec![data(END_STREAM, b"")], true),
        ("0", vec![data(0, b""), data(END_STREAM, b"")], true),
        ("4", vec![data(0, b"part"), data(END_STREAM, b"")], true),
        ("4", vec![data(0, b"pa"), data(END_STREAM, b"rt")], true),
    ];
    for (number, (length, frames, is_right)) in cases.iter().enumerate() {
        let mut client = client(&proxy);
        let fields = [("content-length", *length), ("x-case", &number.to_string())];
        let sent = [&[request(0, "PUT", &fields)][..], frames]
            .concat()
            .concat();
        client.write_all(&sent).unwrap();
        let expected = match is_right {
            true => Ended::Whole(Vec::new()),
            false => Ended::Cut,
        };
        let ended = end_of_stream(&mut client, |_| {});
        assert_eq!(ended, expected, "{length}: {frames:?}");
    }
    // The upstream serves one connection after another: this is its last.
    drop(proxy);
    let mut last = TcpStream::connect(address).unwrap();
    last.write_all(b"GET / HTTP/1.1\r\nX-Last: 1\r\n\r\n")
        .unwrap();
    let mut complete = Vec::new();
    loop {
        let request = done.recv_timeout(PATIENCE).unwrap();
        if request.contains("X-Last") {
            break;
        }
        let case = request.split_once("x-case: ").unwrap().1;
        let case: usize = case.split_once('\r').unwrap().0.parse().unwrap();
        if is_whole(&request) {
            complete.push(case);
        }
    }
    let right = (0..cases.len()).filter(|case| cases[*case].2);
    assert_eq!(complete, right.collect::<Vec<_>>());
}

/// Browsers split cookies (RFC 9113 §8.2.3).
#[test]
fn the_crumbs_of_a_cookie_count_as_one_field() {
    let (address, _, done) = http1_upstream("part");
    let proxy = TestProxy::start(&[TestRoute::transparent(address)]);
    let crumbs: Vec<String> = (0..110).map(|number| format!("c{number}=1")).collect();
    let fields: Vec<_> = crumbs.iter().map(|crumb| ("cookie", &**crumb)).collect();
    for method in ["GET", "PUT"] {
        let mut client = client(&proxy);
        client
            .write_all(&request(END_STREAM, method, &fields))
            .unwrap();
        let request = done.recv_timeout(PATIENCE).unwrap();
        let cookie = format!("cookie: {}\r\n", crumbs.join("; "));
        assert_eq!(request.to_ascii_lowercase().matches("cookie").count(), 1);
        assert!(request.contains(&cookie), "{request}");
    }
    let other: Vec<String> = (0..110).map(|number| format!("x-{number}")).collect();
    let fields: Vec<_> = other.iter().map(|name| (&**name, "1")).collect();
    let mut client = client(&proxy);
    client
        .write_all(&request(END_STREAM, "GET", &fields))
        .unwrap();
    let Ended::Whole(page) = end_of_stream(&mut client, |_| {}) else {
        panic!("no answer");
    };
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("too large"), "{page}");
}
