//! Builds a snapshot from a loaded config, and keeps everything that did not change.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use http::Method;

use foldhash::fast::RandomState;

use crate::cors::{Options, Policy, Semantics};
use crate::metrics::{Metrics, RouteMetrics};
use crate::net::listener_id::ListenerId;
use crate::routing::cors_api::CorsApi;
use crate::routing::host::{HostMap, HostPattern};
use crate::routing::snapshot::{Buckets, Policies, PolicySource, Route, RoutePolicy, Snapshot};
use crate::upstream::endpoint::{Upstream, UpstreamSettings};
use crate::upstream::resolver::Resolver;

use super::Loaded;
use super::build_api;
use super::policies::RoutePolicies;
use super::policy_file::{Document, PolicyFile};
use super::route::RouteConfig;

impl Loaded {
    /// Builds the snapshot; `None` if the config is invalid.
    ///
    /// Upstreams and policies that are unchanged since `previous` stay the same objects, so that
    /// connections and counters live on. If a policy is invalid, the one of `previous` stays in
    /// force. Without one, a bucket is answered as a bucket without CORS; a route is omitted, or
    /// with `keep_going` served without CORS.
    #[must_use]
    pub fn snapshot(
        &self,
        metrics: &Metrics,
        previous: Option<&Snapshot>,
        generation: u64,
        keep_going: bool,
    ) -> Option<Snapshot> {
        let config = self.config.as_ref()?;
        let mut builder = Builder::new(metrics, previous, keep_going);
        let mut snapshot = Snapshot {
            generation,
            hosts: HostMap::default(),
            routes: Vec::with_capacity(config.routes.len()),
            trusted_proxies: config.trusted_proxies.clone(),
        };
        for (route, policies) in config.routes.iter().zip(&self.policies) {
            let Some(route) = builder.route(route, policies) else {
                continue;
            };
            for host in &route.hosts {
                // Checked: hosts are unique.
                let _ = snapshot.hosts.insert(host.clone(), snapshot.routes.len());
            }
            snapshot.routes.push(route);
        }
        Some(snapshot)
    }
}

struct Builder<'b> {
    metrics: &'b Metrics,
    keep_going: bool,
    by_name: HashMap<&'b str, &'b Arc<Route>>,
    by_host: HashMap<&'b HostPattern, &'b Arc<Route>>,
    upstreams: HashMap<UpstreamSettings, Arc<Upstream>>,
    /// By host name: upstreams with the same name share lookups.
    resolvers: HashMap<Box<str>, Resolver>,
    not_enabled: HashMap<(Semantics, Vec<Method>), Arc<RoutePolicy>>,
}

impl<'b> Builder<'b> {
    fn new(metrics: &'b Metrics, previous: Option<&'b Snapshot>, keep_going: bool) -> Self {
        let routes = previous.map_or(&[][..], |snapshot| &snapshot.routes);
        let upstreams = || routes.iter().flat_map(|route| &route.upstreams);
        let resolvers = upstreams().filter_map(|upstream| upstream.resolver());
        let by_host = |route: &'b Arc<Route>| route.hosts.iter().map(move |host| (host, route));
        Self {
            metrics,
            keep_going,
            by_name: routes.iter().map(|route| (&*route.name, route)).collect(),
            by_host: routes.iter().flat_map(by_host).collect(),
            resolvers: resolvers
                .map(|resolver| (resolver.host().into(), resolver.clone()))
                .collect(),
            upstreams: upstreams()
                .map(|upstream| (upstream.settings.clone(), Arc::clone(upstream)))
                .collect(),
            not_enabled: HashMap::new(),
        }
    }

    fn route(&mut self, config: &RouteConfig, files: &RoutePolicies) -> Option<Arc<Route>> {
        let before = self.by_name.get(&*config.name).copied();
        let before = before.or_else(|| {
            config
                .hosts
                .iter()
                .find_map(|host| self.by_host.get(host).copied())
        });
        let metrics = self.metrics.route(&config.name);
        let policies = self.policies(config, files, before, &metrics)?;
        let upstreams: Box<[_]> = if config.keeps_upstreams {
            before?.upstreams.clone()
        } else {
            let upstreams = config.upstreams.iter();
            upstreams
                .filter_map(|settings| self.upstream(settings))
                .collect()
        };
        let healths = upstreams.iter().map(|upstream| upstream.shown_health());
        metrics.show_upstreams(healths.collect());
        let cors_api = build_api::cors_api(config, &upstreams, self.metrics, before);
        Some(Arc::new(Route {
            name: config.name.clone(),
            hosts: config.hosts.iter().cloned().collect(),
            policies,
            upstreams,
            listeners: config.listen.as_ref().map(|names| {
                let ids = names
                    .iter()
                    .map(|name| ListenerId::of(Some(name.get_ref())));
                ids.collect()
            }),
            host_header: config.host_header,
            forwarding: config.forwarding,
            explain_header: config.explain_header,
            cors_api,
            metrics,
        }))
    }

