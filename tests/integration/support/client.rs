//! A raw client: bytes in, bytes out, over one connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// An upper limit for every response: a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the proxy.
pub(crate) struct RawClient<S: Read + Write = TcpStream> {
    stream: BufReader<S>,
}

/// A response, as received.
#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
    /// Whether the body is complete.
    pub(crate) whole: bool,
}

impl RawClient {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }
}

impl<S: Read + Write> RawClient<S> {
    /// A client over any stream.
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn stream(&mut self) -> &mut S {
        self.stream.get_mut()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Reads the head and the body of the final response to a request with `method`.
    pub(crate) fn receive(&mut self, method: &str) -> RawResponse {
        let (status, headers) = loop {
            let (status, headers) = self.head();
            if !matches!(status, 100 | 102..=199) {
                break (status, headers);
            }
        };
        let mut response = RawResponse {
            status,
            headers,
            body: Vec::new(),
            trailers: HeaderMap::new(),
            whole: true,
        };
        let bodiless = method == "HEAD" || matches!(status, 100..200 | 204 | 304);
        if bodiless {
            return response;
        }
        if response.values("transfer-encoding") == ["chunked"] {
            response.whole = self.chunked(&mut response).is_some();
        } else if let Some(length) = response.values("content-length").first() {
            let mut body = vec![0; length.parse().unwrap()];
            let mut filled = 0;
            while filled < body.len() {
                match self.stream.read(&mut body[filled..]) {
                    Ok(count) if count > 0 => filled += count,
                    Ok(_) | Err(_) => break,
                }
            }
            response.whole = filled == body.len();
            body.truncate(filled);
            response.body = body;
        } else {
            response.whole = self.stream.read_to_end(&mut response.body).is_ok();
        }
        response
    }

    /// Reads the head of a response.
    pub(crate) fn head(&mut self) -> (u16, HeaderMap) {
        let status = self.line().expect("a response");
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        (status, self.fields().expect("a whole head"))
    }

    /// Reads `length` bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Whether the other side closes now, without sending more.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }

    /// The connection ends, after a response with this status at most.
    pub(crate) fn assert_ends(&mut self, status: u16) {
        let mut rest = Vec::new();
        // A reset also counts as an end; a timeout is another kind of error.
        if let Err(error) = self.stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        let rest = String::from_utf8_lossy(&rest);
        let expected = format!("HTTP/1.1 {status} ");
        assert!(rest.is_empty() || rest.starts_with(&expected), "{rest}");
        assert!(rest.matches("HTTP/1.1 ").count() <= 1, "{rest}");
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).ok()?;
        let line = line.strip_suffix(b"\r\n")?;
        Some(String::from_utf8_lossy(line).into_owned())
    }

    /// Reads fields up to the empty line; `None` if it breaks off.
    pub(crate) fn fields(&mut self) -> Option<HeaderMap> {
        let mut fields = HeaderMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                return Some(fields);
            };
            let name: HeaderName = name.parse().unwrap();
            fields.append(name, HeaderValue::from_str(value.trim()).unwrap());
        }
    }

    /// `None` if it breaks off.
    fn chunked(&mut self, response: &mut RawResponse) -> Option<()> {
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).ok()?;
            if size == 0 {
                response.trailers = self.fields()?;
                return Some(());
            }
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).ok()?;
            chunk.truncate(size);
            response.body.extend(chunk);
        }
    }
}

impl RawResponse {
    /// Every value of a field.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request on its own connection.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
) -> RawResponse {
    let mut request = format!("{method} {target} HTTP/1.1\r\n");
    if !fields
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        request.push_str("Host: photos.example\r\n");
    }
    for (name, value) in fields {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    RawClient::connect(address).send(request).receive(method)
}
