//! A scripted upstream that records its requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// An address that refuses connections until its socket listens: it is bound, so that no other
/// test can use it.
pub(crate) fn refusing_until_it_listens() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

/// An address that refuses connections until the process ends.
pub(crate) fn refusing() -> SocketAddr {
    let (address, socket) = refusing_until_it_listens();
    std::mem::forget(socket);
    address
}

/// A request, as the upstream received it.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// The head's bytes, with its empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Recorded {
    /// The request line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The method.
    pub(crate) fn method(&self) -> &str {
        self.line().split(' ').next().unwrap()
    }

    /// The target.
    pub(crate) fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }

    /// Every value of a field.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(named, _)| named.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

/// An upstream on its own port, until the process ends.
pub(crate) struct MockUpstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Recorded>>>,
    connections: Arc<Mutex<usize>>,
    arrivals: Mutex<Receiver<()>>,
}

/// The upstream's side of one exchange.
pub(crate) struct Exchange<'a> {
    pub(crate) request: Recorded,
    pub(crate) stream: &'a mut BufReader<TcpStream>,
}

impl Exchange<'_> {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The proxy may have left, which the test notices.
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// Whether the proxy still reads.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// Reads the unread body of `length` bytes.
    pub(crate) fn read(&mut self, length: usize) -> Vec<u8> {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        body
    }
}

impl MockUpstream {
    /// Responds to each request, read with its body, with these bytes.
    pub(crate) fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::scripted(true, move |exchange| {
            exchange.send(&response);
            true
        })
    }

    /// Responds as `script` says, which returns whether the connection continues. With
    /// `read_body`, the script also gets the body.
    pub(crate) fn scripted(
        read_body: bool,
        script: impl Fn(&mut Exchange<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), read_body, script)
    }

    /// The same on an existing listener.
    pub(crate) fn on(
        listener: TcpListener,
        read_body: bool,
        script: impl Fn(&mut Exchange<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (arrived, arrivals) = mpsc::channel();
        let (script, record, count) = (
            Arc::new(script),
            Arc::clone(&seen),
            Arc::clone(&connections),
        );
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *count.lock().unwrap() += 1;
                let (script, record, arrived) =
                    (Arc::clone(&script), Arc::clone(&record), arrived.clone());
                thread::spawn(move || serve(stream, read_body, &*script, &record, &arrived));
            }
        });
        Self {
            address,
            seen,
            connections,
            arrivals: Mutex::new(arrivals),
        }
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request that was received.
    pub(crate) fn request(&self) -> Recorded {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests[0].clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// Waits for the head of another request.
    pub(crate) fn wait_for_request(&self) {
        let arrivals = self.arrivals.lock().unwrap();
        arrivals.recv_timeout(Duration::from_secs(20)).unwrap();
    }
}

fn serve(
    stream: TcpStream,
    read_body: bool,
    script: &dyn Fn(&mut Exchange<'_>) -> bool,
    record: &Mutex<Vec<Recorded>>,
    arrived: &Sender<()>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = head(&mut stream) {
        let _ = arrived.send(());
        if read_body {
            request.body = body(&request, &mut stream);
        }
        record.lock().unwrap().push(request.clone());
        let mut exchange = Exchange {
            request,
            stream: &mut stream,
        };
        if !script(&mut exchange) {
            return;
        }
    }
}

fn head(stream: &mut BufReader<TcpStream>) -> Option<Recorded> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    Some(Recorded {
        head: String::from_utf8(head).unwrap(),
        body: Vec::new(),
    })
}

fn body(request: &Recorded, stream: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some(length) = request.values("content-length").first() {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body).unwrap();
    } else if request.values("transfer-encoding") == ["chunked"] {
        // Unparsed: tests check sizes, extensions and trailers.
        while !(body.ends_with(b"\r\n\r\n")
            && (body.starts_with(b"0") || body.windows(5).any(|five| five == b"\r\n0\r\n")))
        {
            if stream.read_until(b'\n', &mut body).unwrap() == 0 {
                break;
            }
        }
    }
    body
}
