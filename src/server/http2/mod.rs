//! HTTP/2 from a client: a connection, until it ends, is no longer useful, or the server drains.
//!
//! h2, hyper's HTTP/2 engine, implements the protocol. It is used without hyper's server, which
//! sends no interim responses and has windows of a fixed size. h2 leaves time limits and abuse to
//! us: unused connections, streams whose client does not read the response, and clients that
//! cause work without requests.

mod control_frame_limit;
mod protocol;
mod receive_window;
mod stream;
mod streams;
mod tunnel_stream;
mod untaken_responses;
mod write_coalescing;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use h2::Reason;
use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::routing::client::Client;
use crate::upstream::unread_bodies::UnreadBodies;

use super::Limits;
use super::end_signal::EndSignal;
use super::head_budget::HeadBudget;
use control_frame_limit::{ControlFrameLimit, goaway};
use protocol::Protocol;
use receive_window::ReceiveBudget;
use stream::ClientStream;
use streams::{Piece, Streams};
use untaken_responses::UntakenResponses;
use write_coalescing::{Spare, WriteCoalescing};

/// How long a connection without a request may stay open after GOAWAY.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves HTTP/2 connections, with one worker's settings.
pub(super) struct Http2 {
    limits: Limits,
    metrics: Arc<Metrics>,
    spare: Spare,
    receive_budget: ReceiveBudget,
    heads: Arc<HeadBudget>,
}

impl Http2 {
    pub(super) fn new(limits: &Limits, heads: &Arc<HeadBudget>, metrics: &Arc<Metrics>) -> Self {
        Self {
            limits: limits.clone(),
            metrics: Arc::clone(metrics),
            spare: Spare::default(),
            receive_budget: ReceiveBudget::default(),
            heads: Arc::clone(heads),
        }
    }

    /// Serves a connection until it ends.
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
        let untaken = Rc::new(UntakenResponses::default());
        let window = self.receive_budget.reserve();
        let stream = WriteCoalescing::new(stream, Rc::clone(&self.spare));
        let sender = stream.sender();
        let stream = ControlFrameLimit::new(
            stream,
            Rc::clone(&streams),
            self.heads.connection(),
            client.counted(),
            &self.limits,
        );
        let handshake = self.protocol(window.bytes()).handshake(stream);
        let begin = |request, mut respond: SendResponse<Piece>| {
            // A refused stream was not processed: its client may retry (RFC 9113 §8.7).
            let Some(exchange) = streams.begin(&request) else {
                return respond.send_reset(Reason::REFUSED_STREAM);
            };
            let stream = ClientStream {
                request,
                respond,
                exchange,
                client,
            };
            let served = stream.serve(Rc::clone(&proxy), Rc::clone(&unread), Rc::clone(&untaken));
            tokio::task::spawn_local(async move {
                if let Err(error) = served.await {
                    tracing::debug!(%error, "a stream ended early");
                }
            });
        };
        let mut connection = pin!(Protocol::new(handshake, window, begin));
        let turn = |mut connection: Pin<&mut Protocol<_, _>>, cx: &mut Context<'_>| {
            unread.poll_discard(cx);
            connection.grow_window(streams.received());
            let ended = sender.poll_turn(connection, cx);
            untaken.poll_reset(cx);
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
                connection.shut_down();
                let quiet = async {
                    tokio::time::sleep(GOODBYE).await;
                    streams.quiet_for(|_| GOODBYE).await;
                };
                tokio::select! {
                    biased;
                    ended = poll_fn(|cx| turn(connection.as_mut(), cx)) => ended,
                    () = quiet => return tracing::debug!("the client did not close the connection after GOAWAY"),
                }
            }
        };
        if let (Err(_), Some(last_stream)) = (&ended, streams.malformed()) {
            let goaway = goaway(Reason::PROTOCOL_ERROR, last_stream);
            let _ = tokio::time::timeout(GOODBYE, sender.end_with(&goaway)).await;
        }
        if let Err(error) = ended {
            tracing::debug!(%error, "the client's connection ended early");
        }
    }

    fn protocol(&self, window: u32) -> h2::server::Builder {
        let limits = &self.limits;
        let resets = usize::try_from(limits.http2_resets).unwrap_or(usize::MAX);
        // Twice our own limit: a client cannot read the response to a request that h2 itself
        // rejects.
        let head = limits.request_head_bytes.saturating_mul(2);
        let mut protocol = h2::server::Builder::new();
        protocol
            .max_concurrent_streams(limits.http2_streams)
            .enable_connect_protocol()
            .initial_window_size(window)
            .initial_connection_window_size(window)
            .max_local_error_reset_streams(Some(resets))
            .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX));
        protocol
    }
}