    fn upstream(&mut self, settings: &UpstreamSettings) -> Option<Arc<Upstream>> {
        if let Some(known) = self.upstreams.get(settings) {
            return Some(Arc::clone(known));
        }
        // Checked: every upstream of the config can be built.
        let upstream = Upstream::resolved_by(settings.clone(), |host| {
            let shared = self.resolvers.entry(host.into());
            shared.or_insert_with(|| Resolver::system(host)).clone()
        });
        let upstream = Arc::new(upstream.ok()?);
        upstream.count_with(self.metrics.upstream(&upstream.url()));
        self.upstreams
            .insert(settings.clone(), Arc::clone(&upstream));
        Some(upstream)
    }

    fn not_enabled(&mut self, options: &Options) -> Arc<RoutePolicy> {
        let key = (options.semantics, options.extra_methods.clone());
        let none = PolicySource::default();
        let make = || Arc::new(RoutePolicy::not_enabled(options.clone(), none));
        Arc::clone(self.not_enabled.entry(key).or_insert_with(make))
    }

    /// `None` if the route cannot be served safely.
    fn policies(
        &mut self,
        config: &RouteConfig,
        files: &RoutePolicies,
        before: Option<&'b Arc<Route>>,
        metrics: &Arc<RouteMetrics>,
    ) -> Option<Policies> {
        let last_good = before.map(|route| &route.policies);
        let policy = Maker {
            options: &config.options,
            metrics,
            before_metrics: before.map(|route| &route.metrics),
        };
        let mut policies = Policies {
            route: None,
            buckets: None,
            not_enabled: config
                .is_managed()
                .then(|| self.not_enabled(&config.options)),
        };
        if let Some(file) = &files.own {
            let own = last_good.and_then(|policies| policies.route.as_ref());
            policies.route = match (&file.document, own) {
                (Ok(document), own) => Some(policy.good(document, own)),
                (Err(error), Some(own)) => Some(policy.kept(own, error)),
                (Err(error), None) => match last_good {
                    // It had no policy, and keeps none.
                    Some(last_good) => {
                        policies.not_enabled.clone_from(&last_good.not_enabled);
                        None
                    }
                    None if self.keep_going => Some(policy.missing(file, error)),
                    None => return None,
                },
            };
        }
        let Some((files, buckets)) = files.buckets.as_ref().zip(config.buckets.as_ref()) else {
            return Some(policies);
        };
        let before = last_good.and_then(|policies| policies.buckets.as_ref());
        let ambiguous = self.not_enabled(&config.options);
        policies.buckets = match (files, before) {
            (Ok(files), before) => {
                let of = |name: &str| before.and_then(|before| before.policies.get(name));
                let made = files.iter().filter_map(|(name, file)| {
                    let made = match (&file.document, of(name)) {
                        (Ok(document), before) => policy.good(document, before),
                        (Err(error), Some(before)) => policy.kept(before, error),
                        // A new, invalid file: at a reload nothing changes for the bucket; at a
                        // start it must not get the route's policy, which may allow more.
                        (Err(error), None) if last_good.is_none() => policy.missing(file, error),
                        (Err(_), None) => return None,
                    };
                    Some((name.clone(), made))
                });
                let mut policies =
                    HashMap::with_capacity_and_hasher(files.len(), RandomState::default());
                policies.extend(made);
                Some(Buckets {
                    addressing: buckets.addressing,
                    directory: Some(buckets.directory.path.as_path().into()),
                    policies,
                    ambiguous,
                })
            }
            (Err(error), Some(before)) => {
                let kept = before
                    .policies
                    .iter()
                    .map(|(name, before)| (name.clone(), policy.kept(before, error)));
                Some(Buckets {
                    addressing: buckets.addressing,
                    directory: Some(buckets.directory.path.as_path().into()),
                    policies: kept.collect(),
                    ambiguous,
                })
            }
            (Err(_), None) if last_good.is_some() => None,
            (Err(error), None) if self.keep_going => {
                // The route's own policy is not used either: it may allow more than the buckets'.
                let source = source_of(&buckets.directory.path, error);
                policies.route = Some(Arc::new(RoutePolicy::not_enabled(
                    config.options.clone(),
                    source,
                )));
                None
            }
            (Err(_), None) => return None,
        };
        Some(policies)
    }
}

/// Builds a route's policies.
struct Maker<'m> {
    options: &'m Options,
    metrics: &'m Arc<RouteMetrics>,
    /// The route whose policies are kept: a policy holds counters of its route.
    before_metrics: Option<&'m Arc<RouteMetrics>>,
}

