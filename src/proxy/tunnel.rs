//! A connection that has switched protocols, as the body of a response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};

use crate::upstream::balance::InFlight;
use crate::upstream::endpoint::Upstream;
use crate::upstream::http1_conn::Http1Conn;

/// The upstream's side of a tunnel.
pub struct Tunnel {
    pub(crate) end: TunnelEnd,
    /// What the upstream sent right after its response.
    pub(crate) first: Bytes,
    pub(crate) in_flight: InFlight,
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
    pub async fn carry<C: AsyncRead + AsyncWrite + Unpin>(self, mut client: C) {
        let Self {
            end,
            first,
            in_flight,
        } = self;
        let carried = async {
            client.write_all(&first).await?;
            client.flush().await?;
            match end {
                TunnelEnd::Connection(mut conn) => {
                    copy_bidirectional(&mut client, &mut conn.stream).await
                }
                TunnelEnd::Stream(mut stream) => copy_bidirectional(&mut client, &mut stream).await,
            }
        };
        if let Err(error) = carried.await {
            tracing::debug!(%error, "tunnel interrupted");
        }
        drop(in_flight);
    }
}
