//! No request is ambiguous to the upstream: every row of the corpus is refused, or reaches the
//! upstream as exactly the expected clean requests.
//!
//! The upstream parses requests strictly by RFC 9112, and records them. A probe follows each row:
//! leftover bytes of the row would show in it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::proxy::{TestProxy, TestRoute};

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

/// An upper limit for every response.
const PATIENCE: Duration = Duration::from_secs(20);

const PROBE: &str = "GET /probe HTTP/1.1\r\nHost: photos.example\r\n\r\n";

/// How a row's bytes are sent: in pieces of this size.
const FRAMINGS: [usize; 3] = [usize::MAX, 7, 1];

#[test]
fn under_a_policy_no_request_is_ambiguous() {
    judge(&|upstream| TestRoute::new(upstream, POLICY), "transparent:");
}

#[test]
fn on_a_transparent_route_no_request_is_ambiguous() {
    judge(&TestRoute::transparent, "policy:");
}

#[test]
fn the_corpus_is_large() {
    assert!(corpus().len() >= 120);
}

/// Judges every row, except those for another kind of route.
fn judge(route: &dyn Fn(SocketAddr) -> TestRoute, other: &str) {
    let mut stage = Stage::new(route);
    let mut wrong = Vec::new();
    for row in corpus() {
        if row.title.starts_with(other) {
            continue;
        }
        let runs = row.with_methods().into_iter();
        let runs = runs.flat_map(|run| FRAMINGS.map(|size| (run.clone(), size)));
        for (run, size) in runs {
            if let Err(failure) = stage.play(&run, size) {
                wrong.push(format!("{} (by {size}): {failure}", row.title));
                // The state of the connection is unknown now.
                stage = Stage::new(route);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A proxy with a strict upstream.
struct Stage {
    upstream: Judge,
    proxy: TestProxy,
}

impl Stage {
    fn new(route: &dyn Fn(SocketAddr) -> TestRoute) -> Self {
        let upstream = Judge::start();
        let mut route = route(upstream.address);
        // Waits, so that everything sent is recorded.
        route.forwarding.via = false;
        let proxy = TestProxy::start(&[route]);
        Self { upstream, proxy }
    }

    /// Sends a row in pieces of `size` bytes and returns the differences from the expectation.
    fn play(&self, row: &Row, size: usize) -> Result<(), String> {
        let outcome = self.converse(row, size);
        let seen = self.upstream.take();
        outcome.map_err(|error| format!("{error}; the upstream saw {seen:?}"))?;
        if let Some(Seen::Unclean(what)) = seen.iter().find(|seen| matches!(seen, Seen::Unclean(_)))
        {
            return Err(format!("the upstream got {what}"));
        }
        let requests: Vec<_> = seen
            .iter()
            .filter_map(|seen| match seen {
                Seen::Request(request) => Some(request.clone()),
                Seen::Cut | Seen::Unclean(_) => None,
            })
            .collect();
        let forwarded = row.expected.iter().filter_map(Expected::request);
        let expected: Vec<_> = forwarded.cloned().chain([Message::probe()]).collect();
        if requests == expected {
            Ok(())
        } else {
            Err(format!("expected {expected:?}, but {requests:?}"))
        }
    }

    /// Sends the row and the probe, on the same connection if it stays open, and returns the
    /// responses.
    fn converse(&self, row: &Row, size: usize) -> Result<(), String> {
        let mut client = Client::connect(self.proxy.address);
        for piece in row.bytes.chunks(size) {
            if client.stream.get_mut().write_all(piece).is_err() {
                // Refused before the end, as the response says.
                break;
            }
        }
        let mut ends = false;
        for expected in &row.expected {
            let answer = client
                .answer()
                .map_err(|error| format!("{expected:?}: {error}"))?;
            expected.check(&answer)?;
            ends = answer.ends || matches!(expected, Expected::Refused(_));
        }
        if ends {
            client.expect_end()?;
            client = Client::connect(self.proxy.address);
        }
        let answer = client
            .probe()
            .map_err(|error| format!("the probe: {error}"))?;
        if answer.text == "GET /probe" {
            Ok(())
        } else {
            Err(format!("the probe got {answer:?}"))
        }
    }
}

/// A request of the corpus.
#[derive(Clone, Debug)]
struct Row {
    title: String,
    bytes: Vec<u8>,
    expected: Vec<Expected>,
}

/// The expected outcome of a request.
#[derive(Clone, Debug)]
enum Expected {
    /// One of these statuses; the connection ends.
    Refused(Vec<u16>),
    /// Answered by the proxy itself.
    Here(u16),
    Forwarded(Message),
}

/// A parsed request: fields in lower case, and the body without chunks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    line: String,
    fields: Vec<(String, String)>,
    body: String,
}

impl Message {
    /// Normalizes it: sorted, and without fields that say that there is no body.
    fn new(line: String, mut fields: Vec<(String, String)>, body: String) -> Self {
        fields.retain(|(name, value)| (&**name, &**value) != ("content-length", "0"));
        fields.sort();
        Self { line, fields, body }
    }

    fn probe() -> Self {
        let host = ("host".to_owned(), "photos.example".to_owned());
        Self::new("GET /probe HTTP/1.1".into(), vec![host], String::new())
    }
}

impl Expected {
    fn request(&self) -> Option<&Message> {
        match self {
            Self::Forwarded(request) => Some(request),
            Self::Refused(_) | Self::Here(_) => None,
        }
    }

    fn check(&self, answer: &Answer) -> Result<(), String> {
        let is_right = match self {
            Self::Refused(statuses) => {
                statuses.contains(&answer.status) && answer.ends && answer.has_id
            }
            Self::Here(status) => *status == answer.status,
            Self::Forwarded(request) => {
                answer.status == 200 && request.line.starts_with(&format!("{} ", answer.text))
            }
        };
        if is_right {
            Ok(())
        } else {
            Err(format!("expected {self:?}, but {answer:?}"))
        }
    }
}

impl Row {
    /// The row, and a variant with the other method if it has a plain one.
    fn with_methods(&self) -> Vec<Self> {
        let swapped = [("GET /", "POST /"), ("POST /", "GET /")];
        let other = swapped.into_iter().find_map(|(from, to)| {
            let rest = self.bytes.strip_prefix(from.as_bytes())?;
            let mut other = self.clone();
            other.bytes = [to.as_bytes(), rest].concat();
            if let Some(Expected::Forwarded(request)) = other.expected.first_mut() {
                request.line = request.line.replacen(from, to, 1);
            }
            Some(other)
        });
        std::iter::once(self.clone()).chain(other).collect()
    }
}

/// Parses the corpus, whose file describes its format.
fn corpus() -> Vec<Row> {
    let text = include_str!("../data/smuggling/http1.txt");
    let mut rows: Vec<Row> = Vec::new();
    let mut blocks: Vec<(String, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        if line.starts_with("== ") || line.starts_with("=> ") {
            blocks.push((line.to_owned(), Vec::new()));
        } else if let Some((_, lines)) = blocks.last_mut() {
            lines.push(line);
        }
    }
    for (head, lines) in &blocks {
        let (mark, rest) = head.split_at(3);
        if mark == "== " {
            rows.push(Row {
                title: rest.to_owned(),
                bytes: lines.iter().flat_map(|line| bytes_of(line)).collect(),
                expected: Vec::new(),
            });
        } else {
            let row = rows.last_mut().unwrap();
            row.expected.push(expected(rest, lines));
        }
    }
    rows
}

fn expected(head: &str, lines: &[&str]) -> Expected {
    if let Some(status) = head.strip_prefix("here ") {
        return Expected::Here(status.parse().unwrap());
    }
    if head.starts_with(|char: char| char.is_ascii_digit()) {
        let statuses = head.split(' ').map(|status| status.parse().unwrap());
        return Expected::Refused(statuses.collect());
    }
    let end = lines.iter().position(|line| line.starts_with('#'));
    let lines = &lines[..end.unwrap_or(lines.len())];
    let end = lines.iter().rposition(|line| !line.is_empty());
    let lines = &lines[..end.map_or(0, |last| last + 1)];
    let head_end = lines.iter().position(|line| line.is_empty());
    let (fields, body) = lines.split_at(head_end.unwrap_or(lines.len()));
    let fields = fields.iter().map(|field| {
        let (name, value) = field.split_once(':').unwrap();
        (name.to_owned(), latin_1(&unescaped(value.trim())))
    });
    let body: Vec<u8> = body
        .iter()
        .skip(1)
        .flat_map(|line| bytes_of(line))
        .collect();
    // The last line's end belongs to the file.
    let body = latin_1(body.strip_suffix(b"\r\n").unwrap_or(&body));
    Expected::Forwarded(Message::new(head.to_owned(), fields.collect(), body))
}

/// A line's bytes and its end.
fn bytes_of(line: &str) -> Vec<u8> {
    let slashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
    match line.strip_suffix('\\') {
        Some(joined) if slashes % 2 == 1 => unescaped(joined),
        _ => [&unescaped(line)[..], b"\r\n"].concat(),
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next().unwrap() {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'0' => bytes.push(0),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            b'*' => {
                let count: String = rest
                    .by_ref()
                    .take_while(|byte| *byte != b';')
                    .map(char::from)
                    .collect();
                let last = *bytes.last().unwrap();
                bytes.extend(std::iter::repeat_n(
                    last,
                    count.parse::<usize>().unwrap() - 1,
                ));
            }
            other => panic!("{text}: \\{} is nothing", char::from(other)),
        }
    }
    bytes
}

fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The client's side of a connection.
struct Client {
    stream: BufReader<TcpStream>,
}

/// A response.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// Whether it announces that the connection ends.
    ends: bool,
    /// Whether it has the request id of the log, like every response of the proxy.
    has_id: bool,
    text: String,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    fn probe(&mut self) -> io::Result<Answer> {
        self.stream.get_mut().write_all(PROBE.as_bytes())?;
        self.answer()
    }

    /// The next final response.
    fn answer(&mut self) -> io::Result<Answer> {
        loop {
            let answer = self.one_answer()?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    fn one_answer(&mut self) -> io::Result<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read_until(b'\n', &mut head)? == 0 {
                return Err(io::Error::other("no answer"));
            }
        }
        let head = latin_1(&head);
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let field = |name| {
            let lines = head.lines().filter_map(|line| line.split_once(':'));
            let mut lines = lines.filter(|(named, _)| named.eq_ignore_ascii_case(name));
            lines.next().map(|(_, value)| value.trim())
        };
        let length = field("content-length").map_or(Ok(0), str::parse);
        let mut body = vec![0; length.map_err(io::Error::other)?];
        self.stream.read_exact(&mut body)?;
        Ok(Answer {
            status: status.ok_or_else(|| io::Error::other(head.clone()))?,
            ends: match field("connection") {
                Some(option) => option == "close",
                None => head.starts_with("HTTP/1.0"),
            },
            has_id: field("x-amz-request-id").is_some(),
            text: latin_1(&body),
        })
    }

    /// The connection ends, with nothing more to read.
    fn expect_end(&mut self) -> Result<(), String> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                Err(format!("the connection goes on: {error}"))
            }
            _ if rest.is_empty() => Ok(()),
            _ => Err(format!("a second answer: {}", latin_1(&rest))),
        }
    }
}

