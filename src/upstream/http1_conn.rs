//! A connection to an upstream without anything around it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::unconstrained;

use super::balance::{ConnPermit, InFlight, UpstreamState};
use super::endpoint::Upstream;
use super::stream::Stream;

/// A connection on which nothing is under way, or one exchange.
pub struct Http1Conn {
    pub(crate) stream: Stream,
    pub(crate) idle_since: Instant,
    /// Whether it carried an exchange before.
    pub(crate) is_reused: bool,
    /// Whether bytes came on it that belong to no response.
    pub(crate) is_spent: bool,
    /// Whether it is authenticated, or about to be: it belongs to one client's connection then.
    pub(crate) is_bound: bool,
    /// Where it goes when it is idle.
    home: Weak<IdleConns>,
    _permit: ConnPermit,
}

/// The most idle connections a worker keeps to one upstream.
const MAX_IDLE: usize = 1024;

/// One worker's idle HTTP/1.1 connections to one upstream, the newest last: the newest is taken
/// first, so that the rest can age out.
pub(crate) struct IdleConns {
    pub(crate) state: Rc<UpstreamState>,
    #[expect(
        clippy::vec_box,
        reason = "each request takes a connection out and puts it back: a pointer is moved instead of all of it"
    )]
    conns: RefCell<Vec<Box<Http1Conn>>>,
}

impl IdleConns {
    pub(crate) fn new(state: Rc<UpstreamState>) -> Rc<Self> {
        Rc::new(Self {
            state,
            conns: RefCell::default(),
        })
    }

    /// One that can take a request. Those that cannot are closed.
    pub(crate) fn take(&self) -> Option<Box<Http1Conn>> {
        let upstream = self.state.upstream();
        loop {
            let mut conn = self.conns.borrow_mut().pop()?;
            let lifetime = &mut conn.stream.lifetime;
            if lifetime.allows_use_after(conn.idle_since, upstream) && conn.is_usable() {
                return Some(conn);
            }
        }
    }

    /// Keeps a connection on which nothing is under way.
    fn keep(&self, mut conn: Box<Http1Conn>) {
        let upstream = self.state.upstream();
        if self.conns.borrow().len() < MAX_IDLE && conn.stream.lifetime.allows_use(upstream) {
            self.conns.borrow_mut().push(conn);
            self.state.freed();
        }
    }

    /// Closes one; false: there is none.
    pub(crate) fn close_one(&self) -> bool {
        self.conns.borrow_mut().pop().is_some()
    }

    /// Closes those that were idle for too long or are [no longer used](super::lifetime).
    pub(crate) fn evict(&self) {
        let upstream = self.state.upstream();
        self.conns
            .borrow_mut()
            .retain_mut(|one| one.stream.lifetime.allows_keeping(one.idle_since, upstream));
    }
}

impl Http1Conn {
    /// A connection that nothing was sent on.
    ///
    /// What its upstream says before it is asked is taken for the answer to what is asked first. To
    /// see it would take a system call, for the runtime does not know yet, and would settle nothing:
    /// it may come a moment later. Where the answer comes behind it, the connection is spent.
    pub(crate) fn new(stream: Stream, home: Weak<IdleConns>, permit: ConnPermit) -> Box<Self> {
        Box::new(Self {
            stream,
            idle_since: Instant::now(),
            is_reused: false,
            is_spent: false,
            is_bound: false,
            home,
            _permit: permit,
        })
    }

    /// Keeps it for another exchange: nothing is under way on it any more, as of `now`.
    pub(crate) fn give_back(mut self: Box<Self>, now: Instant) {
        if let Some(home) = self
            .home
            .upgrade()
            .filter(|_| !self.is_spent && !self.is_bound)
        {
            self.is_reused = true;
            self.idle_since = now;
            home.keep(self);
        }
    }

    /// What its use by one more request is counted with; `None`: it is to none of `upstreams`, or
    /// cannot take another request.
    pub(crate) fn in_flight_for(
        &mut self,
        upstreams: &[Arc<Upstream>],
        client: Option<IpAddr>,
    ) -> Option<InFlight> {
        let in_flight = InFlight::new(&self.home.upgrade()?.state, client).ok()?;
        let is_to = |one: &Arc<Upstream>| one.id == in_flight.upstream().id;
        (upstreams.iter().any(is_to) && self.is_usable()).then_some(in_flight)
    }

    /// Whether something came since the last response: its end, or bytes that answer nothing and
    /// would be taken for the next response. Unlike [`is_usable`](Self::is_usable), this asks the
    /// system, which may know more than the runtime.
    pub(crate) fn is_readable(&self) -> bool {
        self.stream.is_readable()
    }

    /// Whether it can take another request: nothing came since the last response, not even its
    /// end. Asks what the runtime knows already; that costs no system call.
    pub(crate) fn is_usable(&mut self) -> bool {
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
