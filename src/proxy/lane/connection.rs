//! A connection to an upstream without anything around it.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Weak;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::unconstrained;

use crate::proxy::balance::{Lease, Seat};
use crate::proxy::pool::UpstreamPool;
use crate::proxy::stream::Stream;
use crate::proxy::upstream::Upstream;

/// A connection on which nothing is under way, or one exchange.
pub struct Raw {
    pub(in crate::proxy) stream: Stream,
    pub(in crate::proxy) idle_since: Instant,
    /// Whether it carried an exchange before.
    pub(in crate::proxy) is_reused: bool,
    /// Whether something came on it that is no response to anything.
    pub(super) is_spent: bool,
    /// Whether it is authenticated, or about to be: it belongs to one client's connection then.
    pub(in crate::proxy) is_bound: bool,
    /// Where it goes when it is idle.
    home: Weak<UpstreamPool>,
    _seat: Seat,
}

impl Raw {
    /// A connection that nothing was sent on.
    ///
    /// What its upstream says before it is asked is taken for the answer to what is asked first. To
    /// see it would take a system call, for the runtime does not know yet, and would settle nothing:
    /// it may come a moment later. Where the answer comes behind it, the connection is spent.
    pub(in crate::proxy) fn new(stream: Stream, home: Weak<UpstreamPool>, seat: Seat) -> Self {
        Self {
            stream,
            idle_since: Instant::now(),
            is_reused: false,
            is_spent: false,
            is_bound: false,
            home,
            _seat: seat,
        }
    }

    /// Keeps it for another exchange: nothing is under way on it any more.
    pub(in crate::proxy) fn give_back(mut self) {
        if let Some(home) = self
            .home
            .upgrade()
            .filter(|_| !self.is_spent && !self.is_bound)
        {
            self.is_reused = true;
            self.idle_since = Instant::now();
            home.keep_raw(self);
        }
    }

    /// What its use by one more request is counted with; `None`: it is to none of `upstreams`, or
    /// cannot take another request.
    pub(super) fn lease_for(
        &mut self,
        upstreams: &[Arc<Upstream>],
        client: Option<IpAddr>,
    ) -> Option<Lease> {
        let lease = self.home.upgrade()?.lease(client).ok()?;
        let is_to = |one: &Arc<Upstream>| one.id == lease.upstream().id;
        (upstreams.iter().any(is_to) && self.is_usable()).then_some(lease)
    }

    /// Whether the upstream has closed it. Unlike [`is_usable`](Self::is_usable), this asks the
    /// system, which may know more than the runtime.
    pub(in crate::proxy) fn is_closed(&self) -> bool {
        self.stream.is_closed()
    }

    /// Whether it can take another request: nothing came since the last response, not even its
    /// end. Asks what the runtime knows already; that costs no system call.
    pub(in crate::proxy) fn is_usable(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        let read = poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut byte);
            Pin::new(&mut self.stream).poll_read(cx, &mut buffer)
        });
        // Unconstrained: a task that has used up its budget would be told that nothing came.
        pin!(unconstrained(read)).poll(&mut cx).is_pending()
    }
}
