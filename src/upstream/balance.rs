//! Chooses the upstream for a request, and tracks what one worker knows of each upstream: requests
//! under way, open connections, and requests waiting for one.
//!
//! It does not depend on the kind of connection (HTTP/1.1, HTTP/2, a tunnel). The code that opens a
//! connection holds a [`ConnPermit`] while it is open. A request holds an [`InFlight`] until its
//! response's body has ended, and reports through it whether the upstream answered.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::metrics::{UpstreamCounts, Worker};

use super::endpoint::{Upstream, UpstreamSettings};
use super::error::Error;
use super::reinstate::reinstate_after;

/// What one worker knows of one upstream.
pub(crate) struct UpstreamState {
    upstream: Arc<Upstream>,
    /// Requests under way.
    outstanding: Cell<usize>,
    /// Open connections, idle ones included.
    connections: Cell<usize>,
    /// The maximum: this worker's share.
    room: usize,
    /// Requests waiting for a connection.
    waiting: Cell<usize>,
    /// The maximum: this worker's share.
    most_waiting: usize,
    /// Wakes the request that has waited longest.
    freed: Notify,
    /// The clients of the requests under way.
    clients: RefCell<Clients>,
    /// How many of these requests one client may have: its part of this worker's share.
    most_of_client: usize,
    /// The same numbers for the metrics.
    pub(crate) counts: Arc<UpstreamCounts>,
}

/// The client addresses of the requests under way, each in its own slot.
///
/// Clients are counted only once there are enough requests for one client to exceed its share.
/// Until then, a request costs no lookup and no allocation.
#[derive(Default)]
struct Clients {
    slots: Vec<Option<IpAddr>>,
    free: Vec<usize>,
}

impl Clients {
    fn taken(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn count(&self, client: IpAddr) -> usize {
        let has = |slot: &&Option<IpAddr>| **slot == Some(client);
        self.slots.iter().filter(has).count()
    }

    fn take(&mut self, client: IpAddr) -> usize {
        match self.free.pop() {
            Some(slot) => {
                if let Some(taken) = self.slots.get_mut(slot) {
                    *taken = Some(client);
                }
                slot
            }
            None => {
                self.slots.push(Some(client));
                self.slots.len() - 1
            }
        }
    }

    fn release(&mut self, slot: usize) {
        if let Some(taken) = self.slots.get_mut(slot) {
            *taken = None;
        }
        self.free.push(slot);
        if self.taken() == 0 {
            self.slots.clear();
            self.free.clear();
        }
    }
}

impl UpstreamState {
    /// An empty state for one of `workers`.
    pub(crate) fn new(upstream: &Arc<Upstream>, worker: Worker, workers: usize) -> Rc<Self> {
        let limits = &upstream.settings.limits;
        Rc::new(Self {
            outstanding: Cell::new(0),
            connections: Cell::new(0),
            room: limits.connections.div_ceil(workers.max(1)),
            waiting: Cell::new(0),
            most_waiting: limits.queue.div_ceil(workers.max(1)),
            freed: Notify::new(),
            clients: RefCell::default(),
            most_of_client: most_of_client(&upstream.settings, workers),
            counts: upstream.counts(worker),
            upstream: Arc::clone(upstream),
        })
    }

    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// The order in which upstreams are tried, smallest first: healthy ones, then those with room,
    /// then by requests under way.
    ///
    /// An ejected upstream comes last but is never excluded: without any other, it is tried.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        let is_full = self.connections.get() >= self.room && self.outstanding.get() >= self.room;
        let is_ejected = !self.upstream.health.is_healthy();
        (is_ejected, is_full, self.outstanding.get())
    }

