//! The immutable state that requests are answered from, and the one cell that publishes it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use crate::cors::{Options, Policy, ResourceType};
use crate::metrics::{Counter, RouteMetrics};
use crate::net::listener_id::ListenerId;
use crate::tls::digest::ContentHash;
use crate::upstream::endpoint::Upstream;

use super::bucket;
use super::bucket::{Addressed, Addressing, Ambiguity, MatchedHost};
use super::client::TrustedProxies;
use super::cors_api::CorsApi;
use super::host::{Host, HostMap, HostPattern};

/// Everything that requests are answered from at one time.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// 1 at the start; each applied reload adds one.
    pub generation: u64,
    /// Maps hosts to routes.
    pub hosts: HostMap<usize>,
    /// The routes in config order.
    pub routes: Vec<Arc<Route>>,
    /// The peers whose forwarded client address is trusted.
    pub trusted_proxies: TrustedProxies,
}

impl Snapshot {
    /// The bucket that a request addresses, or why stores could find different ones. Only for the
    /// log: it is looked up again.
    pub(crate) fn bucket(&self, authority: &[u8], path: &str) -> Result<Option<String>, Ambiguity> {
        let host = Host::parse(authority).ok();
        let found = host.as_ref().and_then(|host| self.hosts.get(host));
        let Some(found) = found else { return Ok(None) };
        let Some(route) = self.routes.get(*found.value) else {
            return Ok(None);
        };
        let found = route.policies.find(path, found.host());
        match found.scope {
            Scope::Ambiguous(ambiguity) => Err(ambiguity),
            _ => Ok(found.bucket.map(Cow::into_owned)),
        }
    }
}

/// Where requests for some hosts go, and which CORS policy applies to them.
#[derive(Debug)]
pub struct Route {
    /// The `route` label of metrics.
    pub name: Box<str>,
    /// The hosts it serves, in config order.
    pub hosts: Box<[HostPattern]>,
    /// The policies of its buckets and of all other requests.
    pub policies: Policies,
    /// At least one. Several are balanced by least outstanding requests.
    pub upstreams: Box<[Arc<Upstream>]>,
    /// The listeners that it is reachable on; `None`: all.
    pub listeners: Option<Box<[ListenerId]>>,
    /// Which `Host` the upstream gets.
    pub host_header: HostHeader,
    /// What is added to forwarded messages.
    pub forwarding: Forwarding,
    /// Whether refused requests get the reason in `X-S3Cors-Reason`.
    pub explain_header: bool,
    /// Handles requests for its buckets' CORS configurations; `None`: they are refused.
    pub cors_api: Option<CorsApi>,
    /// Its counters.
    pub metrics: Arc<RouteMetrics>,
}

impl Route {
    /// Whether it is reachable on a listener.
    #[must_use]
    pub fn is_bound_to(&self, listener: ListenerId) -> bool {
        let listeners = self.listeners.as_ref();
        listeners.is_none_or(|listeners| listeners.contains(&listener))
    }
}

/// The CORS policies of a route.
#[derive(Debug, Default)]
pub struct Policies {
    /// The route's own policy, which also applies to buckets without one.
    pub route: Option<Arc<RoutePolicy>>,
    /// The policies of buckets.
    pub buckets: Option<Buckets>,
    /// Applies if neither the bucket nor the route has a policy; `None`: the route is transparent
    /// and the upstream decides about CORS.
    pub not_enabled: Option<Arc<RoutePolicy>>,
}

/// The policy that decides about a request, and what the request addresses.
#[derive(Clone, Debug)]
pub struct FoundPolicy<'p, 'r> {
    /// Which policy it is.
    pub scope: Scope,
    /// `None`: the route is transparent.
    pub policy: Option<&'p Arc<RoutePolicy>>,
    /// The bucket's name, on a route with buckets; `None` also for a request to the service.
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
    /// None applies, so CORS is not enabled.
    NotEnabled,
    /// None applies, so the upstream decides.
    Transparent,
    /// None applies: stores could find different buckets in the request, so CORS is not enabled for
    /// it.
    Ambiguous(Ambiguity),
}

