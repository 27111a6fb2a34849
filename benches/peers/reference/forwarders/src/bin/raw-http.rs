//! The minimum cost of HTTP/1.1 and CORS on tokio: heads are parsed in the read buffer and copied
//! into one write, and idle connections hold no buffers. Not a product: it trusts both sides,
//! supports only bodies with a `Content-Length`, and has no time limits. `--splice` moves large
//! bodies between plain sockets in the kernel.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

const MAX_HEAD: usize = 16 * 1024;
const CHUNK: usize = 512 * 1024;
/// Bodies of at least this many bytes are spliced.
const BIG: u64 = 64 * 1024;

struct Forwarder {
    upstream: SocketAddr,
    splices: bool,
    idle: RefCell<Vec<TcpStream>>,
    buffers: RefCell<Vec<Buffers>>,
}

#[derive(Default)]
struct Buffers {
    read: Vec<u8>,
    written: Vec<u8>,
}

trait Client: AsyncRead + AsyncWrite + Unpin {
    /// The socket, if no TLS is in between.
    fn plain(&self) -> Option<&TcpStream>;
}

impl Client for TcpStream {
    fn plain(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl Client for TlsStream<TcpStream> {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }
}

/// A head that was read and rewritten.
#[derive(Default)]
struct Head {
    /// Its length in bytes.
    length: usize,
    body: u64,
    closes: bool,
    is_options: bool,
    names_method: bool,
    origin: Option<Vec<u8>>,
    names: Option<Vec<u8>>,
}

impl Forwarder {
    async fn serve(self: Rc<Self>, mut client: impl Client) -> io::Result<()> {
        let mut carried = Vec::new();
        loop {
            if let (true, Some(socket)) = (carried.is_empty(), client.plain()) {
                socket.readable().await?;
            }
            let mut buffers = self.buffers.borrow_mut().pop().unwrap_or_default();
            let result = self.exchange(&mut client, &mut buffers, &mut carried).await;
            self.buffers.borrow_mut().push(buffers);
            result?;
        }
    }