    /// Whether no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding.get() == 0
    }

    /// Whether it can be dropped: it has no requests and no connections.
    pub(crate) fn is_unused(&self) -> bool {
        self.is_idle() && self.connections.get() == 0
    }

    /// A permit for one more connection; `None`: the maximum is reached.
    pub(crate) fn connect_permit(self: &Rc<Self>) -> Option<ConnPermit> {
        (self.connections.get() < self.room).then(|| {
            self.connections.set(self.connections.get() + 1);
            self.counts.opened();
            ConnPermit(Rc::clone(self))
        })
    }

    /// Whether any request waits for a connection; later requests must not overtake it.
    pub(crate) fn has_queue(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Begins to wait for a connection.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if too many requests are waiting.
    pub(crate) fn queue(&self) -> Result<QueueTurn<'_>, Error> {
        if self.waiting.get() >= self.most_waiting {
            return Err(self.busy());
        }
        self.waiting.set(self.waiting.get() + 1);
        self.counts.queue_entered();
        Ok(QueueTurn {
            state: self,
            since: Instant::now(),
        })
    }

    /// Signals that a connection is available: the request that has waited longest looks for it.
    pub(crate) fn freed(&self) {
        if self.has_queue() {
            self.freed.notify_one();
        }
    }

    /// Counts a failed connection or request towards the upstream's health.
    pub(crate) fn failed(&self, error: &Error) {
        if error.is_upstreams_fault()
            && let Some(ejection) = self.upstream.health.failed(&self.upstream.settings.health)
        {
            tracing::warn!(
                upstream = %self.upstream,
                seconds = ejection.as_secs_f64(),
                "upstream ejected after consecutive failures"
            );
            reinstate_after(ejection, &self.upstream);
        }
    }

    fn busy(&self) -> Error {
        Error::Busy {
            upstream: self.upstream.to_string(),
        }
    }
}

/// How many requests one client may have under way to an upstream, in one worker.
fn most_of_client(settings: &UpstreamSettings, workers: usize) -> usize {
    // The number of streams that servers usually allow on a connection.
    const HTTP2_STREAMS: usize = 100;
    let limits = &settings.limits;
    if limits.client_share_percent >= 100 {
        return usize::MAX;
    }
    let each = if settings.http2 { HTTP2_STREAMS } else { 1 };
    let room = limits.connections.div_ceil(workers.max(1)) * each;
    (room * limits.client_share_percent).div_ceil(100).max(1)
}

/// Counts a request as under way to an upstream, as long as it lives.
pub(crate) struct InFlight {
    state: Rc<UpstreamState>,
    /// The slot of the client; `None`: the client is not counted.
    slot: Option<usize>,
}

impl InFlight {
    /// Begins a request of a client; `None`: the client is not counted.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if the client has reached its share.
    pub(crate) fn new(state: &Rc<UpstreamState>, client: Option<IpAddr>) -> Result<Self, Error> {
        if let Some(client) = client {
            let clients = state.clients.borrow();
            let most = state.most_of_client;
            if clients.taken() >= most && clients.count(client) >= most {
                return Err(state.busy());
            }
        }
        state.outstanding.set(state.outstanding.get() + 1);
        state.counts.request_begun();
        Ok(Self {
            slot: client.map(|client| state.clients.borrow_mut().take(client)),
            state: Rc::clone(state),
        })
    }

    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.state.upstream
    }

    /// Notes that the upstream answered, which clears earlier failures.
    pub(crate) fn answered(&self) {
        self.state.upstream.health.answered();
    }

    /// Notes that the upstream did not answer.
    pub(crate) fn failed(&self, error: &Error) {
        self.state.failed(error);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let outstanding = &self.state.outstanding;
        outstanding.set(outstanding.get() - 1);
        self.state.counts.request_ended();
        if let Some(slot) = self.slot {
            self.state.clients.borrow_mut().release(slot);
        }
    }
}

/// Counts a connection as open, as long as it lives.
pub(crate) struct ConnPermit(Rc<UpstreamState>);

impl Drop for ConnPermit {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.counts.closed();
        self.0.freed();
    }
}

/// A request's place in the queue for a connection.
pub(crate) struct QueueTurn<'a> {
    state: &'a UpstreamState,
    since: Instant,
}

impl QueueTurn<'_> {
    /// Waits until there may be a connection. If none is found after all, call it again.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if it took too long.
    pub(crate) async fn wait(&self) -> Result<(), Error> {
        let deadline = self.since + self.state.upstream.settings.timeouts.queue;
        timeout_at(deadline, self.state.freed.notified())
            .await
            .map_err(|_| self.state.busy())
    }
}