impl Policies {
    /// Finds the policy of a request for `path`: the bucket's own, otherwise the route's. Neither
    /// applies if stores could find different buckets in the request.
    #[must_use]
    pub fn find<'r>(&self, path: &'r str, host: MatchedHost<'r>) -> FoundPolicy<'_, 'r> {
        let Some(buckets) = &self.buckets else {
            return self.elsewhere(None, bucket::resource_in_host(path));
        };
        match buckets.find(path, host) {
            Err(ambiguity) => FoundPolicy {
                scope: Scope::Ambiguous(ambiguity),
                policy: Some(&buckets.ambiguous),
                bucket: None,
                resource: bucket::resource_in_host(path),
            },
            Ok((Some(own), addressed)) => FoundPolicy {
                scope: Scope::Bucket,
                policy: Some(own),
                bucket: addressed.bucket,
                resource: addressed.resource,
            },
            Ok((None, addressed)) => self.elsewhere(addressed.bucket, addressed.resource),
        }
    }

    /// The policy of requests whose bucket has none.
    fn elsewhere<'r>(
        &self,
        bucket: Option<Cow<'r, str>>,
        resource: ResourceType,
    ) -> FoundPolicy<'_, 'r> {
        let (scope, policy) = match (&self.route, &self.not_enabled) {
            (Some(route), _) => (Scope::Route, Some(route)),
            (None, Some(none)) => (Scope::NotEnabled, Some(none)),
            (None, None) => (Scope::Transparent, None),
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
    /// The folder of their files; `None`: they are not in files.
    pub directory: Option<Box<Path>>,
    /// By bucket name. The policy of the service root, where buckets are listed, is under
    /// [`SERVICE_ROOT`].
    pub policies: HashMap<Box<str>, Arc<RoutePolicy>, RandomState>,
    /// Decides about requests in which stores could find different buckets: CORS is not enabled.
    pub ambiguous: Arc<RoutePolicy>,
}

/// The key for the policy of the service root: no bucket's name is empty.
pub const SERVICE_ROOT: &str = "";

impl Buckets {
    /// The bucket that a request addresses, and its own policy, if any.
    fn find<'r>(
        &self,
        path: &'r str,
        host: MatchedHost<'r>,
    ) -> Result<(Option<&Arc<RoutePolicy>>, Addressed<'r>), Ambiguity> {
        let addressed = self.addressing.find(path, host)?;
        let own = |name: &Option<Cow<'_, str>>| self.policies.get(name.as_deref()?);
        // If the host names no bucket, a store reads the path, although the route does not.
        if own(&addressed.in_path).is_some() {
            return Err(Ambiguity::PathOrHost);
        }
        let is_service = addressed.bucket.is_none() && addressed.in_path.is_none();
        let found = match is_service {
            true => self.policies.get(SERVICE_ROOT),
            false => own(&addressed.bucket),
        };
        Ok((found, addressed))
    }
}

/// A policy on a route, with its counters and its source.
#[derive(Debug)]
pub struct RoutePolicy {
    /// The policy; routes with the same file share it.
    pub policy: Arc<Policy>,
    /// One counter for each of [`Policy::origin_patterns`].
    pub allowed: Box<[Counter]>,
    /// Its source.
    pub source: Arc<PolicySource>,
}

impl RoutePolicy {
    /// The policy for buckets without a CORS configuration.
    #[must_use]
    pub fn not_enabled(options: Options, source: PolicySource) -> Self {
        Self {
            policy: Arc::new(Policy::not_enabled(options)),
            allowed: Box::default(),
            source: Arc::new(source),
        }
    }
}

/// The file that a policy was loaded from.
#[derive(Clone, Debug, Default)]
pub struct PolicySource {
    /// The file; `None` if there is none (a bucket without CORS).
    pub file: Option<Arc<Path>>,
    /// A hash of its bytes; `None` if they could not be read.
    pub content_hash: Option<ContentHash>,
    /// When these bytes were loaded.
    pub loaded_at: Option<SystemTime>,
    /// Why a newer version of the file is not in force.
    pub last_error: Option<String>,
    /// Whether the policy is the last good one from the state folder, because the file was invalid at the
    /// start.
    pub from_state: bool,
}

/// Which `Host` field an upstream gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's, which SigV4 signs.
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
    /// `X-Forwarded-For`, and `-Host` and `-Proto` unless a trusted proxy sent them.
    pub x_forwarded: bool,
    /// `Forwarded` (RFC 7239).
    pub forwarded: bool,
    /// `X-Real-IP`, unless a trusted proxy sent it.
    pub x_real_ip: bool,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            via: true,
            x_forwarded: false,
            forwarded: false,
            x_real_ip: false,
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

    /// Makes new requests use `snapshot`; those in progress finish on the one they began with.
    pub fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }

    /// The snapshot in force.
    #[must_use]
    pub fn get(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Whether `snapshot` is still in force. Costs one load.
    #[must_use]
    pub fn is(&self, snapshot: &Arc<Snapshot>) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.0.load()), Arc::as_ptr(snapshot))
    }
}
