//! Resolves an upstream's host name on a dedicated thread, and again before the addresses are too
//! old.
//!
//! Whether a lookup is due does not depend on open connections: `Resolver::addresses` checks the
//! age of what it returns, so a name without connections is resolved when the next one is opened.
//! While connections are open, `Resolver::refresh` keeps the addresses recent enough that one the
//! name no longer has gets no new requests after 10 seconds.
//!
//! A failed lookup keeps the last addresses. Only one lookup of a name runs at a time, however many
//! requests need it.

use std::fs::File;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::net::descriptor_reserve::is_about_descriptors;

/// The maximum age of addresses that a new connection uses without another lookup. The system's
/// resolver does not report the time to live.
const MAX_AGE: Duration = Duration::from_secs(10);

/// How often a name with open connections is resolved in the background: Envoy's default
/// (`dns_refresh_rate`).
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);

/// The minimum time between the starts of two lookups of one name, unless an operator triggers one.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// How many background lookups run at a time, over all names. Others wait for the next turn.
const BACKGROUND_LOOKUPS: usize = 32;

/// How long a request waits for a lookup, from its start, if it can fall back to earlier addresses.
const PATIENCE: Duration = Duration::from_secs(1);

/// Resolves host names, and provides the clock by which addresses age.
///
/// The system's resolver, except in tests.
pub trait NameLookup: Send + Sync {
    /// The addresses of `host`; their ports are ignored. Runs on a thread that may block.
    ///
    /// # Errors
    ///
    /// Why there are no addresses.
    fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>>;

    /// The current time.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The addresses of one host name, shared by all workers and by all upstreams with that name.
#[derive(Clone, Debug)]
pub struct Resolver(Arc<ResolverState>);

struct ResolverState {
    host: Box<str>,
    lookup: Box<dyn NameLookup>,
    answer: ArcSwapOption<Resolution>,
    /// The version of `answer`: 0 before the first one.
    version: AtomicU64,
    /// Why the last look-up failed, if it did.
    failure: ArcSwapOption<io::Error>,
    is_looking_up: AtomicBool,
    /// Whether the addresses count as too old regardless of their age.
    is_expired: AtomicBool,
    /// When the last lookup began, in milliseconds since `created`, plus 1; 0 if there was none.
    began: AtomicU64,
    created: Instant,
    /// Notified at the end of each lookup.
    ended: Notify,
}

/// The result of a lookup.
#[derive(Debug)]
pub(crate) struct Resolution {
    /// In the resolver's order, with port 0.
    pub(crate) addresses: Box<[SocketAddr]>,
    /// Changes when the set of addresses changes.
    version: u64,
    at: Instant,
}

/// The address of an open connection to a named upstream.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedAddress {
    /// With port 0.
    address: SocketAddr,
    /// The latest result known to include it.
    version: u64,
}

impl Resolution {
    /// The address of a connection to one of these addresses.
    pub(crate) fn resolved(&self, mut address: SocketAddr) -> ResolvedAddress {
        address.set_port(0);
        ResolvedAddress {
            address,
            version: self.version,
        }
    }

    fn has_same_addresses(&self, other: &[SocketAddr]) -> bool {
        self.addresses.iter().all(|one| other.contains(one))
            && other.iter().all(|one| self.addresses.contains(one))
    }
}

impl Resolver {
    /// A resolver of `host` that uses the system's resolver.
    #[must_use]
    pub fn system(host: &str) -> Self {
        Self::new(host, SystemLookup)
    }

    /// A resolver of `host` that uses `lookup`.
    pub fn new(host: &str, lookup: impl NameLookup + 'static) -> Self {
        Self(Arc::new(ResolverState {
            host: host.into(),
            created: lookup.now(),
            lookup: Box::new(lookup),
            answer: ArcSwapOption::empty(),
            version: AtomicU64::new(0),
            failure: ArcSwapOption::empty(),
            is_looking_up: AtomicBool::new(false),
            is_expired: AtomicBool::new(false),
            began: AtomicU64::new(0),
            ended: Notify::new(),
        }))
    }

