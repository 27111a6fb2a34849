//! A connection to an upstream: TCP, a Unix socket, or TLS over TCP.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::Error;
use super::upstream::{Address, Upstream};

/// A connection to an upstream.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects, within the upstream's time.
    pub(super) async fn connect(upstream: &Upstream) -> Result<Self, Error> {
        let limit = upstream.settings.timeouts.connect;
        match tokio::time::timeout(limit, Self::open(upstream)).await {
            Ok(result) => result,
            Err(_) => Err(Error::ConnectTimeout {
                upstream: upstream.to_string(),
            }),
        }
    }

    async fn open(upstream: &Upstream) -> Result<Self, Error> {
        let connect_error = |source| Error::Connect {
            upstream: upstream.to_string(),
            source,
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
            Ok(address) => TcpStream::connect(std::net::SocketAddr::new(address, port)).await,
            Err(_) => {
                let addresses: Vec<_> = tokio::net::lookup_host((host, port))
                    .await
                    .map_err(|source| Error::Dns {
                        upstream: upstream.to_string(),
                        source,
                    })?
                    .collect();
                TcpStream::connect(&addresses[..]).await
            }
        }
        .map_err(connect_error)?;
        tcp.set_nodelay(true).map_err(connect_error)?;
        let Some(name) = &upstream.server_name else {
            return Ok(Self::Tcp(tcp));
        };
        let tls_error = |source| Error::Tls {
            upstream: upstream.to_string(),
            source,
        };
        let config = client_config(upstream.settings.http2).map_err(tls_error)?;
        TlsConnector::from(config)
            .connect(name.clone(), tcp)
            .await
            .map(|stream| Self::Tls(Box::new(stream)))
            .map_err(tls_error)
    }

    /// Whether the handshake agreed on HTTP/2.
    pub(super) fn negotiated_http2(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }
}

/// TLS to upstreams trusts what the platform trusts.
fn client_config(http2: bool) -> io::Result<Arc<ClientConfig>> {
    static HTTP1: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    static HTTP2: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let cell = if http2 { &HTTP2 } else { &HTTP1 };
    if let Some(config) = cell.get() {
        return Ok(Arc::clone(config));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(io::Error::other)?
        .with_no_client_auth();
    config.alpn_protocols = if http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(Arc::clone(cell.get_or_init(|| Arc::new(config))))
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
