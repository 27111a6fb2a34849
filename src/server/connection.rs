//! A client's connection, request by request, until it ends or the server drains.
//!
//! [`Http2`] serves a connection that begins with the HTTP/2 preface. For HTTP/1.1, [`HeadReader`]
//! reads each head, and the request is answered at once, forwarded as bytes
//! ([`Proxy::carry_out`]), or served as a header map and a body ([`http1_server`]).

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::proxy::{ConnFate, Proxy};
use crate::routing::client::Client;

use super::end_signal::EndSignal;
use super::head_budget::HeadBudget;
use super::head_reader::{HeadReader, Then};
use super::http2::Http2;
use super::listener::Socket;
use super::prefixed::Prefixed;
use super::{Limits, http1_server, lingering_close};

/// Serves connections: one worker's protocol settings.
pub(super) struct Protocols {
    http2: Http2,
    heads: Arc<HeadBudget>,
    limits: Limits,
}

/// The client's protocol, as far as it is known before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// Unknown: the first bytes decide.
    Unknown,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocols {
    /// Unfinished heads share the budget of all workers.
    pub(super) fn new(limits: &Limits, heads: Arc<HeadBudget>, metrics: &Arc<Metrics>) -> Self {
        Self {
            http2: Http2::new(limits, &heads, metrics),
            heads,
            limits: limits.clone(),
        }
    }

    /// The limits on what clients send.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Serves a connection to its end.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would keep a second copy of its arguments while the connection waits"
    )]
    pub(super) fn serve<S: Socket>(
        &self,
        mut stream: S,
        spoken: Spoken,
        client: Client,
        proxy: &Rc<Proxy>,
        end: &EndSignal<'_>,
    ) -> impl Future<Output = ()> {
        async move {
            if spoken == Spoken::Http2 {
                let proxy = Rc::clone(proxy);
                return Box::pin(self.http2.serve(stream, client, proxy, end)).await;
            }
            let may_be_http2 = spoken == Spoken::Unknown;
            let closing = pin!(end.drain.closing());
            let unfinished = self.heads.connection();
            let mut reader = HeadReader::new(&self.limits, may_be_http2, unfinished, end, closing);
            let mut bound = None;
            loop {
                let turn = poll_fn(|cx| reader.poll_turn(cx, &mut stream, client, proxy)).await;
                if !turn.is_delivered() {
                    end.set_busy(true);
                    let limit = self.limits.head_read;
                    // Boxed, like everything rare: a waiting connection needs no memory for it.
                    if Box::pin(turn.deliver(&mut stream, limit)).await.is_err() {
                        return;
                    }
                }
                match turn.then {
                    Then::HeadReader => {}
                    Then::End => return Box::pin(lingering_close::end(stream)).await,
                    Then::Linger => return Box::pin(lingering_close::linger(stream)).await,
                    Then::Exchange(exchange) => {
                        end.set_busy(true);
                        let (ahead, deadline) = (&mut reader.ahead, &mut reader.deadline);
                        let closes = || end.is_ending();
                        // Boxed: a waiting connection needs no memory for an exchange.
                        let went = Box::pin(proxy.carry_out(
                            &exchange,
                            &mut stream,
                            ahead,
                            &mut bound,
                            deadline,
                            &closes,
                        ))
                        .await;
                        proxy.take_back(*exchange);
                        match went {
                            ConnFate::On(ended) => {
                                reader.rest(ended.into());
                                continue;
                            }
                            ConnFate::Ends => return Box::pin(lingering_close::end(stream)).await,
                            ConnFate::Cut => return,
                            ConnFate::Refused => {
                                return Box::pin(lingering_close::linger(stream)).await;
                            }
                        }
                    }
                    Then::HeaderMapRequest(request) => {
                        end.set_busy(true);
                        let ahead = std::mem::take(&mut reader.ahead);
                        let served =
                            http1_server::serve(stream, ahead, request, client, proxy, end);
                        let Some(kept) = Box::pin(served).await else {
                            return;
                        };
                        (stream, reader.ahead) = kept;
                    }
                    Then::Http2 => {
                        let first = std::mem::take(&mut reader.ahead).into();
                        let stream = Prefixed::new(first, stream);
                        let proxy = Rc::clone(proxy);
                        return Box::pin(self.http2.serve(stream, client, proxy, end)).await;
                    }
                }
                reader.rest(Instant::now());
            }
        }
    }
}
