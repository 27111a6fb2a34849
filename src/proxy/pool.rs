//! One worker's connections to its upstreams.
//!
//! A connection is polled by the request that uses it: while it waits for the response's head,
//! and then by the response's body. No task stands between a client and its upstream, so no
//! request is handed over or woken across tasks. An idle connection is polled by nobody; whether
//! the upstream closed it is seen when it is taken up again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::balance::{Account, Lease, Seat, Turn};
use super::error::Error;
use super::lane::Raw;
use super::stream::Stream;
use super::upstream::Upstream;

mod http2;
mod interim_limit;

pub(super) use http2::Http2;
use http2::Opening;

/// The most idle connections a worker keeps to one upstream.
const MAX_IDLE: usize = 1024;

/// One worker's connections, by upstream.
pub(super) struct Pool {
    upstreams: RefCell<HashMap<u64, Rc<UpstreamPool>>>,
    /// How many workers share an upstream's limits.
    workers: usize,
    /// Upstreams that are asked equally much take turns.
    turn: Cell<usize>,
}

/// One worker's connections to one upstream.
pub(super) struct UpstreamPool {
    account: Rc<Account>,
    /// Idle HTTP/1.1 connections, newest last: the newest is taken first, so that the rest can age
    /// out.
    idle: RefCell<Vec<Raw>>,
    http2: RefCell<Option<Http2>>,
    http2_used: Cell<Instant>,
    /// How many HTTP/2 connections were opened.
    http2_opened: Cell<u64>,
    http2_opening: Opening,
}

/// A connection that is ready for a request.
pub(super) enum Ready {
    Http1(Raw),
    Http2 { connection: Http2, reused: bool },
}

/// What has become of a request's tries so far, by the upstreams' ids.
#[derive(Default)]
pub(super) struct Tries {
    /// Whose request it is; `None`: a client that is not counted.
    client: Option<IpAddr>,
    /// No connection could be had.
    unreachable: Vec<u64>,
    /// An idle connection turned out to be closed, so the next one is a new one.
    pub(super) stale: Vec<u64>,
    /// An HTTP/2 connection turned out to be closed, so the next one may be shared once more.
    pub(super) was_stale: bool,
    /// An upstream did nothing with the request. There is one more try: where upstreams have enough
    /// to do, more would make it worse.
    pub(super) was_refused: bool,
}

impl Tries {
    /// No tries yet, of a client's request.
    pub(super) fn of(client: Option<IpAddr>) -> Self {
        Self {
            client,
            ..Self::default()
        }
    }
}

/// What a request finds.
enum Place<T> {
    /// A connection that is open already.
    Taken(T),
    /// Room for a new one.
    Free(Seat),
}

