//! The HTTP/2 connection that all of one worker's requests to one upstream share.

use std::time::Instant;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::proxy::balance::Seat;
use crate::proxy::error::Error;
use crate::proxy::hyper_client::{LocalExecutor, from_hyper};
use crate::proxy::lent_body::LentBody;
use crate::proxy::stream::Stream;

use super::UpstreamPool;

/// A connection that carries many requests.
#[derive(Clone)]
pub(in crate::proxy) struct Http2 {
    pub(in crate::proxy) sender: http2::SendRequest<LentBody>,
    /// Unique among those to one upstream.
    pub(super) number: u64,
}

impl UpstreamPool {
    /// The connection that is open already.
    pub(super) async fn http2(&self) -> Option<Http2> {
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

    pub(super) async fn open_http2(&self, stream: Stream, seat: Seat) -> Result<Http2, Error> {
        let upstream = self.account.upstream();
        let head = u32::try_from(upstream.settings.limits.response_head_bytes);
        // One whose other end is gone without a word would be used until TCP gives it up. An answer
        // to a PING may take as long as a new connection.
        let ping = upstream.settings.timeouts.connect;
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
        let connection = Http2 { sender, number };
        self.http2.replace(Some(connection.clone()));
        self.http2_used.set(Instant::now());
        // It carries the requests of all who wait.
        self.account.freed();
        Ok(connection)
    }
}