    /// The host name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// The addresses for a new connection. Waits for a lookup if there are none yet, and for a
    /// moment if they are older than [`MAX_AGE`].
    ///
    /// # Errors
    ///
    /// The resolver's error, as long as no lookup has succeeded.
    pub(crate) async fn addresses(&self) -> io::Result<Arc<Resolution>> {
        match self.0.answer.load_full() {
            Some(answer) if !self.0.is_expired() && self.0.age(&answer) < MAX_AGE => Ok(answer),
            Some(answer) => Ok(self.retry().await.unwrap_or(answer)),
            None => self.first().await,
        }
    }

    /// Resolves the name again because `answer` did not lead to a connection. `None`: the addresses
    /// are unchanged, or the last lookup began less than [`MIN_INTERVAL`] ago.
    pub(crate) async fn other_than(&self, answer: &Resolution) -> Option<Arc<Resolution>> {
        let latest = match self.0.answer.load_full() {
            Some(latest) if latest.version != answer.version => Some(latest),
            _ => self.retry().await,
        };
        latest.filter(|latest| latest.version != answer.version)
    }

    /// Resolves the name in the background if the last lookup began at least [`REFRESH_INTERVAL`]
    /// ago. Call it about once a second while connections are open.
    pub(crate) fn refresh(&self) {
        if self.0.is_expired() || self.0.since_last_began() >= REFRESH_INTERVAL {
            self.begin_in_background();
        }
    }

    /// Marks the addresses as too old, and resolves the name in the background.
    pub fn expire(&self) {
        self.0.is_expired.store(true, Ordering::Release);
        self.begin_in_background();
    }

    /// Resolves the name in the background after a failure that a new address might fix.
    pub(crate) fn suspect(&self) {
        if self.0.may_look_up_again() {
            self.begin_in_background();
        }
    }

    /// Whether the name still has a connection's address, by the latest lookup.
    pub(crate) fn still_has(&self, resolved: &mut ResolvedAddress) -> bool {
        if resolved.version == self.0.version.load(Ordering::Acquire) {
            return true;
        }
        let answer = self.0.answer.load();
        let Some(answer) = answer.as_ref() else {
            return true;
        };
        let has = answer.addresses.contains(&resolved.address);
        if has {
            resolved.version = answer.version;
        }
        has
    }

    async fn first(&self) -> io::Result<Arc<Resolution>> {
        // Created before the lookup begins, so that its end is not missed.
        let ended = self.0.ended.notified();
        self.begin();
        ended.await;
        self.0.answer.load_full().ok_or_else(|| {
            let failure = self.0.failure.load();
            failure.as_ref().map_or_else(
                || io::Error::new(io::ErrorKind::NotFound, "the look-up was abandoned"),
                |failure| copy_of(failure),
            )
        })
    }

    /// Waits for a lookup, running or new, until [`PATIENCE`] after its start.
    async fn retry(&self) -> Option<Arc<Resolution>> {
        let ended = self.0.ended.notified();
        if self.0.may_look_up_again() {
            self.begin();
        }
        if self.0.is_looking_up.load(Ordering::Acquire) {
            let left = PATIENCE.saturating_sub(self.0.since_last_began());
            // Whether or not it ended in time, the addresses known by then are used.
            let _ = tokio::time::timeout(left, ended).await;
        }
        self.0.answer.load_full()
    }

    fn begin_in_background(&self) {
        if UNDER_WAY.load(Ordering::Relaxed) < BACKGROUND_LOOKUPS {
            self.begin();
        }
    }

    /// Begins a lookup unless one is running. It gets a detached thread: a runtime waits for its
    /// own blocking threads when it shuts down, for as long as the resolver takes.
    fn begin(&self) {
        if self.0.is_looking_up.swap(true, Ordering::AcqRel) {
            return;
        }
        let lookup = LookupGuard::new(Arc::clone(&self.0));
        // Cleared here and not at the end of an earlier lookup, whose result may be older than the
        // request for a new one.
        self.0.is_expired.store(false, Ordering::Release);
        let since = lookup.0.lookup.now().duration_since(lookup.0.created);
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1);
        lookup.0.began.store(since + 1, Ordering::Release);
        let thread = thread::Builder::new().name("resolver".to_owned());
        if let Err(error) = thread.spawn(move || lookup.run()) {
            // The guard was dropped with the closure.
            self.0.failure.store(Some(Arc::new(error)));
        }
    }
}