impl Pool {
    /// No connections yet; each of `workers` has its share of an upstream's limits.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            upstreams: RefCell::default(),
            workers,
            turn: Cell::new(0),
        }
    }

    /// The usual case: one upstream, and a connection that waits for a request.
    pub(super) fn idle_raw(
        &self,
        upstreams: &[Arc<Upstream>],
        tries: &Tries,
    ) -> Option<(Lease, Raw)> {
        let [upstream] = upstreams else {
            return None;
        };
        let pool = self.of(upstream);
        if pool.account.has_queue() {
            return None;
        }
        let lease = Lease::new(&pool.account, tries.client).ok()?;
        Some((lease, pool.take_raw()?))
    }

    /// An HTTP/1.1 connection for an exchange on bytes (`proxy::lane`).
    pub(super) async fn checkout_raw(
        &self,
        upstreams: &[Arc<Upstream>],
        tries: &mut Tries,
    ) -> Result<(Lease, Raw), Error> {
        self.try_each(upstreams, tries, async |pool, tries| {
            let is_stale = tries.stale.contains(&pool.account.upstream().id);
            pool.raw(is_stale).await
        })
        .await
    }

    /// A connection of its own for a request that may leave HTTP (an upgrade).
    pub(super) async fn open(
        &self,
        upstreams: &[Arc<Upstream>],
        client: Option<IpAddr>,
    ) -> Result<(Lease, Stream, Seat), Error> {
        let mut tries = Tries::of(client);
        self.try_each(upstreams, &mut tries, async |pool, _| pool.stream().await)
            .await
            .map(|(lease, (stream, seat))| (lease, stream, seat))
    }

    /// A connection for a request, of whichever version the upstream speaks.
    pub(super) async fn checkout(
        &self,
        upstreams: &[Arc<Upstream>],
        tries: &mut Tries,
    ) -> Result<(Lease, Ready), Error> {
        self.try_each(upstreams, tries, async |pool, tries| {
            let is_stale = tries.stale.contains(&pool.account.upstream().id);
            pool.ready(is_stale).await
        })
        .await
    }

    /// What can first be had of the upstreams that could be reached before.
    async fn try_each<T>(
        &self,
        upstreams: &[Arc<Upstream>],
        tries: &mut Tries,
        have: impl AsyncFn(&Rc<UpstreamPool>, &Tries) -> Result<T, Error>,
    ) -> Result<(Lease, T), Error> {
        let mut failure = None;
        while let Some(pool) = self.next(upstreams, &tries.unreachable) {
            let lease = match Lease::new(&pool.account, tries.client) {
                Ok(lease) => lease,
                Err(error) => {
                    tries.unreachable.push(pool.account.upstream().id);
                    failure = Some(error);
                    continue;
                }
            };
            match have(&pool, tries).await {
                Ok(had) => return Ok((lease, had)),
                Err(error) => {
                    lease.failed(&error);
                    tries.unreachable.push(lease.upstream().id);
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or(Error::UnknownHost))
    }

    /// The upstream to try next.
    fn next(&self, upstreams: &[Arc<Upstream>], unreachable: &[u64]) -> Option<Rc<UpstreamPool>> {
        let turn = self.turn.get().checked_rem(upstreams.len())?;
        self.turn.set(turn + 1);
        let (before, from) = upstreams.split_at(turn);
        let left = from.iter().chain(before);
        left.filter(|upstream| !unreachable.contains(&upstream.id))
            .map(|upstream| self.of(upstream))
            .min_by_key(|pool| pool.account.rank())
    }

    fn of(&self, upstream: &Arc<Upstream>) -> Rc<UpstreamPool> {
        let mut upstreams = self.upstreams.borrow_mut();
        let pool = upstreams.entry(upstream.id).or_insert_with(|| {
            Rc::new(UpstreamPool {
                account: Account::new(upstream, self.workers),
                idle: RefCell::default(),
                http2: RefCell::default(),
                http2_used: Cell::new(Instant::now()),
                http2_opened: Cell::default(),
                http2_opening: Opening::new(&upstream.settings),
            })
        });
        Rc::clone(pool)
    }

    /// Gives an upstream's HTTP/2 connection no more requests.
    pub(super) fn retire_http2(&self, upstream: &Arc<Upstream>, number: u64) {
        self.of(upstream).retire_http2(number);
    }

    /// Keeps the addresses of upstreams with open connections up to date.
    pub(super) fn refresh_resolvers(&self) {
        for pool in self.upstreams.borrow().values() {
            if let Some(resolver) = pool.account.upstream().resolver() {
                resolver.refresh();
            }
        }
    }

    /// Closes connections that were idle for too long or are [no longer used](super::lifetime), and
    /// forgets upstreams to which none is left:
    /// those that no snapshot knows any more are gone so, and the others are soon known again.
    pub(super) fn evict(&self) {
        self.upstreams.borrow_mut().retain(|_, pool| {
            let upstream = pool.account.upstream();
            pool.idle
                .borrow_mut()
                .retain_mut(|one| one.stream.lifetime.allows_keeping(one.idle_since, upstream));
            pool.retire_outlived_http2();
            let limit = upstream.settings.timeouts.upstream_idle;
            if pool.account.is_idle() && pool.http2_used.get().elapsed() >= limit {
                pool.http2.replace(None);
            }
            !pool.account.is_unused()
        });
    }
}

impl UpstreamPool {
    /// Counts one more request.
    pub(super) fn lease(&self, client: Option<IpAddr>) -> Result<Lease, Error> {
        Lease::new(&self.account, client)
    }

    /// A connection that is ready for a request, a new one where `fresh` is asked for.
    async fn ready(self: &Rc<Self>, fresh: bool) -> Result<Ready, Error> {
        if !fresh {
            self.http2_opened().await?;
        }
        let seat = match self.place(fresh, || self.take()).await? {
            Place::Taken(ready) => return Ok(ready),
            Place::Free(seat) => seat,
        };
        let _opening = self.http2_opening.begin();
        let stream = Stream::connect(self.account.upstream()).await?;
        let speaks_http2 = stream.speaks_http2(self.account.upstream());
        if self.http2_opening.learned(speaks_http2) {
            let connection = self.open_http2(stream, seat).await?;
            let reused = false;
            return Ok(Ready::Http2 { connection, reused });
        }
        let raw = Raw::new(stream, Rc::downgrade(self), seat);
        Ok(Ready::Http1(raw))
    }

    /// The same, for HTTP/1.1 only.
    async fn raw(self: &Rc<Self>, fresh: bool) -> Result<Raw, Error> {
        let take = async || self.take_raw();
        match self.place(fresh, take).await? {
            Place::Taken(raw) => Ok(raw),
            Place::Free(seat) => {
                let stream = Stream::connect(self.account.upstream()).await?;
                Ok(Raw::new(stream, Rc::downgrade(self), seat))
            }
        }
    }

    /// A new connection for HTTP/1.1 that nothing was sent on.
    async fn stream(&self) -> Result<(Stream, Seat), Error> {
        let take = async || None::<std::convert::Infallible>;
        match self.place(true, take).await? {
            Place::Taken(never) => match never {},
            Place::Free(seat) => {
                let stream = Stream::connect_for_http1(self.account.upstream()).await?;
                Ok((stream, seat))
            }
        }
    }

    /// What `take` finds, unless it has to be `fresh`, or room for a new connection, for which it
    /// waits.
    async fn place<T>(
        &self,
        fresh: bool,
        take: impl AsyncFn() -> Option<T>,
    ) -> Result<Place<T>, Error> {
        let mut turn = None;
        loop {
            if turn.is_some() || !self.account.has_queue() {
                if !fresh && let Some(taken) = take().await {
                    return Ok(Place::Taken(taken));
                }
                if let Some(seat) = self.seat(fresh) {
                    return Ok(Place::Free(seat));
                }
            }
            self.wait(&mut turn).await?;
        }
    }

    /// Waits for a connection that becomes free; one request's wait has one limit.
    async fn wait<'a>(&'a self, turn: &mut Option<Turn<'a>>) -> Result<(), Error> {
        if turn.is_none() {
            *turn = Some(self.account.queue()?);
        }
        match turn {
            Some(turn) => turn.come().await,
            None => Ok(()),
        }
    }

    /// Room for a new connection. If it has to be a new one, an idle one makes room.
    fn seat(&self, fresh: bool) -> Option<Seat> {
        self.account.seat().or_else(|| {
            let makes_room = fresh && self.idle.borrow_mut().pop().is_some();
            self.account.seat().filter(|_| makes_room)
        })
    }

    /// A connection that is open already.
    async fn take(&self) -> Option<Ready> {
        if self.account.upstream().settings.http2
            && let Some(connection) = self.http2().await
        {
            let reused = true;
            return Some(Ready::Http2 { connection, reused });
        }
        self.take_raw().map(Ready::Http1)
    }

    fn take_raw(&self) -> Option<Raw> {
        let upstream = self.account.upstream();
        loop {
            let mut raw = self.idle.borrow_mut().pop()?;
            let lifetime = &mut raw.stream.lifetime;
            if lifetime.allows_use_after(raw.idle_since, upstream) && raw.is_usable() {
                return Some(raw);
            }
        }
    }

    /// Keeps a connection on which nothing is under way.
    pub(super) fn keep_raw(&self, mut raw: Raw) {
        let upstream = self.account.upstream();
        if self.idle.borrow().len() < MAX_IDLE && raw.stream.lifetime.allows_use(upstream) {
            self.idle.borrow_mut().push(raw);
            self.account.freed();
        }
    }
}
