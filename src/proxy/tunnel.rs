//! Requests that leave HTTP: WebSocket and other upgrades, tunnelled byte for byte
//! ([RFC 9110 §7.8]).
//!
//! [RFC 9110 §7.8]: https://www.rfc-editor.org/rfc/rfc9110#section-7.8

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response, StatusCode};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::body::UpstreamBody;
use super::error::Error;
use super::pool::{self, Lease, Pool};
use super::request_body::RequestBody;
use super::upstream::Upstream;

/// One worker's tunnels.
#[derive(Debug, Default)]
pub(super) struct Tunnels(RefCell<JoinSet<()>>);

impl Tunnels {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let mut tunnels = self.0.borrow_mut();
        while tunnels.try_join_next().is_some() {}
        tunnels.len()
    }

    /// Ends when each of them has.
    pub(super) async fn ended(&self) {
        poll_fn(|cx| {
            let mut tunnels = self.0.borrow_mut();
            while let Poll::Ready(ended) = tunnels.poll_join_next(cx) {
                if ended.is_none() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }

    fn spawn(&self, tunnel: impl Future<Output = ()> + 'static) {
        self.0.borrow_mut().spawn_local(tunnel);
    }
}

/// Sends a request that asks for an upgrade, on a connection of its own, and carries bytes both
/// ways once both ends have switched.
pub(super) async fn send(
    tunnels: &Tunnels,
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
        tunnels.spawn(carry(client, upstream, lease.share()));
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
