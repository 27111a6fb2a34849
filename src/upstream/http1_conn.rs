//! An HTTP/1.1 connection to an upstream, and the idle ones that a worker keeps.

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
use super::stream::UpstreamStream;

/// A connection that is idle or carries one exchange.
pub struct Http1Conn {
    pub(crate) stream: UpstreamStream,
    pub(crate) idle_since: Instant,
    /// Whether it already carried an exchange.
    pub(crate) is_reused: bool,
    /// Whether it received bytes that belong to no response.
    pub(crate) is_spent: bool,
    /// Whether it is authenticated, or about to be; then it belongs to one client's connection.
    pub(crate) is_bound: bool,
    /// Where it goes when idle.
    home: Weak<IdleConns>,
    _permit: ConnPermit,
}

/// The most idle connections that a worker keeps to one upstream.
const MAX_IDLE: usize = 1024;

/// One worker's idle HTTP/1.1 connections to one upstream, the newest last. The newest is used
/// first, so that the others can age out.
pub(crate) struct IdleConns {
    pub(crate) state: Rc<UpstreamState>,
    #[expect(
        clippy::vec_box,
        reason = "each request takes a connection out and puts it back: this moves only a pointer"
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

    /// Takes one that can carry a request. Those that cannot are closed.
    pub(crate) fn take(&self) -> Option<Box<Http1Conn>> {
        let upstream = self.state.upstream();
        loop {
            let mut conn = self.conns.borrow_mut().pop()?;
            self.state.counts.idle_changed(-1);
            let lifetime = &mut conn.stream.lifetime;
            if lifetime.allows_use_after(conn.idle_since, upstream) && conn.is_usable() {
                return Some(conn);
            }
        }
    }

    /// Keeps an idle connection.
    fn keep(&self, mut conn: Box<Http1Conn>) {
        let upstream = self.state.upstream();
        if self.conns.borrow().len() < MAX_IDLE && conn.stream.lifetime.allows_use(upstream) {
            self.conns.borrow_mut().push(conn);
            self.state.counts.idle_changed(1);
            self.state.freed();
        }
    }

    /// Closes one; returns false if there is none.
    pub(crate) fn close_one(&self) -> bool {
        let has_one = self.conns.borrow_mut().pop().is_some();
        if has_one {
            self.state.counts.idle_changed(-1);
        }
        has_one
    }

    /// Closes those that have been idle for too long or are [no longer used](super::lifetime).
    pub(crate) fn evict(&self) {
        let upstream = self.state.upstream();
        self.conns.borrow_mut().retain_mut(|one| {
            let is_kept = one.stream.lifetime.allows_keeping(one.idle_since, upstream);
            if !is_kept {
                self.state.counts.idle_changed(-1);
            }
            is_kept
        });
    }
}

impl Drop for IdleConns {
    fn drop(&mut self) {
        for _ in self.conns.get_mut().drain(..) {
            self.state.counts.idle_changed(-1);
        }
    }
}

impl Http1Conn {
    /// A new, unused connection.
    ///
    /// Anything that the upstream sends before the first request counts as the response to it.
    /// Detecting it would need a system call, because the runtime does not know of it yet, and
    /// would not be reliable: it may arrive a moment later. If the real response follows it, the
    /// connection is closed.
    pub(crate) fn new(
        stream: UpstreamStream,
        home: Weak<IdleConns>,
        permit: ConnPermit,
    ) -> Box<Self> {
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

    /// Keeps it for another exchange; it has been idle since `now`.
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

    /// The counter for one more request on this connection; `None`: it leads to none of
    /// `upstreams`, or cannot carry another request.
    pub(crate) fn in_flight_for(
        &mut self,
        upstreams: &[Arc<Upstream>],
        client: Option<IpAddr>,
    ) -> Option<InFlight> {
        let in_flight = InFlight::new(&self.home.upgrade()?.state, client).ok()?;
        let is_to = |one: &Arc<Upstream>| one.id == in_flight.upstream().id;
        (upstreams.iter().any(is_to) && self.is_usable()).then_some(in_flight)
    }

    /// Whether anything arrived since the last response: the end of the connection, or bytes that
    /// would be misread as the next response. Unlike [`is_usable`](Self::is_usable), this makes a
    /// system call, because the system may know more than the runtime.
    pub(crate) fn is_readable(&self) -> bool {
        self.stream.is_readable()
    }

    /// Whether it can carry another request: nothing arrived since the last response, not even its
    /// end. This reads the runtime's state and makes no system call.
    pub(crate) fn is_usable(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        let read = poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut byte);
            Pin::new(&mut self.stream).poll_read(cx, &mut buffer)
        });
        // Unconstrained: in a task without budget left, the read would be pending even if data is
        // there.
        pin!(unconstrained(read)).poll(&mut cx).is_pending()
    }
}
