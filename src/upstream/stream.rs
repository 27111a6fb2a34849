//! A connection to an upstream: TCP, a Unix socket, or TLS over TCP.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::net::descriptor_reserve::{is_about_descriptors, outside_reserve};
use crate::net::keep_alive;
use crate::tls::advice;

use super::endpoint::{Address, TlsConfig, Upstream};
use super::error::Error;
use super::lifetime::Lifetime;
use super::resolver::{Resolution, ResolvedAddress, Resolver};

/// Time between attempts to connect to the addresses of one name (RFC 8305 §8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How long connecting may take before the name is also resolved again: an address that the name no
/// longer has may not even refuse connections.
const SLOW_CONNECT: Duration = Duration::from_secs(1);

/// A connection to an upstream.
pub(crate) struct UpstreamStream {
    transport: Transport,
    pub(crate) lifetime: Lifetime,
}

enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl UpstreamStream {
    /// Connects within the upstream's time limit.
    pub(crate) async fn connect(upstream: &Upstream) -> Result<Self, Error> {
        Self::connect_with(upstream, upstream.tls_config()).await
    }

    /// Likewise, offering only HTTP/1.1 in TLS.
    pub(crate) async fn connect_for_http1(upstream: &Upstream) -> Result<Self, Error> {
        Self::connect_with(upstream, upstream.tls_config_for_http1()).await
    }

    async fn connect_with(upstream: &Upstream, tls: Option<TlsConfig>) -> Result<Self, Error> {
        let limit = upstream.settings.timeouts.connect;
        match tokio::time::timeout(limit, Self::open(upstream, tls)).await {
            Ok(result) => result,
            Err(_) => Err(Error::ConnectTimeout {
                upstream: upstream.to_string(),
            }),
        }
    }

    async fn open(upstream: &Upstream, tls: Option<TlsConfig>) -> Result<Self, Error> {
        let connect_error = |source| {
            let upstream = upstream.to_string();
            if is_about_descriptors(&source) {
                Error::NoDescriptor { upstream, source }
            } else {
                Error::Connect { upstream, source }
            }
        };
        let dns_error = |source| match connect_error(source) {
            Error::Connect { upstream, source } => Error::Dns { upstream, source },
            shortage => shortage,
        };
        let (host, port) = match &upstream.settings.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                let stream = stream.and_then(outside_reserve).map_err(connect_error)?;
                return Ok(Self {
                    transport: Transport::Unix(stream),
                    lifetime: Lifetime::new(None),
                });
            }
            Address::Tcp { host, port } => (host.as_str(), *port),
        };
        let (tcp, resolved) = match (upstream.resolver(), host.parse()) {
            (Some(resolver), _) => {
                let answer = resolver.addresses().await.map_err(dns_error)?;
                let connected = connect_by_name(resolver, answer, port).await;
                connected.map(|(tcp, resolved)| (tcp, Some(resolved)))
            }
            (None, Ok(address)) => {
                let connected = TcpStream::connect(SocketAddr::new(address, port)).await;
                connected.map(|tcp| (tcp, None))
            }
            (None, Err(error)) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        }
        .and_then(|(tcp, resolved)| Ok((outside_reserve(tcp)?, resolved)))
        .map_err(connect_error)?;
        let lifetime = Lifetime::new(resolved);
        tcp.set_nodelay(true).map_err(connect_error)?;
        let (Some(name), Some(config)) = (&upstream.server_name, tls) else {
            return Ok(Self {
                transport: Transport::Tcp(tcp),
                lifetime,
            });
        };
        let tls_error = |source: io::Error| {
            // The address may now belong to another server.
            if let Some(resolver) = upstream.resolver() {
                resolver.suspect();
            }
            Error::Tls {
                upstream: upstream.to_string(),
                source: io::Error::other(advice::of_upstream(&source)),
            }
        };
        let config = config.map_err(|error| tls_error(io::Error::other(error)))?;
        let stream = TlsConnector::from(config)
            .connect(name.clone(), tcp)
            .await
            .map_err(tls_error)?;
        Ok(Self {
            transport: Transport::Tls(Box::new(stream)),
            lifetime,
        })
    }

    /// The local and the peer's address; `None`: not TCP, or the connection is broken.
    pub(crate) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let tcp = match &self.transport {
            Transport::Tcp(stream) => stream,
            Transport::Tls(stream) => stream.get_ref().0,
            Transport::Unix(_) => return None,
        };
        tcp.local_addr().ok().zip(tcp.peer_addr().ok())
    }

    /// The TCP connection, if HTTP runs directly on it.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match &self.transport {
            Transport::Tcp(stream) => Some(stream),
            Transport::Unix(_) | Transport::Tls(_) => None,
        }
    }

    /// Whether the system has data or the connection's end ready to read. Makes a system call; the
    /// data stays unread.
    pub(crate) fn is_readable(&self) -> bool {
        let socket = match &self.transport {
            Transport::Tcp(stream) => SockRef::from(stream),
            Transport::Unix(stream) => SockRef::from(stream),
            Transport::Tls(stream) => SockRef::from(stream.get_ref().0),
        };
        match socket.peek(&mut [MaybeUninit::uninit()]) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Enables TCP keep-alive, which detects a peer that vanished.
    pub(crate) fn keep_alive(&self) -> io::Result<()> {
        match &self.transport {
            Transport::Tcp(stream) => keep_alive::enable(SockRef::from(stream)),
            // A local peer cannot vanish silently.
            Transport::Unix(_) => Ok(()),
            Transport::Tls(stream) => keep_alive::enable(SockRef::from(stream.get_ref().0)),
        }
    }

    /// Whether the connection uses HTTP/2, by ALPN or by prior knowledge.
    pub(crate) fn speaks_http2(&self, upstream: &Upstream) -> bool {
        let is_known = match &self.transport {
            Transport::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            Transport::Tcp(_) | Transport::Unix(_) => true,
        };
        is_known && upstream.settings.http2
    }
}

