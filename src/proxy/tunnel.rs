//! Requests that leave HTTP: WebSocket and other upgrades, carried byte for byte ([RFC 9110 §7.8]).
//!
//! [RFC 9110 §7.8]: https://www.rfc-editor.org/rfc/rfc9110#section-7.8

use std::rc::Weak;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, request};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::Proxy;
use super::balance::Lease;
use super::body::Body;
use super::error::Error;
use super::http1_client::Http1Request;
use super::lane::Raw;
use super::request_body::RequestBody;
use super::snapshot::Route;
use super::upstream::Upstream;

/// The upstream's side of a tunnel: a connection that has left HTTP.
pub struct Tunnel {
    raw: Raw,
    /// What the upstream sent right after its response.
    first: Bytes,
    lease: Lease,
}

impl Tunnel {
    pub(super) fn new(raw: Raw, first: Bytes, lease: Lease) -> Self {
        Self { raw, first, lease }
    }

    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        self.lease.upstream()
    }

    /// How long the client may take to read the response that begins it.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.lease.upstream().settings.timeouts.body_idle
    }

    /// Carries bytes both ways until both ends have ended, or one fails.
    pub async fn carry<C: AsyncRead + AsyncWrite + Unpin>(self, mut client: C) {
        let Self {
            mut raw,
            first,
            lease,
        } = self;
        let carried = async {
            client.write_all(&first).await?;
            client.flush().await?;
            tokio::io::copy_bidirectional(&mut client, &mut raw.stream).await
        };
        if let Err(error) = carried.await {
            tracing::debug!(%error, "a tunnel broke off");
        }
        drop(lease);
    }
}

impl Proxy {
    /// Sends a request that asks to leave HTTP, on a connection of its own. If the upstream
    /// agrees, the response's body is a [`Tunnel`].
    pub(super) async fn send_upgrade(
        &self,
        route: &Route,
        request: &request::Parts,
        body: RequestBody,
    ) -> Result<Response<Body>, Error> {
        let (lease, stream, seat) = self.pool.open(&route.upstreams).await?;
        // Nothing may be said on it for long. Clients' sockets have it from those that accept them.
        stream.keep_alive().map_err(|source| Error::Connect {
            upstream: lease.upstream().to_string(),
            source,
        })?;
        let raw = Raw::new(stream, Weak::new(), seat);
        let request = Http1Request {
            parts: request,
            route,
            wants_upgrade: true,
        };
        let sent = self.http1_exchange(request, body, lease, raw);
        sent.await.map_err(|failed| {
            failed.lease.failed(&failed.error);
            failed.error
        })
    }
}
