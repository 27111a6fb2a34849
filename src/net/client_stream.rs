//! A client's connection: TCP, a Unix socket, or TLS over either.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// A client's connection, as the byte-level exchange uses it.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin {
    /// The TCP connection, if HTTP runs directly on it.
    fn tcp(&self) -> Option<&TcpStream>;
}

impl ClientStream for TcpStream {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl ClientStream for UnixStream {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientStream for TlsStream<S> {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}
