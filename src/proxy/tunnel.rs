//! A connection that has switched protocols, as the body of a response.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional};

use crate::metrics::{RequestInFlight, Transfer};
use crate::upstream::balance::InFlight;
use crate::upstream::endpoint::Upstream;
use crate::upstream::http1_conn::Http1Conn;

use super::counted_stream::CountedStream;

/// The upstream's side of a tunnel.
pub struct Tunnel {
    pub(crate) end: TunnelEnd,
    /// What the upstream sent right after its response.
    pub(crate) first: Bytes,
    pub(crate) in_flight: InFlight,
    /// The request that began it, which ends with it.
    pub(crate) request: Option<RequestInFlight>,
}

/// The upstream's end of a tunnel.
pub(crate) enum TunnelEnd {
    /// An HTTP/1.1 connection that has switched protocols.
    Connection(Box<Http1Conn>),
    /// An HTTP/2 stream.
    Stream(TokioIo<Upgraded>),
}

impl Tunnel {
    pub(crate) fn new(conn: Box<Http1Conn>, first: Bytes, in_flight: InFlight) -> Self {
        Self {
            end: TunnelEnd::Connection(conn),
            first,
            in_flight,
            request: None,
        }
    }

    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        self.in_flight.upstream()
    }

    /// How long the client may take to read the response that begins it.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.in_flight.upstream().settings.timeouts.body_idle
    }

    /// Carries bytes both ways until both ends have closed, or one fails.
    pub async fn carry<C: AsyncRead + AsyncWrite + Unpin>(self, client: C) {
        let Self {
            end,
            first,
            in_flight,
            request,
        } = self;
        let counts = request.as_ref().map(RequestInFlight::counts);
        let mut client = CountedStream {
            inner: client,
            counts,
            read: Transfer::ClientReceived,
            written: Transfer::ClientSent,
        };
        if let Some(counts) = counts {
            counts.bytes(Transfer::UpstreamReceived, first.len() as u64);
        }
        let carried = async {
            client.write_all(&first).await?;
            client.flush().await?;
            let mut upstream = CountedStream {
                inner: end,
                counts,
                read: Transfer::UpstreamReceived,
                written: Transfer::UpstreamSent,
            };
            copy_bidirectional(&mut client, &mut upstream).await
        };
        if let Err(error) = carried.await {
            tracing::debug!(%error, "tunnel interrupted");
        }
        drop((in_flight, request));
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            TunnelEnd::Connection(conn) => {
                let $stream = &mut conn.stream;
                $call
            }
            TunnelEnd::Stream($stream) => $call,
        }
    };
}

impl AsyncRead for TunnelEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for TunnelEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