/// Connects to one of the addresses in `answer`. If all fail, or none answers within
/// [`SLOW_CONNECT`], the name is resolved again, and new addresses are tried too.
async fn connect_by_name(
    resolver: &Resolver,
    answer: Arc<Resolution>,
    port: u16,
) -> io::Result<(TcpStream, ResolvedAddress)> {
    let mut known = pin!(connect_any(&answer, port));
    let failure = tokio::select! {
        biased;
        connected = &mut known => match connected {
            Ok(connected) => return Ok(connected),
            Err(error) => Some(error),
        },
        () = tokio::time::sleep(SLOW_CONNECT) => None,
    };
    let other = async {
        match resolver.other_than(&answer).await {
            Some(other) => Some(connect_any(&other, port).await),
            None => None,
        }
    };
    match failure {
        Some(failure) => other.await.unwrap_or(Err(failure)),
        None => tokio::select! {
            connected = known => connected,
            Some(Ok(connected)) = other => Ok(connected),
        },
    }
}

/// Connects to the first address that answers. Slow addresses do not delay it much: the next one is
/// tried in parallel ([RFC 8305 §5]).
///
/// [RFC 8305 §5]: https://www.rfc-editor.org/rfc/rfc8305#section-5
async fn connect_any(answer: &Resolution, port: u16) -> io::Result<(TcpStream, ResolvedAddress)> {
    let mut attempts = JoinSet::new();
    let mut left = answer.addresses.iter();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = left.next() {
            let mut address = *address;
            address.set_port(port);
            attempts.spawn_local(async move {
                let connected = TcpStream::connect(address).await;
                connected.map(|stream| (stream, address))
            });
        }
        let pause = async {
            if left.as_slice().is_empty() {
                std::future::pending().await
            } else {
                tokio::time::sleep(ATTEMPT_DELAY).await;
            }
        };
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = pause => continue,
        };
        match ended {
            Some(Ok(Ok((stream, address)))) => return Ok((stream, answer.resolved(address))),
            Some(Ok(Err(error))) => failure = error,
            Some(Err(error)) => failure = io::Error::other(error),
            None => return Err(failure),
        }
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().transport {
            Transport::Tcp($stream) => $call,
            Transport::Unix($stream) => $call,
            Transport::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Unix(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    /// Loopback delivers at once, so the test need not wait.
    #[test]
    fn data_is_seen_before_the_runtime_knows_of_it() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_io().build().unwrap();
        runtime.block_on(async {
            for (sent, closes) in [(&b"x"[..], false), (b"", true), (b"x", true)] {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (mut peer, _) = listener.accept().unwrap();
                stream.set_nonblocking(true).unwrap();
                let stream = UpstreamStream {
                    transport: Transport::Tcp(TcpStream::from_std(stream).unwrap()),
                    lifetime: Lifetime::new(None),
                };
                assert!(!stream.is_readable());
                peer.write_all(sent).unwrap();
                let _open = (!closes).then_some(peer);
                assert!(stream.is_readable(), "{sent:?} {closes}");
            }
        });
    }
}
