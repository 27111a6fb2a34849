//! The HTTP/2 connection that all of one worker's requests to one upstream share.

use std::cell::Cell;
use std::time::Instant;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use crate::proxy::balance::Seat;
use crate::proxy::error::Error;
use crate::proxy::http2_client::{LocalExecutor, from_hyper};
use crate::proxy::lent_body::LentBody;
use crate::proxy::resolver::ResolvedAddress;
use crate::proxy::stream::Stream;
use crate::proxy::upstream::UpstreamSettings;

use super::UpstreamPool;
use super::interim_limit::InterimLimit;

/// A connection that carries many requests.
#[derive(Clone)]
pub(in crate::proxy) struct Http2 {
    pub(in crate::proxy) sender: http2::SendRequest<LentBody>,
    /// Unique among those to one upstream.
    pub(in crate::proxy) number: u64,
    /// Where it goes to, if the upstream has a host name.
    resolved: Option<ResolvedAddress>,
}

/// Whether such a connection is being opened. Whoever needs one meanwhile waits for it: a crowd
/// that comes at once, or whose connection was closed, is not to open one each.
pub(super) struct Opening {
    /// Whether one connection is enough, as far as is known.
    is_shared: Cell<bool>,
    under_way: Cell<usize>,
    ended: Notify,
}

/// Counts a connection as being opened for as long as it lives.
pub(super) struct Begun<'a>(&'a Opening);

impl Opening {
    pub(super) fn new(settings: &UpstreamSettings) -> Self {
        Self {
            // Over TLS, only a handshake tells.
            is_shared: Cell::new(settings.http2 && settings.tls.is_none()),
            under_way: Cell::default(),
            ended: Notify::new(),
        }
    }

    pub(super) fn begin(&self) -> Begun<'_> {
        self.under_way.set(self.under_way.get() + 1);
        Begun(self)
    }

    /// What the last connection speaks, the next one will, too.
    pub(super) fn learned(&self, speaks_http2: bool) -> bool {
        self.is_shared.set(speaks_http2);
        speaks_http2
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        self.0.ended.notify_waiters();
    }
}

impl UpstreamPool {
    /// Waits for a connection that is being opened, as long as one may take to be. Where that
    /// fails, one of those who wait opens the next.
    pub(super) async fn http2_opened(&self) -> Result<(), Error> {
        let opening = &self.http2_opening;
        let opened = async {
            while opening.is_shared.get()
                && opening.under_way.get() > 0
                && self.http2.borrow().is_none()
            {
                opening.ended.notified().await;
            }
        };
        let upstream = self.account.upstream();
        tokio::time::timeout(upstream.settings.timeouts.connect, opened)
            .await
            .map_err(|_| Error::ConnectTimeout {
                upstream: upstream.to_string(),
            })
    }

    /// The connection that is open already.
    pub(super) async fn http2(&self) -> Option<Http2> {
        self.retire_moved_http2();
        let mut connection = self.http2.borrow().clone()?;
        self.http2_used.set(Instant::now());
        if connection.sender.ready().await.is_ok() {
            return Some(connection);
        }
        self.retire_http2(connection.number);
        None
    }

    /// Gives a connection no more requests; those under way on it go on.
    pub(super) fn retire_http2(&self, number: u64) {
        self.http2
            .borrow_mut()
            .take_if(|current| current.number == number);
    }

    /// Gives a connection no more requests if the upstream's name no longer has its address. It
    /// closes once those under way have ended.
    pub(super) fn retire_moved_http2(&self) {
        let mut current = self.http2.borrow_mut();
        current.take_if(|current| !self.still_has(current.resolved.as_mut()));
    }

    pub(super) async fn open_http2(&self, stream: Stream, seat: Seat) -> Result<Http2, Error> {
        let upstream = self.account.upstream();
        let head = u32::try_from(upstream.settings.limits.response_head_bytes);
        // One whose other end is gone without a word would be used until TCP gives it up. An answer
        // to a PING may take as long as a new connection.
        let ping = upstream.settings.timeouts.connect;
        let resolved = stream.resolved().cloned();
        let stream = InterimLimit::new(stream, upstream.settings.limits.interim_responses);
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .keep_alive_interval(ping)
            .keep_alive_timeout(ping)
            .max_header_list_size(head.unwrap_or(u32::MAX))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| from_hyper(error, upstream))?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to an upstream ended");
            }
            drop(seat);
        });
        let number = self.http2_opened.get();
        self.http2_opened.set(number + 1);
        let connection = Http2 {
            sender,
            number,
            resolved,
        };
        self.http2.replace(Some(connection.clone()));
        self.http2_used.set(Instant::now());
        // It carries the requests of all who wait.
        self.account.freed();
        Ok(connection)
    }
}