impl ResolverState {
    fn age(&self, answer: &Resolution) -> Duration {
        self.lookup.now().saturating_duration_since(answer.at)
    }

    fn since_last_began(&self) -> Duration {
        let Some(began) = self.began.load(Ordering::Acquire).checked_sub(1) else {
            return Duration::MAX;
        };
        let since = self.lookup.now().saturating_duration_since(self.created);
        since.saturating_sub(Duration::from_millis(began))
    }

    fn is_expired(&self) -> bool {
        self.is_expired.load(Ordering::Acquire)
    }

    fn may_look_up_again(&self) -> bool {
        self.is_expired() || self.since_last_began() >= MIN_INTERVAL
    }

    fn learn(&self, outcome: io::Result<Vec<SocketAddr>>) {
        let host = &*self.host;
        let last = self.answer.load_full();
        let addresses = match outcome {
            Ok(addresses) => addresses,
            Err(error) => {
                let is_news = self.failure.swap(Some(Arc::new(error))).is_none();
                if is_news && last.is_some() {
                    let error = self.failure.load();
                    let error = error.as_ref().map(ToString::to_string);
                    tracing::warn!(
                        host,
                        error,
                        "cannot resolve upstream name; continuing with its last addresses"
                    );
                }
                return;
            }
        };
        self.failure.store(None);
        let at = self.lookup.now();
        let version = match &last {
            None => 1,
            Some(last) if last.has_same_addresses(&addresses) => last.version,
            Some(last) => {
                let (from, to) = (listed(&last.addresses), listed(&addresses));
                tracing::info!(host, from, to, "upstream addresses changed");
                last.version + 1
            }
        };
        self.answer.store(Some(Arc::new(Resolution {
            addresses: addresses.into(),
            version,
            at,
        })));
        self.version.store(version, Ordering::Release);
    }
}

/// A running lookup. It ends when this is dropped, even by a panic.
struct LookupGuard(Arc<ResolverState>);

/// How many lookups are running.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

impl LookupGuard {
    fn new(shared: Arc<ResolverState>) -> Self {
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }

    fn run(self) {
        let found = self.0.lookup.look_up(&self.0.host);
        self.0.learn(found.and_then(|mut addresses| {
            addresses.iter_mut().for_each(|one| one.set_port(0));
            let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            (!addresses.is_empty())
                .then_some(addresses)
                .ok_or_else(none)
        }));
    }
}

impl Drop for LookupGuard {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
        self.0.is_looking_up.store(false, Ordering::Release);
        self.0.ended.notify_waiters();
    }
}

impl fmt::Debug for ResolverState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, answer, .. } = self;
        let mut shown = f.debug_struct("Resolver");
        shown.field("host", host).field("answer", answer);
        shown.finish_non_exhaustive()
    }
}

/// The system's resolver.
struct SystemLookup;

impl NameLookup for SystemLookup {
    fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let found = (host, 0).to_socket_addrs().map(Iterator::collect);
        // Without a free file descriptor, the system's resolver may report that the name does not
        // exist.
        found.map_err(|error| match File::open("/dev/null") {
            Err(shortage) if is_about_descriptors(&shortage) => shortage,
            _ => error,
        })
    }
}

fn listed(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(|one| one.ip().to_string()).collect();
    addresses.join(", ")
}

