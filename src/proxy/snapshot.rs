//! All that requests need to be answered, immutable; and the one cell that publishes it.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use crate::cors::Policy;
use crate::cors::ResourceType;
use crate::metrics::Counter;
use crate::metrics::RouteMetrics;

use super::bucket::{self, Addressed, Addressing};
use super::client::TrustedProxies;
use super::host::{Host, HostMap, HostPattern};
use super::upstream::Upstream;

/// What every request of one moment is answered from.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Rises by one with every applied reload; 1 at the start.
    pub generation: u64,
    /// Which of the routes serves a host.
    pub hosts: HostMap<usize>,
    /// The routes in config order.
    pub routes: Vec<Arc<Route>>,
    /// Who is believed whom they speak for.
    pub trusted_proxies: TrustedProxies,
}

impl Snapshot {
    /// The bucket that a request addresses, for people: it is looked up anew.
    pub(super) fn bucket(&self, authority: &[u8], path: &str) -> Option<String> {
        let host = Host::parse(authority).ok()?;
        let found = self.hosts.get(&host)?;
        let route = self.routes.get(*found.value)?;
        let bucket = route.policies.find(path, found.below).bucket?;
        Some(bucket.into_owned())
    }
}

/// Where the requests for some hosts go, and what CORS policy they are under.
#[derive(Debug)]
pub struct Route {
    /// The `route` label of metrics.
    pub name: Box<str>,
    /// The hosts it serves, in config order.
    pub hosts: Box<[HostPattern]>,
    /// The policies of its buckets and of the rest.
    pub policies: Policies,
    /// One or more; several: least outstanding requests.
    pub upstreams: Box<[Arc<Upstream>]>,
    /// What `Host` the upstream gets.
    pub host_header: HostHeader,
    /// What is added to forwarded messages.
    pub forwarding: Forwarding,
    /// Its counters.
    pub metrics: Arc<RouteMetrics>,
}

/// The CORS policies of a route.
#[derive(Debug, Default)]
pub struct Policies {
    /// The route's own, also for buckets that have none.
    pub route: Option<Arc<RoutePolicy>>,
    /// Per bucket.
    pub buckets: Option<Buckets>,
    /// Answers where neither the bucket nor the route has a policy; `None`: the route is
    /// transparent, CORS is the upstream's business.
    pub not_enabled: Option<Arc<RoutePolicy>>,
}

/// The policy that decides a request, and what the request addresses.
#[derive(Clone, Debug)]
pub struct FoundPolicy<'p, 'r> {
    /// Which one it is.
    pub scope: Scope,
    /// `None`: the route is transparent.
    pub policy: Option<&'p Arc<RoutePolicy>>,
    /// The bucket's name, on a route with buckets; `None` for a request to the service, too.
    pub bucket: Option<Cow<'r, str>>,
    /// What the path names.
    pub resource: ResourceType,
}

/// Which policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The bucket's own.
    Bucket,
    /// The route's.
    Route,
    /// There is none, so CORS is not enabled.
    NotEnabled,
    /// There is none, so the upstream decides.
    Transparent,
}

impl Policies {
    /// Finds the policy of a request for `path`, whose host stood `below` a wildcard: the
    /// bucket's own, else the route's.
    #[must_use]
    pub fn find<'r>(&self, path: &'r str, below: Option<&'r str>) -> FoundPolicy<'_, 'r> {
        let Addressed { bucket, resource } = match &self.buckets {
            Some(buckets) => buckets.addressing.find(path, below),
            None => Addressed {
                bucket: None,
                resource: bucket::resource_in_host(path),
            },
        };
        let name = bucket.as_deref();
        let own = self.buckets.as_ref().zip(name);
        let own = own.and_then(|(buckets, name)| buckets.policies.get(name));
        let (scope, policy) = match (own, &self.route, &self.not_enabled) {
            (Some(own), _, _) => (Scope::Bucket, Some(own)),
            (None, Some(route), _) => (Scope::Route, Some(route)),
            (None, None, Some(none)) => (Scope::NotEnabled, Some(none)),
            (None, None, None) => (Scope::Transparent, None),
        };
        FoundPolicy {
            scope,
            policy,
            bucket,
            resource,
        }
    }
}

/// The policies of a route's buckets.
#[derive(Debug)]
pub struct Buckets {
    /// How a request names its bucket.
    pub addressing: Addressing,
    /// The folder of their files; `None`: they are in none.
    pub directory: Option<Box<Path>>,
    /// By bucket name.
    pub policies: std::collections::HashMap<Box<str>, Arc<RoutePolicy>>,
}

/// A policy as a route holds it: with its counters and where it came from.
#[derive(Debug)]
pub struct RoutePolicy {
    /// What decides; routes whose policy is in the same file share it.
    pub policy: Arc<Policy>,
    /// One counter for each of [`Policy::origin_patterns`].
    pub allowed: Box<[Counter]>,
    /// Where it came from.
    pub source: Arc<Source>,
}

/// The file that a policy was read from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file; `None` where the policy has none (a bucket without CORS).
    pub file: Option<Arc<Path>>,
    /// A hash of its bytes; `None` where they could not be read.
    pub content_hash: Option<ContentHash>,
    /// When these bytes were read.
    pub loaded_at: Option<SystemTime>,
    /// Why a newer version of the file is not in force.
    pub last_error: Option<String>,
}

/// The SHA-256 of some bytes. `Display` is hexadecimal, as `sha256sum` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What `Host` field an upstream gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's: what SigV4 signs.
    #[default]
    Preserve,
    /// The upstream's own authority.
    Upstream,
}

/// What a route adds to the messages it forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// `Via`, on requests and responses (RFC 9110 §7.6.3).
    pub via: bool,
    /// `X-Forwarded-For`, and `-Host` and `-Proto` unless a listed proxy says them.
    pub x_forwarded: bool,
    /// `Forwarded` (RFC 7239).
    pub forwarded: bool,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            via: true,
            x_forwarded: false,
            forwarded: false,
        }
    }
}

/// The published snapshot: the only cell that the control thread writes and workers read.
#[derive(Debug)]
pub struct Current(ArcSwap<Snapshot>);

impl Current {
    /// Publishes a first snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(snapshot))
    }

    /// Makes `snapshot` what new requests are answered from; those under way finish on the one
    /// they began with.
    pub fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }

    /// The snapshot in force.
    #[must_use]
    pub fn get(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Whether `snapshot` is still the one in force. Costs one load, shared with nobody.
    #[must_use]
    pub fn is(&self, snapshot: &Arc<Snapshot>) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.0.load()), Arc::as_ptr(snapshot))
    }
}
