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
use crate::upstream::stream::UpstreamStream;

use super::frame_check::FrameCheck;

/// A connection that carries many requests.
#[derive(Clone)]
pub(crate) struct Http2Conn {
    pub(crate) sender: http2::SendRequest<ReplayBody>,
    /// Unique among those to one upstream.
    pub(crate) number: u64,
    /// Whether the upstream supports extended CONNECT.
    pub(crate) connect: Rc<ConnectOffer>,
    pub(crate) lifetime: Lifetime,
}

/// Whether an upstream supports extended CONNECT ([RFC 8441 §3]), which its first SETTINGS frame
/// announces.
///
/// [RFC 8441 §3]: https://www.rfc-editor.org/rfc/rfc8441#section-3
pub(crate) struct ConnectOffer(pub(crate) RefCell<Option<Connection>>);

pub(crate) type Connection =
    http2::Connection<TokioIo<FrameCheck<UpstreamStream>>, ReplayBody, LocalExecutor>;

/// How long to wait for the first SETTINGS before assuming that extended CONNECT is not supported.
pub(crate) const SETTINGS_PATIENCE: Duration = Duration::from_secs(1);

/// How often to poll for them: hyper does not report their arrival.
pub(crate) const SETTINGS_INTERVAL: Duration = Duration::from_millis(5);

impl ConnectOffer {
    /// Whether it is announced, now or within [`SETTINGS_PATIENCE`].
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

/// Whether a connection is being opened. Requests wait for it, so that many simultaneous requests,
/// or a connection closed under them, do not open one each.
pub(crate) struct Opening {
    /// Whether one connection is expected to be enough.
    pub(crate) is_shared: Cell<bool>,
    pub(crate) under_way: Cell<usize>,
    pub(crate) ended: Notify,
}

/// Marks a connection as being opened, as long as it lives.
pub(crate) struct Begun<'a>(&'a Opening);

impl Opening {
    pub(crate) fn new(settings: &UpstreamSettings) -> Self {
        Self {
            // Over TLS, only the handshake shows it.
            is_shared: Cell::new(settings.http2 && settings.tls.is_none()),
            under_way: Cell::default(),
            ended: Notify::new(),
        }
    }

    pub(crate) fn begin(&self) -> Begun<'_> {
        self.under_way.set(self.under_way.get() + 1);
        Begun(self)
    }

    /// Remembers the last connection's version: the next one will probably use the same.
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
