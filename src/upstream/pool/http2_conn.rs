//! An HTTP/2 connection to an upstream, and whether one is being opened.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use crate::upstream::endpoint::UpstreamSettings;
use crate::upstream::lifetime::Lifetime;
use crate::upstream::local_executor::LocalExecutor;
use crate::upstream::replay_body::ReplayBody;
use crate::upstream::stream::Stream;

use super::frame_check::FrameCheck;

/// A connection that carries many requests.
#[derive(Clone)]
pub(crate) struct Http2 {
    pub(crate) sender: http2::SendRequest<ReplayBody>,
    /// Unique among those to one upstream.
    pub(crate) number: u64,
    /// Whether the upstream takes extended CONNECT.
    pub(crate) connect: Rc<ConnectOffer>,
    pub(crate) lifetime: Lifetime,
}

/// Whether an upstream takes extended CONNECT ([RFC 8441 §3]): its first SETTINGS tell.
///
/// [RFC 8441 §3]: https://www.rfc-editor.org/rfc/rfc8441#section-3
pub(crate) struct ConnectOffer(pub(crate) RefCell<Option<Connection>>);

pub(crate) type Connection =
    http2::Connection<TokioIo<FrameCheck<Stream>>, ReplayBody, LocalExecutor>;

/// How long the first SETTINGS are waited for before the upstream counts as one that does not.
pub(crate) const SETTINGS_PATIENCE: Duration = Duration::from_secs(1);

/// How often they are polled for: hyper does not report their arrival.
pub(crate) const SETTINGS_INTERVAL: Duration = Duration::from_millis(5);

impl ConnectOffer {
    /// Whether the offer is made, now or soon.
    pub(crate) async fn is_made(&self) -> bool {
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
pub(crate) struct Opening {
    /// Whether one connection is enough, as far as is known.
    pub(crate) is_shared: Cell<bool>,
    pub(crate) under_way: Cell<usize>,
    pub(crate) ended: Notify,
}

/// Counts a connection as being opened for as long as it lives.
pub(crate) struct Begun<'a>(&'a Opening);

impl Opening {
    pub(crate) fn new(settings: &UpstreamSettings) -> Self {
        Self {
            // Over TLS, only a handshake tells.
            is_shared: Cell::new(settings.http2 && settings.tls.is_none()),
            under_way: Cell::default(),
            ended: Notify::new(),
        }
    }

    pub(crate) fn begin(&self) -> Begun<'_> {
        self.under_way.set(self.under_way.get() + 1);
        Begun(self)
    }

    /// What the last connection speaks, the next one will, too.
    pub(crate) fn learned(&self, speaks_http2: bool) -> bool {
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
