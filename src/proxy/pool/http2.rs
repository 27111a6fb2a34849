//! The HTTP/2 connection that all of one worker's requests to one upstream share.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use crate::proxy::balance::Seat;
use crate::proxy::error::Error;
use crate::proxy::http2_client::{LocalExecutor, from_hyper};
use crate::proxy::lent_body::LentBody;
use crate::proxy::lifetime::Lifetime;
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
    /// Whether the upstream takes extended CONNECT.
    pub(in crate::proxy) connect: Rc<ConnectOffer>,
    lifetime: Lifetime,
}

/// Whether an upstream takes extended CONNECT ([RFC 8441 §3]): its first SETTINGS tell.
///
/// [RFC 8441 §3]: https://www.rfc-editor.org/rfc/rfc8441#section-3
pub(in crate::proxy) struct ConnectOffer(RefCell<Option<Connection>>);

type Connection = http2::Connection<TokioIo<InterimLimit<Stream>>, LentBody, LocalExecutor>;

/// How long the first SETTINGS are waited for before the upstream counts as one that does not.
const SETTINGS_PATIENCE: Duration = Duration::from_secs(1);

/// How often they are polled for: hyper does not report their arrival.
const SETTINGS_INTERVAL: Duration = Duration::from_millis(5);

impl ConnectOffer {
    /// Whether the offer is made, now or soon.
    pub(in crate::proxy) async fn is_made(&self) -> bool {
        let looked_for = async {
            let is_made = |one: &Connection| one.is_extended_connect_protocol_enabled();
            while !self.0.borrow().as_ref().is_some_and(is_made) {
                tokio::time::sleep(SETTINGS_INTERVAL).await;
            }
        };
        let found = tokio::time::timeout(SETTINGS_PATIENCE, looked_for);
        found.await.is_ok()
    }
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
        self.retire_outlived_http2();
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

    /// Gives a connection no more requests if it is too old or the upstream's name no longer has its
    /// address. It closes once those under way have ended.
    pub(super) fn retire_outlived_http2(&self) {
        let upstream = self.account.upstream();
        let mut current = self.http2.borrow_mut();
        current.take_if(|current| !current.lifetime.allows_use(upstream));
    }

    pub(super) async fn open_http2(&self, stream: Stream, seat: Seat) -> Result<Http2, Error> {
        let upstream = self.account.upstream();
        let head = u32::try_from(upstream.settings.limits.response_head_bytes);
        // One whose other end is gone without a word would be used until TCP gives it up. An answer
        // to a PING may take as long as a new connection.
        let ping = upstream.settings.timeouts.connect;
        let lifetime = stream.lifetime.clone();
        let stream = InterimLimit::new(stream, upstream.settings.limits.interim_responses);
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .keep_alive_interval(ping)
            .keep_alive_timeout(ping)
            .max_header_list_size(head.unwrap_or(u32::MAX))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| from_hyper(error, upstream))?;
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
                    // This wakes the requests that wait for it.
                    *connection = None;
                }
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "an HTTP/2 connection to an upstream ended");
            }
            drop(seat);
        });
        let number = self.http2_opened.get();
        self.http2_opened.set(number + 1);
        let connection = Http2 {
            sender,
            number,
            lifetime,
            connect,
        };
        self.http2.replace(Some(connection.clone()));
        self.http2_used.set(Instant::now());
        // It carries the requests of all who wait.
        self.account.freed();
        Ok(connection)
    }
}
