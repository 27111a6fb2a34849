//! Sends a request with a header map to a route's upstreams until one responds. This is the only
//! place that decides whether such a request may be sent again; `proxy::carry_out` decides for
//! byte-level exchanges.
//!
//! An upstream may close a kept-alive connection just as it is used again. If nothing of the
//! request was sent, or it is idempotent and has no body, it is sent once more on another
//! connection ([RFC 9110 §9.2.2], [RFC 9112 §9.3.1]).
//!
//! [RFC 9110 §9.2.2]: https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2
//! [RFC 9112 §9.3.1]: https://www.rfc-editor.org/rfc/rfc9112#section-9.3.1

use std::sync::Arc;

use http::{Response, request};

use crate::metrics::RetryReason;
use crate::routing::client::Client;
use crate::routing::snapshot::Route;
use crate::upstream::error::Error;
use crate::upstream::pool::{Ready, Tries};
use crate::upstream::request_body::RequestBody;

use super::Proxy;
use super::http1_client::send::Http1Request;
use super::no_response::{Fate, NoResponse};
use super::response_body::Body;

impl Proxy {
    /// Sends a request to the upstream that `UpstreamState::rank` puts first, and if connecting
    /// fails, to the next one. Returns the last error.
    pub(super) async fn send(
        &self,
        route: &Route,
        request: &request::Parts,
        client: Client,
        mut body: RequestBody,
    ) -> Result<Response<Body>, Error> {
        let (pool, upstreams) = (&self.pool, &route.upstreams);
        let is_repeatable = body.is_empty() && request.method.is_idempotent();
        let counts = route.metrics.counts(self.worker);
        let mut tries = Tries::of(client.counted(), counts);
        let mut idle = pool
            .idle_http1(upstreams, client.counted())
            .map(|(in_flight, conn)| (in_flight, Ready::Http1(conn)));
        loop {
            let (in_flight, ready) = match idle.take() {
                Some(ready) => ready,
                // Boxed, like everything rare here: a request's future is moved and kept for each
                // connection, so rarely needed state should not be part of it.
                None => Box::pin(pool.checkout(upstreams, &mut tries)).await?,
            };
            let (failed, shared) = match ready {
                Ready::Http1(conn) => {
                    let request = Http1Request {
                        parts: request,
                        route,
                        wants_upgrade: false,
                    };
                    let sent = self.http1_exchange(request, body, in_flight, conn);
                    match sent.await {
                        Ok(response) => return Ok(response),
                        Err(failed) => (failed, None),
                    }
                }
                Ready::Http2 { connection, reused } => {
                    let number = connection.number;
                    let sent =
                        self.http2_exchange(route, request, body, in_flight, connection, reused);
                    match Box::pin(sent).await {
                        Ok(response) => return Ok(response),
                        Err(failed) => (failed, Some(number)),
                    }
                }
            };
            let NoResponse {
                fate,
                error,
                body: left,
                was_reused,
                in_flight,
            } = *failed;
            let upstream = Arc::clone(in_flight.upstream());
            let may_repeat = match fate {
                Fate::Unsent => was_reused,
                // Only once on a shared connection, because the request itself may be what ends
                // them.
                Fate::Cut => was_reused && is_repeatable && !(shared.is_some() && tries.was_stale),
                Fate::Refused { .. } => !tries.was_refused,
                Fate::Unknown => false,
            };
            // A reused connection that was closed is not the upstream's fault.
            if !(was_reused && matches!(fate, Fate::Unsent | Fate::Cut)) {
                in_flight.failed(&error);
            }
            let Some(left) = left.filter(|_| may_repeat) else {
                return Err(error);
            };
            let is_retired = match fate {
                Fate::Refused { ends } => ends,
                Fate::Unsent | Fate::Cut | Fate::Unknown => true,
            };
            if let Some(number) = shared.filter(|_| is_retired) {
                pool.retire_http2(&upstream, number);
            }
            counts.retry(match fate {
                Fate::Refused { .. } => RetryReason::Refused,
                Fate::Unsent | Fate::Cut | Fate::Unknown => RetryReason::Closed,
            });
            match (fate, shared) {
                (Fate::Refused { .. }, _) => tries.was_refused = true,
                // All requests on the closed connection share the next one.
                (_, Some(_)) if !tries.was_stale => tries.was_stale = true,
                (_, _) => tries.stale.push(upstream.id),
            }
            drop(in_flight);
            body = left;
        }
    }
}
