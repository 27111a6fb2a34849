//! A connection to an upstream: TCP, a Unix socket, or TLS over TCP.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::Error;
use super::keep_alive;
use super::upstream::{Address, TlsConfig, Upstream};

/// Between two attempts to connect to the addresses of one name (RFC 8305 §8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A connection to an upstream.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects, within the upstream's time.
    pub(super) async fn connect(upstream: &Upstream) -> Result<Self, Error> {
        Self::connect_with(upstream, upstream.tls_config()).await
    }

    /// The same for HTTP/1.1, which TLS offers alone.
    pub(super) async fn connect_for_http1(upstream: &Upstream) -> Result<Self, Error> {
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
                return UnixStream::connect(path)
                    .await
                    .map(Self::Unix)
                    .map_err(connect_error);
            }
            Address::Tcp { host, port } => (host.as_str(), *port),
        };
        let tcp = match host.parse() {
            Ok(address) => TcpStream::connect(SocketAddr::new(address, port)).await,
            Err(_) => {
                let addresses = upstream.names.addresses(host, port).await;
                connect_any(&addresses.map_err(dns_error)?).await
            }
        }
        .map_err(connect_error)?;
        tcp.set_nodelay(true).map_err(connect_error)?;
        let (Some(name), Some(config)) = (&upstream.server_name, tls) else {
            return Ok(Self::Tcp(tcp));
        };
        let tls_error = |source| Error::Tls {
            upstream: upstream.to_string(),
            source,
        };
        let config = config.map_err(|error| tls_error(io::Error::other(error)))?;
        TlsConnector::from(config)
            .connect(name.clone(), tcp)
            .await
            .map(|stream| Self::Tls(Box::new(stream)))
            .map_err(tls_error)
    }

    /// The TCP connection, where there is nothing else on it.
    pub(super) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) | Self::Tls(_) => None,
        }
    }

    /// Whether the other side has closed it, as far as the system knows; asks by a system call. What
    /// there is to be read stays there.
    pub(super) fn is_closed(&self) -> bool {
        let socket = match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0),
        };
        match socket.peek(&mut [MaybeUninit::uninit()]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Has the system find out when the other side is gone without a word.
    pub(super) fn keep_alive(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => keep_alive::ask_now_and_then(SockRef::from(stream)),
            // Who shares a system with us does not go without a word.
            Self::Unix(_) => Ok(()),
            Self::Tls(stream) => keep_alive::ask_now_and_then(SockRef::from(stream.get_ref().0)),
        }
    }

    /// Whether HTTP/2 is spoken: the handshake agreed on it, or it is known without one.
    pub(super) fn speaks_http2(&self, upstream: &Upstream) -> bool {
        let is_known = match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            Self::Tcp(_) | Self::Unix(_) => true,
        };
        is_known && upstream.settings.http2
    }
}

/// Whether this process, or the whole system, has as many files open as it may.
pub(super) fn is_about_descriptors(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// Connects to whichever address answers first. One that does not answer holds nobody up for long:
/// the next one is tried beside it, as [RFC 8305 §5] has it.
///
/// [RFC 8305 §5]: https://www.rfc-editor.org/rfc/rfc8305#section-5
async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut left = addresses.iter();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = left.next() {
            attempts.spawn_local(TcpStream::connect(*address));
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
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => failure = error,
            Some(Err(error)) => failure = io::Error::other(error),
            None => return Err(failure),
        }
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $call,
            Self::Unix($stream) => $call,
            Self::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
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
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
