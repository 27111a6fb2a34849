//! Requests that leave HTTP: WebSocket and other upgrades, tunnelled byte for byte
//! ([RFC 9110 §7.8]).
//!
//! [RFC 9110 §7.8]: https://www.rfc-editor.org/rfc/rfc9110#section-7.8

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::balance::{Lease, Seat};
use super::body::UpstreamBody;
use super::error::Error;
use super::hyper_client::{self, await_head};
use super::interim::Interim;
use super::pool::Pool;
use super::request_body::RequestBody;
use super::stream::Stream;
use super::upstream::Upstream;

/// Sends a request that asks for an upgrade, on a connection of its own, and carries bytes both
/// ways once both ends have switched.
pub(super) async fn send(
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
                tokio::task::spawn_local(carry(client, upstream, lease.share(), seat));
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
    // Clients' sockets have it from those that accept them.
    stream.keep_alive().map_err(|source| Error::Connect {
        upstream: upstream.to_string(),
        source,
    })?;
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
