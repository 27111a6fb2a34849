//! Takes a connection for a request: chooses the upstream, then one of its connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;

use crate::metrics::{RetryReason, RouteCounts, Worker};
use crate::upstream::balance::{ConnPermit, InFlight, UpstreamState};
use crate::upstream::endpoint::Upstream;
use crate::upstream::error::Error;
use crate::upstream::http1_conn::{Http1Conn, IdleConns};
use crate::upstream::stream::UpstreamStream;

use super::http2_conn::Opening;
use super::upstream_pool::{Ready, UpstreamPool};

/// One worker's connections, by upstream.
pub(crate) struct Pool {
    upstreams: RefCell<HashMap<u64, Rc<UpstreamPool>, RandomState>>,
    /// Whose connections they are.
    worker: Worker,
    /// How many workers share an upstream's limits.
    workers: usize,
    /// Equally busy upstreams take turns.
    turn: Cell<usize>,
}

/// What has failed in a request's earlier tries, by the upstreams' ids.
pub(crate) struct Tries<'c> {
    /// What counts them.
    counts: &'c RouteCounts,
    /// The client; `None`: it is not counted.
    client: Option<IpAddr>,
    /// Upstreams to which no connection was possible.
    unreachable: Vec<u64>,
    /// Upstreams whose idle connection turned out to be closed, so that the next one must be new.
    pub(crate) stale: Vec<u64>,
    /// Whether a shared HTTP/2 connection turned out to be closed; the next one may be shared
    /// again.
    pub(crate) was_stale: bool,
    /// Whether an upstream refused the request without processing it. It is tried only once more:
    /// if upstreams are overloaded, more tries would make it worse.
    pub(crate) was_refused: bool,
}

impl<'c> Tries<'c> {
    /// No tries yet, for a client's request, counted in its route's `counts`.
    pub(crate) fn of(client: Option<IpAddr>, counts: &'c RouteCounts) -> Self {
        Self {
            counts,
            client,
            unreachable: Vec::new(),
            stale: Vec::new(),
            was_stale: false,
            was_refused: false,
        }
    }
}

impl Pool {
    /// An empty pool of `worker`; each of `workers` has its share of an upstream's limits.
    pub(crate) fn new(worker: Worker, workers: usize) -> Self {
        Self {
            worker,
            upstreams: RefCell::default(),
            workers,
            turn: Cell::new(0),
        }
    }

    /// The usual case: a single upstream with an idle connection.
    pub(crate) fn idle_http1(
        &self,
        upstreams: &[Arc<Upstream>],
        client: Option<IpAddr>,
    ) -> Option<(InFlight, Box<Http1Conn>)> {
        let [upstream] = upstreams else {
            return None;
        };
        let pool = self.of(upstream);
        if pool.state.has_queue() {
            return None;
        }
        let in_flight = InFlight::new(&pool.state, client).ok()?;
        Some((in_flight, pool.idle.take()?))
    }

    /// An HTTP/1.1 connection for a byte-level exchange (`proxy::carry_out`).
    pub(crate) async fn checkout_http1(
        &self,
        upstreams: &[Arc<Upstream>],
        tries: &mut Tries<'_>,
    ) -> Result<(InFlight, Box<Http1Conn>), Error> {
        self.try_each(upstreams, tries, async |pool, tries| {
            let is_stale = tries.stale.contains(&pool.state.upstream().id);
            pool.http1(is_stale).await
        })
        .await
    }

    /// A dedicated connection for a request that may switch protocols (an upgrade).
    pub(crate) async fn open(
        &self,
        upstreams: &[Arc<Upstream>],
        tries: &mut Tries<'_>,
    ) -> Result<(InFlight, UpstreamStream, ConnPermit), Error> {
        self.try_each(upstreams, tries, async |pool, _| pool.stream().await)
            .await
            .map(|(in_flight, (stream, permit))| (in_flight, stream, permit))
    }

    /// A connection for a request, in whichever HTTP version the upstream speaks.
    pub(crate) async fn checkout(
        &self,
        upstreams: &[Arc<Upstream>],
        tries: &mut Tries<'_>,
    ) -> Result<(InFlight, Ready), Error> {
        self.try_each(upstreams, tries, async |pool, tries| {
            let is_stale = tries.stale.contains(&pool.state.upstream().id);
            pool.ready(is_stale).await
        })
        .await
    }

    /// Tries the upstreams that have not failed yet, until one succeeds.
    async fn try_each<T>(
        &self,
        upstreams: &[Arc<Upstream>],
        tries: &mut Tries<'_>,
        have: impl AsyncFn(&Rc<UpstreamPool>, &Tries<'_>) -> Result<T, Error>,
    ) -> Result<(InFlight, T), Error> {
        let mut failure = None;
        while let Some(pool) = self.next(upstreams, &tries.unreachable) {
            match &failure {
                None => {}
                Some(Error::Busy { .. }) => tries.counts.retry(RetryReason::Busy),
                Some(_) => tries.counts.retry(RetryReason::Connect),
            }
            let in_flight = match InFlight::new(&pool.state, tries.client) {
                Ok(in_flight) => in_flight,
                Err(error) => {
                    tries.unreachable.push(pool.state.upstream().id);
                    failure = Some(error);
                    continue;
                }
            };
            match have(&pool, tries).await {
                Ok(had) => return Ok((in_flight, had)),
                Err(error) => {
                    in_flight.failed(&error);
                    tries.unreachable.push(in_flight.upstream().id);
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
            .min_by_key(|pool| pool.state.rank())
    }

    fn of(&self, upstream: &Arc<Upstream>) -> Rc<UpstreamPool> {
        let mut upstreams = self.upstreams.borrow_mut();
        let pool = upstreams.entry(upstream.id).or_insert_with(|| {
            let state = UpstreamState::new(upstream, self.worker, self.workers);
            Rc::new(UpstreamPool {
                idle: IdleConns::new(Rc::clone(&state)),
                state,
                http2: RefCell::default(),
                http2_used: Cell::new(Instant::now()),
                http2_opened: Cell::default(),
                http2_opening: Opening::new(&upstream.settings),
            })
        });
        Rc::clone(pool)
    }

    /// Sends no more requests over one of an upstream's HTTP/2 connections.
    pub(crate) fn retire_http2(&self, upstream: &Arc<Upstream>, number: u64) {
        self.of(upstream).retire_http2(number);
    }

    /// Refreshes the addresses of upstreams with open connections.
    pub(crate) fn refresh_resolvers(&self) {
        for pool in self.upstreams.borrow().values() {
            if let Some(resolver) = pool.state.upstream().resolver() {
                resolver.refresh();
            }
        }
    }

    /// Closes connections that have been idle for too long or are [no longer
    /// used](super::lifetime), and forgets upstreams without connections. Those still in a snapshot
    /// are added again when they are used.
    pub(crate) fn evict(&self) {
        self.upstreams.borrow_mut().retain(|_, pool| {
            let upstream = pool.state.upstream();
            pool.idle.evict();
            pool.retire_outlived_http2();
            let limit = upstream.settings.timeouts.upstream_idle;
            if pool.state.is_idle() && pool.http2_used.get().elapsed() >= limit {
                pool.http2.replace(None);
            }
            !pool.state.is_unused()
        });
    }
}