impl Maker<'_> {
    /// The policy of a valid file; `before` if it is unchanged.
    fn good(&self, document: &Document, before: Option<&Arc<RoutePolicy>>) -> Arc<RoutePolicy> {
        let is_same = |before: &&Arc<RoutePolicy>| {
            Arc::ptr_eq(&before.source, &document.source)
                && before.policy.options() == self.options
                && self.has_same_counters()
        };
        if let Some(before) = before.filter(is_same) {
            return Arc::clone(before);
        }
        let policy = if document.policy.options() == self.options {
            Arc::clone(&document.policy)
        } else {
            self.recompiled(&document.policy)
        };
        self.with_counters(policy, Arc::clone(&document.source))
    }

    /// The policy that stays in force because its file is now invalid.
    fn kept(&self, before: &Arc<RoutePolicy>, error: &str) -> Arc<RoutePolicy> {
        let is_said = before.source.last_error.as_deref() == Some(error);
        if is_said && before.policy.options() == self.options && self.has_same_counters() {
            return Arc::clone(before);
        }
        let source = PolicySource {
            last_error: Some(error.to_owned()),
            ..PolicySource::clone(&before.source)
        };
        self.with_counters(self.recompiled(&before.policy), Arc::new(source))
    }

    /// The policy with the route's options, or at least with its own.
    fn recompiled(&self, policy: &Arc<Policy>) -> Arc<Policy> {
        match policy.configuration() {
            None => Arc::new(Policy::not_enabled(self.options.clone())),
            Some(configuration) => Policy::compile(&configuration, self.options.clone())
                .map_or_else(|_| Arc::clone(policy), Arc::new),
        }
    }

    /// A policy that allows nothing, because its file is invalid.
    fn missing(&self, file: &PolicyFile, error: &str) -> Arc<RoutePolicy> {
        Arc::new(RoutePolicy::not_enabled(
            self.options.clone(),
            source_of(&file.path, error),
        ))
    }

    fn with_counters(&self, policy: Arc<Policy>, source: Arc<PolicySource>) -> Arc<RoutePolicy> {
        let patterns = policy.origin_patterns();
        Arc::new(RoutePolicy {
            allowed: patterns
                .map(|pattern| self.metrics.allowed_origin(pattern))
                .collect(),
            policy,
            source,
        })
    }

    fn has_same_counters(&self) -> bool {
        let before = self.before_metrics;
        before.is_some_and(|before| Arc::ptr_eq(before, self.metrics))
    }
}

fn source_of(path: &Path, error: &str) -> PolicySource {
    PolicySource {
        file: Some(path.into()),
        last_error: Some(error.to_owned()),
        ..PolicySource::default()
    }
}

/// Whether both answer requests alike.
pub(super) fn serve_alike(one: &Snapshot, other: &Snapshot) -> bool {
    let same_policy =
        |one: &Option<Arc<RoutePolicy>>, other: &Option<Arc<RoutePolicy>>| match (one, other) {
            (None, None) => true,
            (Some(one), Some(other)) => policies_alike(one, other),
            _ => false,
        };
    let same_buckets = |one: &Option<Buckets>, other: &Option<Buckets>| match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            one.addressing == other.addressing
                && policies_alike(&one.ambiguous, &other.ambiguous)
                && one.policies.len() == other.policies.len()
                && one.policies.iter().all(|(name, policy)| {
                    let other = other.policies.get(name);
                    other.is_some_and(|other| policies_alike(policy, other))
                })
        }
        _ => false,
    };
    let same_route = |(one, other): (&Arc<Route>, &Arc<Route>)| {
        // Names every field, so that a new one cannot be forgotten here.
        let Route {
            name,
            hosts,
            policies,
            upstreams,
            listeners,
            host_header,
            forwarding,
            explain_header,
            cors_api,
            metrics: _,
        } = &**one;
        let version = |api: &Option<CorsApi>| api.as_ref().map(|api| api.version);
        *name == other.name
            && version(cors_api) == version(&other.cors_api)
            && *hosts == other.hosts
            && *listeners == other.listeners
            && *host_header == other.host_header
            && *forwarding == other.forwarding
            && *explain_header == other.explain_header
            && upstreams.len() == other.upstreams.len()
            && upstreams
                .iter()
                .zip(&other.upstreams)
                .all(|(one, other)| Arc::ptr_eq(one, other))
            && same_policy(&policies.route, &other.policies.route)
            && same_policy(&policies.not_enabled, &other.policies.not_enabled)
            && same_buckets(&policies.buckets, &other.policies.buckets)
    };
    let Snapshot {
        generation: _,
        // Derived from the routes.
        hosts: _,
        routes,
        trusted_proxies,
    } = one;
    *trusted_proxies == other.trusted_proxies
        && routes.len() == other.routes.len()
        && routes.iter().zip(&other.routes).all(same_route)
}

fn policies_alike(one: &Arc<RoutePolicy>, other: &Arc<RoutePolicy>) -> bool {
    Arc::ptr_eq(&one.policy, &other.policy) || one.policy == other.policy
}
