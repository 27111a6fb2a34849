//! Requests that leave HTTP: WebSocket and other upgrades, tunnelled byte for byte
//! ([RFC 9110 §7.8]).
//!
//! [RFC 9110 §7.8]: https://www.rfc-editor.org/rfc/rfc9110#section-7.8

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::balance::{Lease, Seat};
use super::body::UpstreamBody;
use super::error::Error;
use super::hyper_client::{self, await_head};
use super::interim::Interim;
use super::pool::Pool;
use super::request_body::RequestBody;
use super::stream::Stream;
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
    mut request: Request<RequestBody>,
    address: impl Fn(&mut Request<RequestBody>, &Upstream, Version),
) -> Result<Response<UpstreamBody>, Error> {
    let (lease, stream, seat) = pool.open(upstreams).await?;
    address(&mut request, lease.upstream(), Version::HTTP_11);
    match exchange(&lease, stream, seat, request).await {
        Ok((mut response, seat)) => {
            lease.answered();
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let upstream = hyper::upgrade::on(&mut response);
                tunnels.spawn(carry(client, upstream, lease.share(), seat));
            }
            Ok(response.map(|body| UpstreamBody::new(body, None, lease)))
        }
        Err(error) => {
            lease.failed(&error);
            Err(error)
        }
    }
}

async fn exchange(
    lease: &Lease,
    stream: Stream,
    seat: Seat,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Rc<Seat>), Error> {
    let upstream = lease.upstream();
    let from_hyper = |error| hyper_client::from_hyper(error, upstream);
    let handshake = hyper_client::http1_builder(upstream).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(from_hyper)?;
    let seat = Rc::new(seat);
    let held = Rc::clone(&seat);
    tokio::task::spawn_local(async move {
        // What fails here fails the response or the tunnel.
        let _ = connection.with_upgrades().await;
        drop(held);
    });
    let interim = Interim::watch(&mut request);
    let progress = request.body().begin();
    let answered = sender.send_request(request);
    let response = await_head(answered, &interim, progress.as_deref(), upstream).await?;
    let response = response.map_err(from_hyper)?;
    hyper_client::check(&response, upstream, true)?;
    Ok((response, seat))
}

async fn carry(client: OnUpgrade, upstream: OnUpgrade, lease: Lease, seat: Rc<Seat>) {
    let ends = match tokio::try_join!(client, upstream) {
        Ok(ends) => ends,
        Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
    };
    let (mut client, mut upstream) = (TokioIo::new(ends.0), TokioIo::new(ends.1));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
        tracing::debug!(%error, "a tunnel broke off");
    }
    drop((lease, seat));
}