/// An upstream that records its input.
struct Judge {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What reached the upstream.
#[derive(Debug)]
enum Seen {
    Request(Message),
    /// A request that the proxy broke off, with its connection.
    Cut,
    /// Not allowed by RFC 9112 for a client, or ambiguous.
    Unclean(String),
}

impl Judge {
    /// Answers each clean request with its method and target.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let record = Arc::clone(&record);
                thread::spawn(move || serve(stream, &record));
            }
        });
        Self { address, seen }
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn serve(stream: TcpStream, record: &Mutex<Vec<Seen>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let seen = match read_request(&mut stream) {
            Ok(None) => return,
            Ok(Some(request)) => Seen::Request(request),
            Err(Fault::Cut) => Seen::Cut,
            Err(Fault::Unclean(what)) => Seen::Unclean(what),
        };
        let answer = match &seen {
            Seen::Request(request) => request.line.strip_suffix(" HTTP/1.1").map(str::to_owned),
            Seen::Cut | Seen::Unclean(_) => None,
        };
        record.lock().unwrap().push(seen);
        let Some(text) = answer else { return };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

enum Fault {
    Cut,
    Unclean(String),
}

impl Fault {
    fn unclean(what: &str, line: &str) -> Self {
        Self::Unclean(format!("{what}: {line:?}"))
    }
}

/// A request as RFC 9112 requires it from a client. `None`: the connection ended before one.
fn read_request(stream: &mut impl BufRead) -> Result<Option<Message>, Fault> {
    if stream.fill_buf().is_ok_and(<[u8]>::is_empty) {
        return Ok(None);
    }
    let request_line = line(stream)?;
    let words: Vec<_> = request_line.split(' ').collect();
    let is_plain =
        |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
    if words.len() != 3 || words[2] != "HTTP/1.1" || !words.iter().all(is_plain) {
        return Err(Fault::unclean("a request line", &request_line));
    }
    let fields = fields(stream)?;
    let values = |name: &str| -> Vec<&str> {
        let named = fields.iter().filter(|(named, _)| named == name);
        named.map(|(_, value)| &**value).collect()
    };
    if values("host").len() != 1 {
        return Err(Fault::unclean("not one Host", &format!("{fields:?}")));
    }
    let body = match (&*values("content-length"), &*values("transfer-encoding")) {
        ([], []) => String::new(),
        ([length], [])
            if length
                .parse::<usize>()
                .is_ok_and(|n| n.to_string() == *length) =>
        {
            exactly(stream, length.parse().unwrap())?
        }
        ([], ["chunked"]) => chunks(stream)?,
        _ => return Err(Fault::unclean("an odd framing", &format!("{fields:?}"))),
    };
    Ok(Some(Message::new(request_line, fields, body)))
}

fn fields(stream: &mut impl BufRead) -> Result<Vec<(String, String)>, Fault> {
    let mut fields = Vec::new();
    loop {
        let line = line(stream)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let is_token = |name: &str| {
            let mark = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
            let is_one = |byte: u8| byte.is_ascii_alphanumeric() || mark(byte);
            !name.is_empty() && name.bytes().all(is_one)
        };
        match line.split_once(':').filter(|(name, _)| is_token(name)) {
            Some((name, value)) => {
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()))
            }
            None => return Err(Fault::unclean("a field line", &line)),
        }
    }
}

