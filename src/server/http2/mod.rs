//! HTTP/2 from a client: one connection, until it ends, is of no use any more, or we drain.
//!
//! hyper implements the protocol. What it leaves to us is time and abuse: a connection on which nobody
//! asks anything, a stream whose client takes nothing of its response, and a client that
//! keeps us busy for nothing.

mod control_frame_limit;
mod receive_window;
mod streams;
mod write_coalescing;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use h2::Reason;
use http::{Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::proxy::response_body::without_content;
use crate::routing::client::Client;
use crate::upstream::request_body::RequestBody;
use crate::upstream::unread_bodies::UnreadBodies;

use super::Limits;
use super::end_signal::EndSignal;
use super::head_budget::HeadBudget;
use control_frame_limit::{ControlFrameLimit, goaway};
use receive_window::ReceiveBudget;
use streams::{Streams, Tasks};
use write_coalescing::{Spare, WriteCoalescing};

/// How long a connection without a request may go on once its client was told that it ends.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves connections of HTTP/2: one worker's settings.
pub(super) struct Http2 {
    limits: Limits,
    metrics: Arc<Metrics>,
    spare: Spare,
    receive_budget: ReceiveBudget,
    heads: Rc<HeadBudget>,
}

impl Http2 {
    pub(super) fn new(limits: &Limits, heads: &Rc<HeadBudget>, metrics: &Arc<Metrics>) -> Self {
        Self {
            limits: limits.clone(),
            metrics: Arc::clone(metrics),
            spare: Spare::default(),
            receive_budget: ReceiveBudget::default(),
            heads: Rc::clone(heads),
        }
    }

    /// Serves a connection to its end.
    pub(super) async fn serve<S>(
        &self,
        stream: S,
        client: Client,
        proxy: Rc<Proxy>,
        end: &EndSignal<'_>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let streams = Rc::new(Streams::new(Arc::clone(&self.metrics), &self.limits));
        let unread = Rc::new(UnreadBodies::default());
        let service = service_fn(|mut request: Request<Incoming>| {
            let (proxy, exchange) = (Rc::clone(&proxy), streams.begin(&request));
            let unread = Rc::clone(&unread);
            let is_head = request.method() == Method::HEAD;
            // Only an extended CONNECT is ever answered with a tunnel (RFC 8441).
            let on_upgrade =
                (request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
            // Boxed: the library moves the future of a request several times.
            Box::pin(async move {
                // Of a stream that is refused nothing was done: its client may ask again (RFC 9113
                // §8.7).
                let exchange = exchange.ok_or(h2::Error::from(Reason::REFUSED_STREAM))?;
                exchange.still_stands().await;
                let request = request.map(|body| RequestBody::from_http2(body, &unread));
                let mut response = proxy.respond(request, client).await;
                if is_head {
                    response = without_content(response);
                }
                let status = response.status();
                // Boxed, as all that is rare: a request's future is moved about.
                if let Some(reading) = response.body_mut().read_ahead(status) {
                    Box::pin(reading).await;
                }
                let tunnel = response.body_mut().take_tunnel();
                if let (Some(tunnel), Some(on_upgrade)) = (tunnel, on_upgrade) {
                    let exchange = exchange.share();
                    tokio::task::spawn_local(async move {
                        match on_upgrade.await {
                            Ok(client) => tunnel.carry(TokioIo::new(client)).await,
                            Err(error) => tracing::debug!(%error, "a tunnel did not begin"),
                        }
                        drop(exchange);
                    });
                }
                Ok::<_, h2::Error>(response.map(|body| exchange.answer_with(body)))
            })
        });
        let window = self.receive_budget.reserve();
        let connection = self.protocol(Tasks(Rc::clone(&streams)), window.bytes());
        let stream = WriteCoalescing::new(stream, Rc::clone(&self.spare));
        let sender = stream.sender();
        let stream = ControlFrameLimit::new(
            stream,
            Rc::clone(&streams),
            self.heads.connection(),
            client.counted(),
            &self.limits,
        );
        let connection = connection.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let turn = |connection: Pin<&mut _>, cx: &mut Context<'_>| {
            unread.poll_discard(cx);
            let ended = sender.poll_turn(connection, cx);
            end.set_busy(streams.is_busy());
            ended
        };
        let limits = &self.limits;
        let quiet = streams.quiet_for(|has_begun| match has_begun {
            true => limits.keep_alive_idle,
            false => limits.head_read,
        });
        let ending = async {
            end.drain.begun().await;
            // A client that has just connected gets a response to its first request.
            tokio::select! {
                () = streams.asked_for(1) => {}
                () = end.drain.grace_over() => {}
            }
        };
        let ended = tokio::select! {
            biased;
            ended = poll_fn(|cx| turn(connection.as_mut(), cx)) => Some(ended),
            () = quiet => None,
            () = streams.asked_for(limits.requests_per_connection) => None,
            () = ending => None,
            () = end.retired() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                let quiet = async {
                    tokio::time::sleep(GOODBYE).await;
                    streams.quiet_for(|_| GOODBYE).await;
                };
                tokio::select! {
                    biased;
                    ended = poll_fn(|cx| turn(connection.as_mut(), cx)) => ended,
                    () = quiet => return tracing::debug!("a client does not let go"),
                }
            }
        };
        if let (Err(_), Some(last_stream)) = (&ended, streams.malformed()) {
            let goaway = goaway(Reason::PROTOCOL_ERROR, last_stream);
            let _ = tokio::time::timeout(GOODBYE, sender.end_with(&goaway)).await;
        }
        if let Err(error) = ended {
            tracing::debug!(%error, "a client's connection ended early");
        }
    }

    fn protocol(&self, tasks: Tasks, window: u32) -> http2::Builder<Tasks> {
        let limits = &self.limits;
        let resets = usize::try_from(limits.http2_resets).unwrap_or(usize::MAX);
        // Twice our own limit: what the library refuses itself, an allowed page cannot read.
        let head = limits.request_head_bytes.saturating_mul(2);
        let mut protocol = http2::Builder::new(tasks);
        protocol
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_streams)
            .enable_connect_protocol()
            .initial_stream_window_size(window)
            .initial_connection_window_size(window)
            .max_local_error_reset_streams(resets)
            .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX));
        protocol
    }
}
