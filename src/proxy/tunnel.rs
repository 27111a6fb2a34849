//! Requests that leave HTTP: WebSocket and other upgrades, tunnelled byte for byte
//! ([RFC 9110 §7.8]).
//!
//! [RFC 9110 §7.8]: https://www.rfc-editor.org/rfc/rfc9110#section-7.8

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::UpstreamBody;
use super::error::Error;
use super::pool::{self, Lease, Pool};
use super::request_body::RequestBody;
use super::upstream::Upstream;

/// Sends a request that asks for an upgrade, on a connection of its own, and carries bytes both
/// ways once both ends have switched.
pub(super) async fn send(
    pool: &Pool,
    upstreams: &[Arc<Upstream>],
    client: OnUpgrade,
    request: impl FnOnce(&Upstream) -> Request<RequestBody>,
) -> Result<Response<UpstreamBody>, Error> {
    let (lease, stream) = pool.open(upstreams).await?;
    let request = request(lease.upstream());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| pool::from_hyper(error, lease.upstream()))?;
    tokio::task::spawn_local(connection.with_upgrades());
    let limit = lease.upstream().settings.timeouts.response_head;
    let mut response = tokio::time::timeout(limit, sender.send_request(request))
        .await
        .map_err(|_| Error::ResponseHeadTimeout {
            upstream: lease.upstream().to_string(),
        })?
        .map_err(|error| pool::from_hyper(error, lease.upstream()))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upstream = hyper::upgrade::on(&mut response);
        tokio::task::spawn_local(carry(client, upstream, lease.share()));
    }
    Ok(response.map(|body| UpstreamBody::new(body, None, lease)))
}

async fn carry(client: OnUpgrade, upstream: OnUpgrade, lease: Lease) {
    let ends = match tokio::try_join!(client, upstream) {
        Ok(ends) => ends,
        Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
    };
    let (mut client, mut upstream) = (TokioIo::new(ends.0), TokioIo::new(ends.1));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
        tracing::debug!(%error, "a tunnel broke off");
    }
    drop(lease);
}
