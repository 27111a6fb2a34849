//! An HTTP/1.1 connection that hyper keeps: one request at a time, driven by who uses it.

use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::Instant;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::proxy::balance::Seat;
use crate::proxy::error::Error;
use crate::proxy::hyper_client::{from_hyper, http1_builder};
use crate::proxy::read_first::ReadFirst;
use crate::proxy::request_body::RequestBody;
use crate::proxy::resolver::ResolvedAddress;
use crate::proxy::stream::Stream;

use super::{MAX_IDLE, UpstreamPool};

type Http1Connection = http1::Connection<TokioIo<ReadFirst<Stream>>, RequestBody>;

/// An HTTP/1.1 connection and what drives it.
pub(in crate::proxy) struct Http1 {
    pub(in crate::proxy) sender: http1::SendRequest<RequestBody>,
    connection: Pin<Box<Http1Connection>>,
    pub(super) idle_since: Instant,
    /// Where it goes to, if the upstream has a host name.
    pub(super) resolved: Option<ResolvedAddress>,
    /// Where it goes when it is idle.
    home: Weak<UpstreamPool>,
    _seat: Seat,
}

impl Http1 {
    pub(super) async fn open(
        stream: Stream,
        pool: &Rc<UpstreamPool>,
        seat: Seat,
    ) -> Result<Self, Error> {
        let upstream = pool.account.upstream();
        let resolved = stream.resolved().cloned();
        let (sender, connection) = http1_builder(upstream)
            .handshake(TokioIo::new(ReadFirst::new(stream)))
            .await
            .map_err(|error| from_hyper(error, upstream))?;
        let mut opened = Self {
            sender,
            connection: Box::pin(connection),
            idle_since: Instant::now(),
            resolved,
            home: Rc::downgrade(pool),
            _seat: seat,
        };
        opened.is_usable();
        Ok(opened)
    }

    /// Whether it can take another request. Asks the connection once, without waiting.
    pub(super) fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.connection.as_mut().poll(&mut cx).is_pending() && self.sender.is_ready()
    }

    /// Moves bytes; true when the connection is at its end.
    pub(in crate::proxy) fn poll_ended(&mut self, cx: &mut Context<'_>) -> bool {
        self.connection.as_mut().poll(cx).is_ready()
    }

    /// Keeps a connection that has carried its response to the end.
    pub(in crate::proxy) fn give_back(mut self) {
        if let Some(home) = self.home.upgrade()
            && home.idle.borrow().len() < MAX_IDLE
            && home.still_has(self.resolved.as_mut())
            && self.is_usable()
        {
            self.idle_since = Instant::now();
            home.idle.borrow_mut().push(self);
            home.account.freed();
        }
    }
}
