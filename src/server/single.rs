//! A request that the lane leaves to hyper: one only, and then the connection is had back.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::proxy::Client;
use crate::proxy::Deadline;
use crate::proxy::Proxy;
use crate::proxy::Single;
use crate::proxy::body::Body;
use crate::proxy::wire::Framing;

use super::drain::DrainSignal;
use super::gate::{Gate, Keeper};
use super::linger::linger;
use super::listener::Socket;

/// Has hyper serve one request. Gives the connection back when that is answered; `None`: it has
/// ended.
pub(super) async fn serve_single<S: Socket>(
    http1: &http1::Builder,
    mut gate: Gate<S>,
    request: Single,
    client: Client,
    proxy: &Rc<Proxy>,
    drain: &DrainSignal,
) -> Option<Gate<S>> {
    let answering = Rc::new(Answering::default());
    let keeper = gate.keeper();
    let service = {
        let (proxy, keeper) = (Rc::clone(proxy), keeper.clone());
        let answering = Rc::clone(&answering);
        service_fn(move |asked: Request<Incoming>| {
            let (proxy, answering) = (Rc::clone(&proxy), Rc::clone(&answering));
            let keeper = keeper.clone();
            Box::pin(async move {
                let mut response = proxy.respond(asked, client).await;
                // What we answer ourselves, we answer without a look at the body.
                let is_ours = response.body().comes_from().is_none();
                let is_unread = match is_ours {
                    true => request.framing != Framing::Length(0),
                    false => !keeper.is_through(),
                };
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    keeper.open();
                } else if request.has_upgrade || request.closes || is_unread {
                    // Where an upgrade was asked for, the connection is not had back either.
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                answering.patience.set(Some(response.body().patience()));
                Ok::<_, Infallible>(response.map(|body| Answer { body, answering }))
            })
        })
    };
    let dropped = request.has_upgrade.then(|| gate.dropped());
    let connection = http1.serve_connection(TokioIo::new(gate), service);
    let mut closing = pin!(drain.closing());
    // Where the connection is to end with this request, the response says so.
    let mut is_closing = request.closes;
    let mut closes_now = |cx: &mut Context<'_>| {
        let closes_now = !is_closing && closing.as_mut().poll(cx).is_ready();
        is_closing |= closes_now;
        closes_now
    };
    let mut untaken = Untaken {
        keeper: keeper.clone(),
        answering: Rc::clone(&answering),
        deadline: None,
    };
    if let Some(dropped) = dropped {
        let mut connection = Box::pin(connection.with_upgrades());
        poll_fn(|cx| {
            let mut polled = connection.as_mut().poll(cx);
            if polled.is_pending() && closes_now(cx) {
                connection.as_mut().graceful_shutdown();
                polled = connection.as_mut().poll(cx);
            }
            match polled {
                Poll::Pending => untaken.poll_over(cx),
                Poll::Ready(result) => {
                    log_end(result);
                    Poll::Ready(())
                }
            }
        })
        .await;
        drop(connection);
        // A tunnel counts as a connection until it ends.
        dropped.await;
        return None;
    }
    let mut connection = connection;
    let end = poll_fn(|cx| {
        let mut polled = Pin::new(&mut connection).poll(cx);
        // Not before hyper has read the request: it would end without an answer.
        if polled.is_pending() && closes_now(cx) {
            Pin::new(&mut connection).graceful_shutdown();
            polled = Pin::new(&mut connection).poll(cx);
        }
        if let Poll::Ready(result) = polled {
            log_end(result);
            return Poll::Ready(End::Closed);
        }
        // The response's body was given up, so hyper has all of it; and the client has all
        // that hyper had.
        if answering.is_answered.get() && !keeper.is_blocked() {
            return Poll::Ready(End::Answered);
        }
        untaken.poll_over(cx).map(|()| End::Untaken)
    })
    .await;
    if matches!(end, End::Untaken) {
        return None;
    }
    let parts = connection.into_parts();
    let gate = parts.io.into_inner();
    // What hyper has read of this request and not passed on is no next request.
    if !gate.is_through() || !parts.read_buf.is_empty() {
        linger(gate.into_parts().0).await;
        return None;
    }
    matches!(end, End::Answered).then_some(gate)
}

/// How hyper's part in a connection ends.
enum End {
    /// The connection has ended.
    Closed,
    /// The request was answered.
    Answered,
    /// The client does not take its answer.
    Untaken,
}

/// What is known of a response while hyper has it.
#[derive(Default)]
struct Answering {
    /// Whether hyper has had all of its body.
    is_answered: Cell<bool>,
    /// How long the client may take nothing of it, once there is one.
    patience: Cell<Option<Duration>>,
}

/// A limit of time for a client that takes nothing of what hyper writes: hyper has none.
struct Untaken {
    keeper: Keeper,
    answering: Rc<Answering>,
    /// There while the client is waited for.
    deadline: Option<Deadline>,
}

impl Untaken {
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let has_taken = self.keeper.has_taken();
        let (true, Some(patience)) = (self.keeper.is_blocked(), self.answering.patience.get())
        else {
            self.deadline = None;
            return Poll::Pending;
        };
        let deadline = self
            .deadline
            .get_or_insert_with(|| Deadline::after(patience));
        if has_taken {
            deadline.set(Instant::now() + patience);
        }
        deadline
            .poll(cx)
            .map(|()| tracing::debug!("a client does not take its response"))
    }
}

/// A response's body that tells when hyper has had all of it.
struct Answer {
    body: Body,
    answering: Rc<Answering>,
}

impl HttpBody for Answer {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.answering.is_answered.set(true);
    }
}

fn log_end(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a client's connection ended early");
    }
}