    /// One request and its response. `carried` is what was read beyond a message.
    async fn exchange(
        &self,
        client: &mut impl Client,
        Buffers { read, written }: &mut Buffers,
        carried: &mut Vec<u8>,
    ) -> io::Result<()> {
        read.clear();
        read.append(carried);
        let request = receive(client, read, written, Head::of_request).await?;
        let allowed = request
            .origin
            .as_deref()
            .filter(|origin| forwarders::is_allowed(origin));
        if request.is_options && request.names_method && request.origin.is_some() {
            preflight(written, allowed, request.names.as_deref());
            carried.extend_from_slice(&read[request.length..]);
            return client.write_all(written).await;
        }
        written.extend_from_slice(b"\r\n");
        let mut server = self.connect().await?;
        let rest = body_start(&request, read, written);
        carried.extend_from_slice(&read[request.length + rest..]);
        server.write_all(written).await?;
        let left = request.body - rest as u64;
        match client.plain() {
            Some(socket) if self.splices && left > BIG => splice(socket, &server, left).await?,
            _ => copy(client, &mut server, left).await?,
        }

        read.clear();
        let response = receive(&mut server, read, written, Head::of_response).await?;
        if let Some(origin) = allowed {
            field(written, "access-control-allow-origin", origin);
            field(written, "access-control-allow-credentials", b"true");
            field(
                written,
                "access-control-expose-headers",
                forwarders::EXPOSED.as_bytes(),
            );
        }
        written.extend_from_slice(b"vary: Origin\r\n\r\n");
        let rest = body_start(&response, read, written);
        client.write_all(written).await?;
        let left = response.body - rest as u64;
        match client.plain() {
            Some(socket) if self.splices && left > BIG => splice(&server, socket, left).await?,
            _ => copy(&mut server, client, left).await?,
        }
        if !response.closes {
            self.idle.borrow_mut().push(server);
        }
        Ok(())
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        if let Some(idle) = self.idle.borrow_mut().pop() {
            return Ok(idle);
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Reads a complete head and writes it to `written` without its last line.
async fn receive(
    from: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
    written: &mut Vec<u8>,
    parse: fn(&[u8], &mut Vec<u8>) -> io::Result<Option<Head>>,
) -> io::Result<Head> {
    loop {
        written.clear();
        if let Some(head) = parse(read, written)? {
            return Ok(head);
        }
        if read.len() >= MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        read.reserve(MAX_HEAD);
        if from.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

impl Head {
    fn of_request(read: &[u8], written: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let mut fields = [const { MaybeUninit::uninit() }; 64];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(read, &mut fields);
        let httparse::Status::Complete(length) = parsed.map_err(io::Error::other)? else {
            return Ok(None);
        };
        let (method, path) = (
            request.method.unwrap_or_default(),
            request.path.unwrap_or_default(),
        );
        for part in [method, " ", path, " HTTP/1.1\r\n"] {
            written.extend_from_slice(part.as_bytes());
        }
        let mut head = Self {
            length,
            is_options: method == "OPTIONS",
            ..Self::default()
        };
        head.fields(request.headers, written)?;
        Ok(Some(head))
    }

    fn of_response(read: &[u8], written: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let mut fields = [const { MaybeUninit::uninit() }; 64];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, read, &mut fields);
        let httparse::Status::Complete(length) = parsed.map_err(io::Error::other)? else {
            return Ok(None);
        };
        // The status line, with only the version changed.
        let code = response.code.unwrap_or_default();
        let digits = [code / 100, code / 10 % 10, code % 10].map(|digit| b'0' + digit as u8);
        let reason = response.reason.unwrap_or_default().as_bytes();
        for part in [b"HTTP/1.1 ", &digits[..], b" ", reason, b"\r\n"] {
            written.extend_from_slice(part);
        }
        let mut head = Self {
            length,
            ..Self::default()
        };
        head.fields(response.headers, written)?;
        Ok(Some(head))
    }

    fn fields(&mut self, fields: &[httparse::Header<'_>], written: &mut Vec<u8>) -> io::Result<()> {
        for httparse::Header { name, value } in fields {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            match name.len() {
                2 if is("te") => continue,
                6 if is("origin") => self.origin = Some(value.to_vec()),
                7 if is("upgrade") => continue,
                10 if is("connection") => {
                    self.closes = value.eq_ignore_ascii_case(b"close");
                    continue;
                }
                10 if is("keep-alive") => continue,
                14 if is("content-length") => self.body = number(value)?,
                17 if is("transfer-encoding") => return Err(io::ErrorKind::Unsupported.into()),
                29 if is("access-control-request-method") => self.names_method = true,
                30 if is("access-control-request-headers") => self.names = Some(value.to_vec()),
                _ => {}
            }
            field(written, name, value);
        }
        Ok(())
    }
}

fn preflight(written: &mut Vec<u8>, allowed: Option<&[u8]>, names: Option<&[u8]>) {
    written.clear();
    let Some(origin) = allowed else {
        written.extend_from_slice(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        return;
    };
    written.extend_from_slice(b"HTTP/1.1 204 No Content\r\n");
    field(written, "access-control-allow-origin", origin);
    field(
        written,
        "access-control-allow-methods",
        forwarders::METHODS.as_bytes(),
    );
    if let Some(names) = names {
        field(written, "access-control-allow-headers", names);
    }
    field(written, "access-control-allow-credentials", b"true");
    field(written, "access-control-max-age", b"3000");
    field(written, "vary", forwarders::VARY_PREFLIGHT.as_bytes());
    written.extend_from_slice(b"\r\n");
}

fn field(written: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        written.extend_from_slice(part);
    }
}

fn number(value: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(value).map_err(io::Error::other)?;
    text.trim().parse().map_err(io::Error::other)
}

/// Adds the part of a body that came with its head; returns its length.
fn body_start(head: &Head, read: &[u8], written: &mut Vec<u8>) -> usize {
    let there = &read[head.length..];
    let length = there
        .len()
        .min(usize::try_from(head.body).unwrap_or(usize::MAX));
    written.extend_from_slice(&there[..length]);
    length
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    length: u64,
) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    let mut buffer = vec![0; CHUNK.min(usize::try_from(length).unwrap_or(CHUNK))];
    let mut left = length;
    while left > 0 {
        let wanted = left.min(buffer.len() as u64) as usize;
        let got = from.read(&mut buffer[..wanted]).await?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&buffer[..got]).await?;
        left -= got as u64;
    }
    Ok(())
}

/// Moves bytes through a pipe in the kernel (splice(2)).
async fn splice(from: &TcpStream, to: &TcpStream, length: u64) -> io::Result<()> {
    const PIPE: i32 = 1 << 20;
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors, which this function then owns.
    let (output, input) = unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error());
        }
        // If the size is refused, the default remains.
        libc::fcntl(ends[1], libc::F_SETPIPE_SZ, PIPE);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    let mut left = length;
    while left > 0 {
        let wanted = left.min(PIPE as u64) as usize;
        let fill = || splice_once(from, &input, wanted);
        let mut in_pipe = from.async_io(Interest::READABLE, fill).await?;
        if in_pipe == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= in_pipe as u64;
        while in_pipe > 0 {
            let empty = || splice_once(&output, to, in_pipe);
            in_pipe -= to.async_io(Interest::WRITABLE, empty).await?;
        }
    }
    Ok(())
}

fn splice_once(from: &impl AsRawFd, to: &impl AsRawFd, length: usize) -> io::Result<usize> {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    let (null, flags) = (
        std::ptr::null_mut(),
        libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE,
    );
    // SAFETY: plain descriptors, no offsets.
    let moved = unsafe { libc::splice(from, null, to, null, length, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

async fn worker() {
    let forwarder = Rc::new(Forwarder {
        upstream: forwarders::upstream(),
        splices: forwarders::flag("--splice"),
        idle: RefCell::default(),
        buffers: RefCell::default(),
    });
    let plain = forwarders::accept_each("--listen", |stream| {
        tokio::task::spawn_local(Rc::clone(&forwarder).serve(stream));
    });
    let tls = async {
        let Some(config) = forwarders::tls(&[b"http/1.1"]) else {
            return;
        };
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let accept = |stream| {
            let (forwarder, handshake) = (Rc::clone(&forwarder), acceptor.accept(stream));
            tokio::task::spawn_local(async move {
                if let Ok(stream) = handshake.await {
                    let _ = forwarder.serve(stream).await;
                }
            });
        };
        forwarders::accept_each("--tls-listen", accept).await;
    };
    tokio::join!(plain, tls);
}

fn main() {
    forwarders::on_each_core(worker);
}