impl Drop for QueueTurn<'_> {
    fn drop(&mut self) {
        self.state.waiting.set(self.state.waiting.get() - 1);
        self.state.counts.queue_left(self.since.elapsed());
        // More than one may be available.
        self.state.freed();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::endpoint::{Address, UpstreamSettings};

    fn state(connections: usize, queue: usize) -> Rc<UpstreamState> {
        patient(connections, queue, Duration::from_secs(60))
    }

    fn patient(connections: usize, queue: usize, patience: Duration) -> Rc<UpstreamState> {
        let mut settings = UpstreamSettings::plain(Address::Unix("/none".into()));
        settings.limits.connections = connections;
        settings.limits.queue = queue;
        settings.timeouts.queue = patience;
        UpstreamState::new(&Arc::new(Upstream::new(settings).unwrap()), Worker(0), 1)
    }

    #[test]
    fn the_least_busy_upstream_wins_and_full_or_ejected_ones_come_last() {
        let (calm, loaded, full, ejected) = (state(9, 0), state(9, 0), state(1, 0), state(9, 0));
        let _leases = [&loaded, &loaded, &full].map(|state| InFlight::new(state, None));
        let _permit = full.connect_permit();
        let threshold = ejected.upstream.settings.health.failures;
        (0..threshold).for_each(|_| {
            let settings = &ejected.upstream.settings.health;
            ejected.upstream.health.failed(settings);
        });
        let mut accounts = [&ejected, &full, &loaded, &calm];
        accounts.sort_by_key(|state| state.rank());
        let order = [&calm, &loaded, &full, &ejected];
        for (state, expected) in accounts.iter().zip(order) {
            assert!(Rc::ptr_eq(state, expected));
        }
    }

    #[tokio::test]
    async fn waiting_requests_get_connections_in_order() {
        let state = state(1, 2);
        let permit = state.connect_permit().unwrap();
        assert!(state.connect_permit().is_none());
        let (first, second) = (state.queue().unwrap(), state.queue().unwrap());
        assert!(state.queue().is_err(), "a third request is refused at once");
        let freed = async {
            drop(permit);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            came = first.wait() => came.unwrap(),
            () = freed => {}
        }
        assert!(state.connect_permit().is_some() && state.has_queue());
        drop(first);
        second.wait().await.unwrap();
        drop(second);
        assert!(!state.has_queue());
    }

    #[tokio::test]
    async fn waiting_for_a_connection_has_a_time_limit() {
        let state = patient(1, 1, Duration::from_millis(1));
        let _permit = state.connect_permit().unwrap();
        let error = state.queue().unwrap().wait().await.unwrap_err();
        assert!(matches!(error, Error::Busy { .. }) && !error.is_upstreams_fault());
        assert!(!state.has_queue());
    }

    #[test]
    fn a_client_gets_no_more_than_its_share() {
        let state = state(10, 100);
        let [one, other] = [1, 2].map(|last| Some(IpAddr::from([192, 0, 2, last])));
        let in_flight = |client| InFlight::new(&state, client);
        // A quarter of ten, rounded up.
        let mut leases: Vec<_> = (0..3).map(|_| in_flight(one).unwrap()).collect();
        assert!(matches!(in_flight(one), Err(Error::Busy { .. })));
        let _others: Vec<_> = (0..3).map(|_| in_flight(other).unwrap()).collect();
        assert!(in_flight(other).is_err());
        let _uncounted: Vec<_> = (0..20).map(|_| in_flight(None).unwrap()).collect();
        leases.pop();
        let _again = in_flight(one).unwrap();
        assert!(in_flight(one).is_err());
        leases.clear();
        assert_eq!(state.clients.borrow().count(one.unwrap()), 1);
    }

    #[test]
    fn a_share_of_100_percent_is_no_limit() {
        let mut settings = UpstreamSettings::plain(Address::Unix("/none".into()));
        settings.limits.connections = 1;
        settings.limits.client_share_percent = 100;
        let state = UpstreamState::new(&Arc::new(Upstream::new(settings).unwrap()), Worker(0), 1);
        let client = Some(IpAddr::from([192, 0, 2, 1]));
        let leases: Vec<_> = (0..9).map(|_| InFlight::new(&state, client)).collect();
        assert!(leases.iter().all(Result::is_ok));
    }

    #[test]
    fn workers_share_the_limits() {
        let mut settings = UpstreamSettings::plain(Address::Unix("/none".into()));
        settings.limits.connections = 5;
        let state = UpstreamState::new(&Arc::new(Upstream::new(settings).unwrap()), Worker(0), 2);
        let seats: Vec<_> = std::iter::from_fn(|| state.connect_permit()).collect();
        assert_eq!(seats.len(), 3);
    }
}
