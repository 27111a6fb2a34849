//! Requests that switch protocols: WebSocket and other upgrades, carried byte for byte ([RFC 9110
//! §7.8]).
//!
//! [RFC 9110 §7.8]: https://www.rfc-editor.org/rfc/rfc9110#section-7.8

use std::rc::Weak;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_KEY;
use http::{Method, Request, Response, StatusCode, request};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;

use crate::routing::client::Client;
use crate::routing::snapshot::Route;
use crate::upstream::error::{Error, from_hyper};
use crate::upstream::http1_conn::Http1Conn;
use crate::upstream::pool::{Ready, Tries};
use crate::upstream::replay_body::ReplayBody;
use crate::upstream::request_body::RequestBody;

use super::http1_client::send::Http1Request;
use super::response_body::{Body, UpstreamBody};
use super::tunnel::{Tunnel, TunnelEnd};
use super::{Proxy, header_map, http2_client};

impl Proxy {
    /// Sends a WebSocket handshake to an HTTP/2 upstream, as an extended CONNECT, the form it
    /// arrived in ([RFC 8441 §4]). If the upstream agrees, the response's body is a [`Tunnel`].
    ///
    /// [RFC 8441 §4]: https://www.rfc-editor.org/rfc/rfc8441#section-4
    pub(crate) async fn send_extended_connect(
        &self,
        route: &Route,
        request: &request::Parts,
        client: Client,
    ) -> Result<Response<Body>, Error> {
        let counts = route.metrics.counts(self.worker);
        let mut tries = Tries::of(client.counted(), counts);
        let (in_flight, ready) = self.pool.checkout(&route.upstreams, &mut tries).await?;
        let upstream = Arc::clone(in_flight.upstream());
        let failed = |error: Error| {
            in_flight.failed(&error);
            error
        };
        let unacceptable = |what: &'static str| Error::Unacceptable {
            upstream: upstream.to_string(),
            what: what.into(),
        };
        let mut connection = match ready {
            Ready::Http2 { connection, .. } if connection.connect.is_made().await => connection,
            Ready::Http1(_) | Ready::Http2 { .. } => {
                let what = "SETTINGS without extended CONNECT, which WebSocket over HTTP/2 needs";
                return Err(unacceptable(what));
            }
        };
        let (body, _) = ReplayBody::lend(RequestBody::EMPTY);
        let mut connect = Request::from_parts(request.clone(), body);
        *connect.method_mut() = Method::CONNECT;
        connect.headers_mut().remove(SEC_WEBSOCKET_KEY);
        let protocol = Protocol::from_static("websocket");
        connect.extensions_mut().insert(protocol);
        header_map::to_http2(&mut connect, &upstream, route.host_header);
        let limit = upstream.settings.timeouts.response_head;
        let asked = Instant::now();
        let sent = tokio::time::timeout(limit, connection.sender.send_request(connect));
        let response = match sent.await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failed(from_hyper(error, &upstream))),
            Err(_) => {
                let upstream = upstream.to_string();
                return Err(failed(Error::ResponseHeadTimeout { upstream }));
            }
        };
        http2_client::check(&response, &upstream).map_err(failed)?;
        in_flight.answered();
        counts.first_byte(asked.elapsed());
        if response.status() == StatusCode::OK {
            let (head, body) = response.into_parts();
            let response = Response::from_parts(head.clone(), body);
            let upgraded = hyper::upgrade::on(response).await;
            let upgraded = upgraded.map_err(|error| from_hyper(error, &upstream))?;
            let end = TunnelEnd::Stream(TokioIo::new(upgraded));
            let first = Bytes::new();
            let tunnel = Tunnel {
                end,
                first,
                in_flight,
                request: None,
            };
            return Ok(Response::from_parts(head, Body::tunnel(tunnel)));
        }
        if response.status().is_success() {
            let what = "a success other than 200 to an extended CONNECT";
            return Err(unacceptable(what));
        }
        let response = response.map(|body| UpstreamBody::new(body, in_flight, counts.clone()));
        Ok(response.map(Body::from_http2))
    }

    /// Sends a request that asks to switch protocols, on a dedicated connection. If the upstream
    /// agrees, the response's body is a [`Tunnel`].
    pub(crate) async fn send_upgrade(
        &self,
        route: &Route,
        request: &request::Parts,
        client: Client,
        body: RequestBody,
    ) -> Result<Response<Body>, Error> {
        let counts = route.metrics.counts(self.worker);
        let mut tries = Tries::of(client.counted(), counts);
        let opened = self.pool.open(&route.upstreams, &mut tries);
        let (in_flight, stream, permit) = opened.await?;
        // A tunnel may be idle for long. Client sockets inherit keep-alive from the listener.
        stream.keep_alive().map_err(|source| Error::Connect {
            upstream: in_flight.upstream().to_string(),
            source,
        })?;
        let conn = Http1Conn::new(stream, Weak::new(), permit);
        let request = Http1Request {
            parts: request,
            route,
            wants_upgrade: true,
        };
        let sent = self.http1_exchange(request, body, in_flight, conn);
        sent.await.map_err(|failed| {
            failed.in_flight.failed(&failed.error);
            failed.error
        })
    }
}
