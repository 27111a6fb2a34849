//! The HTTP/2 connection to one upstream that all requests of a worker share.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::upstream::balance::{ConnPermit, UpstreamState};
use crate::upstream::error::{Error, from_hyper};
use crate::upstream::local_executor::LocalExecutor;
use crate::upstream::stream::UpstreamStream;

use super::frame_check::FrameCheck;
use super::http2_conn::{ConnectOffer, Http2Conn};
use super::upstream_pool::UpstreamPool;

impl UpstreamPool {
    /// Waits for a connection that is being opened, at most as long as opening may take. If that
    /// fails, one of the waiting requests opens the next.
    pub(crate) async fn http2_opened(&self) -> Result<(), Error> {
        let opening = &self.http2_opening;
        let opened = async {
            while opening.is_shared.get()
                && opening.under_way.get() > 0
                && self.http2.borrow().is_none()
            {
                opening.ended.notified().await;
            }
        };
        let upstream = self.state.upstream();
        tokio::time::timeout(upstream.settings.timeouts.connect, opened)
            .await
            .map_err(|_| Error::ConnectTimeout {
                upstream: upstream.to_string(),
            })
    }

    /// The open connection, if any.
    pub(crate) async fn http2(&self) -> Option<Http2Conn> {
        self.retire_outlived_http2();
        let mut connection = self.http2.borrow().clone()?;
        self.http2_used.set(Instant::now());
        if connection.sender.ready().await.is_ok() {
            return Some(connection);
        }
        self.retire_http2(connection.number);
        None
    }

    /// Sends no more requests over a connection; those under way continue.
    pub(crate) fn retire_http2(&self, number: u64) {
        self.http2
            .borrow_mut()
            .take_if(|current| current.number == number);
    }

    /// Retires a connection that is too old, or whose address the upstream's name no longer has. It
    /// closes once its requests have ended.
    pub(crate) fn retire_outlived_http2(&self) {
        let upstream = self.state.upstream();
        let mut current = self.http2.borrow_mut();
        current.take_if(|current| !current.lifetime.allows_use(upstream));
    }

    pub(crate) async fn open_http2(
        &self,
        stream: UpstreamStream,
        permit: ConnPermit,
    ) -> Result<Http2Conn, Error> {
        let upstream = self.state.upstream();
        let head = u32::try_from(upstream.settings.limits.response_head_bytes);
        // Without it, a connection whose peer vanished would be used until TCP times out. The
        // answer to a PING may take as long as a new connection.
        let ping = upstream.settings.timeouts.connect;
        let lifetime = stream.lifetime.clone();
        let stream = FrameCheck::new(stream, upstream.settings.limits.interim_responses);
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .keep_alive_interval(ping)
            .keep_alive_timeout(ping)
            .max_header_list_size(head.unwrap_or(u32::MAX))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| from_hyper(error, upstream))?;
        let open = OpenHttp2::new(&self.state);
        let connect = Rc::new(ConnectOffer(RefCell::new(Some(connection))));
        let driven = Rc::clone(&connect);
        tokio::task::spawn_local(async move {
            let ended = poll_fn(|cx| {
                let mut connection = driven.0.borrow_mut();
                let polled = match &mut *connection {
                    Some(connection) => Pin::new(connection).poll(cx),
                    None => Poll::Ready(Ok(())),
                };
                if polled.is_ready() {
                    // Wakes the requests that wait for it.
                    *connection = None;
                }
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "HTTP/2 connection to an upstream ended");
            }
            drop((open, permit));
        });
        let number = self.http2_opened.get();
        self.http2_opened.set(number + 1);
        let connection = Http2Conn {
            sender,
            number,
            lifetime,
            connect,
        };
        self.http2.replace(Some(connection.clone()));
        self.http2_used.set(Instant::now());
        // It carries the requests of all waiting clients.
        self.state.freed();
        Ok(connection)
    }
}

/// Counts a connection as one with HTTP/2 for as long as it lives.
struct OpenHttp2(Rc<UpstreamState>);

impl OpenHttp2 {
    fn new(state: &Rc<UpstreamState>) -> Self {
        state.counts.http2_opened();
        Self(Rc::clone(state))
    }
}

impl Drop for OpenHttp2 {
    fn drop(&mut self) {
        self.0.counts.http2_closed();
    }
}