/// Copies an error, so that all waiting requests get it.
fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::*;

    type Outcome = io::Result<Vec<SocketAddr>>;

    /// Lookups that end when and how the test says.
    struct Script {
        outcomes: Box<dyn Fn() -> Outcome + Send + Sync>,
        lookups: Arc<AtomicU64>,
        clock: Arc<AtomicU64>,
        created: Instant,
    }

    impl NameLookup for Script {
        fn look_up(&self, host: &str) -> Outcome {
            assert_eq!(host, "photos.internal");
            self.lookups.fetch_add(1, Ordering::SeqCst);
            (self.outcomes)()
        }

        fn now(&self) -> Instant {
            self.created + Duration::from_millis(self.clock.load(Ordering::SeqCst))
        }
    }

    struct Scripted {
        resolver: Resolver,
        lookups: Arc<AtomicU64>,
        /// In milliseconds.
        clock: Arc<AtomicU64>,
    }

    impl Scripted {
        fn new(outcomes: impl Fn() -> Outcome + Send + Sync + 'static) -> Self {
            let (lookups, clock) = (Arc::default(), Arc::default());
            let script = Script {
                outcomes: Box::new(outcomes),
                lookups: Arc::clone(&lookups),
                clock: Arc::clone(&clock),
                created: Instant::now(),
            };
            Self {
                resolver: Resolver::new("photos.internal", script),
                lookups,
                clock,
            }
        }

        /// Each lookup returns the next outcome that is sent.
        fn fed() -> (Self, mpsc::Sender<Outcome>) {
            let (send, outcomes) = mpsc::channel();
            #[expect(clippy::disallowed_types, reason = "a receiver is not Sync")]
            let outcomes = std::sync::Mutex::new(outcomes);
            let new = Self::new(move || outcomes.lock().unwrap().recv().unwrap());
            (new, send)
        }

        fn advance(&self, millis: u64) {
            self.clock.fetch_add(millis, Ordering::SeqCst);
        }

        fn lookups(&self) -> u64 {
            self.lookups.load(Ordering::SeqCst)
        }

        /// Waits for the running lookup to end.
        async fn settled(&self) {
            let ended = self.resolver.0.ended.notified();
            if self.resolver.0.is_looking_up.load(Ordering::SeqCst) {
                ended.await;
            }
        }
    }

    fn found(addresses: &[&str]) -> Outcome {
        Ok(addresses.iter().map(|one| one.parse().unwrap()).collect())
    }

    fn failure() -> Outcome {
        Err(io::Error::other("no resolver"))
    }

    #[tokio::test]
    async fn a_failed_lookup_is_an_error_only_without_earlier_addresses() {
        let (name, send) = Scripted::fed();
        send.send(failure()).unwrap();
        let error = name.resolver.addresses().await.unwrap_err();
        assert_eq!(error.to_string(), "no resolver");
        send.send(found(&[])).unwrap();
        let error = name.resolver.addresses().await.unwrap_err();
        assert_eq!(error.to_string(), "the name has no address");

        send.send(found(&["10.0.0.1:80", "10.0.0.2:80"])).unwrap();
        let answer = name.resolver.addresses().await.unwrap();
        assert_eq!(
            *answer.addresses,
            *found(&["10.0.0.1:0", "10.0.0.2:0"]).unwrap()
        );
        for outcome in [failure(), found(&[])] {
            name.advance(60_000);
            send.send(outcome).unwrap();
            let kept = name.resolver.addresses().await.unwrap();
            assert_eq!(kept.addresses, answer.addresses);
        }
        assert_eq!(name.lookups(), 5);
    }

    #[tokio::test]
    async fn only_old_addresses_are_resolved_again_on_use() {
        let name = Scripted::new(|| found(&["10.0.0.1:80"]));
        for (after, lookups) in [(0, 1), (9_999, 1), (1, 2), (9_999, 2), (60_000, 3)] {
            name.advance(after);
            name.resolver.addresses().await.unwrap();
            assert_eq!(name.lookups(), lookups);
        }
        name.resolver.expire();
        name.settled().await;
        assert_eq!(name.lookups(), 4);
    }

    #[tokio::test]
    async fn failures_cause_one_lookup_a_second() {
        let (name, send) = Scripted::fed();
        send.send(found(&["10.0.0.1:80"])).unwrap();
        let answer = name.resolver.addresses().await.unwrap();
        for _ in 0..100 {
            assert!(name.resolver.other_than(&answer).await.is_none());
            name.resolver.suspect();
            name.resolver.refresh();
        }
        assert_eq!(name.lookups(), 1);
        name.advance(1_000);
        send.send(found(&["10.0.0.1:80"])).unwrap();
        assert!(name.resolver.other_than(&answer).await.is_none());
        name.advance(1_000);
        send.send(found(&["10.0.0.2:80"])).unwrap();
        assert!(name.resolver.other_than(&answer).await.is_some());
        // Already known, so no lookup is needed.
        assert!(name.resolver.other_than(&answer).await.is_some());
        assert_eq!(name.lookups(), 3);
    }

    #[tokio::test]
    async fn only_a_missing_address_retires_its_connections() {
        let (name, send) = Scripted::fed();
        send.send(found(&["10.0.0.1:80", "10.0.0.2:80"])).unwrap();
        let answer = name.resolver.addresses().await.unwrap();
        let connections = ["10.0.0.1:9000", "10.0.0.2:9000"];
        let mut connections = connections.map(|one| answer.resolved(one.parse().unwrap()));
        for (addresses, expected) in [
            (&["10.0.0.2:80", "10.0.0.1:80"][..], [true, true]),
            (&["10.0.0.2:80", "10.0.0.3:80"], [false, true]),
            (&["10.0.0.3:80"], [false, false]),
            (&["10.0.0.1:80"], [true, false]),
        ] {
            name.advance(5_000);
            send.send(found(addresses)).unwrap();
            name.resolver.refresh();
            name.settled().await;
            let has = connections
                .each_mut()
                .map(|one| name.resolver.still_has(one));
            assert_eq!(has, expected, "{addresses:?}");
        }
    }

    #[tokio::test]
    async fn a_lookup_that_panics_is_followed_by_another() {
        let (name, send) = Scripted::fed();
        // The script panics when nothing more is sent.
        let first = name.resolver.addresses();
        drop(send);
        assert_eq!(first.await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let second = name.resolver.addresses().await;
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(name.lookups(), 2);
    }

    #[tokio::test]
    async fn a_lookup_begun_before_a_reload_does_not_count_for_it() {
        let (name, send) = Scripted::fed();
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = Box::pin(name.resolver.addresses());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        name.resolver.expire();
        send.send(found(&["10.0.0.1:80"])).unwrap();
        first.await.unwrap();
        send.send(found(&["10.0.0.2:80"])).unwrap();
        let answer = name.resolver.addresses().await.unwrap();
        assert_eq!(*answer.addresses, *found(&["10.0.0.2:0"]).unwrap());
    }

    #[tokio::test]
    async fn waiting_requests_share_one_lookup_even_if_the_first_is_dropped() {
        let code = rustix::io::Errno::MFILE.raw_os_error();
        for address in [Some("10.0.0.1:0"), None] {
            let (name, send) = Scripted::fed();
            let mut cx = Context::from_waker(Waker::noop());
            {
                let first = pin!(name.resolver.addresses());
                assert!(first.poll(&mut cx).is_pending());
            }
            let waiting = (0..100).map(|_| Box::pin(name.resolver.addresses()));
            let mut waiting: Vec<_> = waiting.collect();
            for one in &mut waiting {
                assert!(one.as_mut().poll(&mut cx).is_pending());
            }
            let outcome = match address {
                Some(address) => found(&[address]),
                None => Err(io::Error::from_raw_os_error(code)),
            };
            send.send(outcome).unwrap();
            for one in waiting {
                match (one.await, address) {
                    (Ok(answer), Some(address)) => {
                        assert_eq!(*answer.addresses, *found(&[address]).unwrap());
                    }
                    (Err(error), None) => assert_eq!(error.raw_os_error(), Some(code)),
                    (outcome, _) => panic!("{outcome:?}"),
                }
            }
            assert_eq!(name.lookups(), 1);
        }
    }
}