fn chunks(stream: &mut impl BufRead) -> Result<String, Fault> {
    let mut body = String::new();
    loop {
        let size_line = line(stream)?;
        let is_size =
            size_line.len() <= 16 && size_line.bytes().all(|byte| byte.is_ascii_hexdigit());
        let Some(size) = usize::from_str_radix(&size_line, 16)
            .ok()
            .filter(|_| is_size)
        else {
            return Err(Fault::unclean("a chunk's size", &size_line));
        };
        if size == 0 {
            let trailers = fields(stream)?;
            return if trailers.is_empty() {
                Ok(body)
            } else {
                Err(Fault::unclean("trailers", &format!("{trailers:?}")))
            };
        }
        body.push_str(&exactly(stream, size)?);
        let end = line(stream)?;
        if !end.is_empty() {
            return Err(Fault::unclean("a chunk's end", &end));
        }
    }
}

/// A line that ends with CRLF; returns it without CRLF. Other control bytes are errors.
fn line(stream: &mut impl BufRead) -> Result<String, Fault> {
    let mut line = Vec::new();
    // A reset also counts as an end.
    let _ = stream.read_until(b'\n', &mut line);
    if !line.ends_with(b"\n") {
        return Err(Fault::Cut);
    }
    let text = latin_1(line.strip_suffix(b"\r\n").unwrap_or(&line));
    let is_plain = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    if line.ends_with(b"\r\n") && line[..line.len() - 2].iter().all(is_plain) {
        Ok(text)
    } else {
        Err(Fault::unclean("an odd line", &text))
    }
}

fn exactly(stream: &mut impl BufRead, length: usize) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    let read = stream.take(length as u64).read_to_end(&mut bytes);
    if read.is_ok() && bytes.len() == length {
        Ok(latin_1(&bytes))
    } else {
        Err(Fault::Cut)
    }
}
