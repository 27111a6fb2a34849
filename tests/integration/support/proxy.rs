//! A proxy in this process, on a port that the system chooses.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use s3cors::cors::{Options, Policy, check_document};
use s3cors::metrics::Metrics;
use s3cors::routing::client::TrustedProxies;
use s3cors::routing::host::HostMap;
use s3cors::routing::snapshot::{
    Buckets, Current, Forwarding, HostHeader, Policies, Route, RoutePolicy, Snapshot,
};
use s3cors::server::socket::Claim;
use s3cors::server::{Bind, DrainSettings, Limits, ListenerSettings, Server, Settings};
use s3cors::telemetry::access_log::{AccessLog, AccessLogFormat, AccessLogSettings, Destination};
use s3cors::telemetry::traces::{Traces, TracesSettings};
use s3cors::upstream::check_settings::CheckSettings;
use s3cors::upstream::endpoint::{Address, Timeouts, Upstream, UpstreamLimits, UpstreamSettings};
use s3cors::upstream::health::HealthSettings;

/// A running proxy; it stops when dropped.
pub(crate) struct TestProxy {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    /// Dropping it ends the workers.
    server: Server,
    access_log: Option<AccessLog>,
    #[cfg(feature = "otlp")]
    traces: Option<Traces>,
}

/// A route for a test; its default host is `photos.example`.
pub(crate) struct TestRoute {
    pub(crate) hosts: Vec<&'static str>,
    pub(crate) upstreams: Vec<SocketAddr>,
    pub(crate) cors: Option<String>,
    pub(crate) options: Options,
    pub(crate) buckets: Option<(
        s3cors::routing::bucket::Addressing,
        Vec<(&'static str, String)>,
    )>,
    /// Whether the route has policies.
    pub(crate) managed: bool,
    pub(crate) http2: bool,
    pub(crate) host_header: HostHeader,
    pub(crate) forwarding: Forwarding,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: UpstreamLimits,
    pub(crate) health: HealthSettings,
    pub(crate) check: Option<CheckSettings>,
}

impl TestRoute {
    /// A route with a policy.
    pub(crate) fn new(upstream: SocketAddr, cors: &str) -> Self {
        Self {
            hosts: vec!["photos.example"],
            upstreams: vec![upstream],
            cors: Some(cors.to_owned()),
            options: Options::default(),
            buckets: None,
            managed: true,
            http2: false,
            host_header: HostHeader::default(),
            forwarding: Forwarding::default(),
            timeouts: Timeouts::default(),
            limits: UpstreamLimits::default(),
            health: HealthSettings::default(),
            check: None,
        }
    }

    /// A route that leaves CORS to its upstream.
    pub(crate) fn transparent(upstream: SocketAddr) -> Self {
        Self {
            cors: None,
            managed: false,
            ..Self::new(upstream, "")
        }
    }

    fn build(&self, metrics: &Metrics) -> Route {
        let name = self.hosts[0];
        let counters = metrics.route(name);
        let policy = |xml: Option<&String>| {
            let checked = xml.map(|xml| check_document(xml.as_bytes(), self.options.clone()));
            let policy = match checked {
                None => Policy::not_enabled(self.options.clone()),
                Some(checked) => checked
                    .policy
                    .unwrap_or_else(|| panic!("{:?}", checked.problems)),
            };
            Arc::new(RoutePolicy {
                allowed: policy
                    .origin_patterns()
                    .map(|pattern| counters.allowed_origin(pattern))
                    .collect(),
                policy: Arc::new(policy),
                source: Arc::default(),
            })
        };
        let upstreams = self.upstreams.iter().map(|address| {
            Arc::new(
                Upstream::new(UpstreamSettings {
                    http2: self.http2,
                    timeouts: self.timeouts,
                    limits: self.limits,
                    health: self.health,
                    check: self.check.clone(),
                    ..UpstreamSettings::plain(Address::Tcp {
                        host: address.ip().to_string(),
                        port: address.port(),
                    })
                })
                .unwrap(),
            )
        });
        let upstreams: Box<[Arc<Upstream>]> = upstreams.collect();
        for upstream in &upstreams {
            upstream.count_with(metrics.upstream(&upstream.url()));
        }
        let healths = upstreams.iter().map(|upstream| upstream.shown_health());
        counters.show_upstreams(healths.collect());
        Route {
            name: name.into(),
            hosts: self
                .hosts
                .iter()
                .map(|host| host.parse().unwrap())
                .collect(),
            policies: Policies {
                route: self.cors.as_ref().map(|xml| policy(Some(xml))),
                buckets: self.buckets.as_ref().map(|(addressing, buckets)| Buckets {
                    addressing: *addressing,
                    directory: None,
                    policies: buckets
                        .iter()
                        .map(|(name, xml)| ((*name).into(), policy(Some(xml))))
                        .collect(),
                    ambiguous: policy(None),
                }),
                not_enabled: self.managed.then(|| policy(None)),
            },
            upstreams,
            listeners: None,
            host_header: self.host_header,
            forwarding: self.forwarding,
            explain_header: false,
            cors_api: None,
            metrics: Arc::clone(&counters),
        }
    }
}

/// A snapshot of these routes.
pub(crate) fn snapshot(routes: &[TestRoute], metrics: &Metrics, generation: u64) -> Snapshot {
    let mut hosts = HostMap::default();
    let routes = routes.iter().enumerate().map(|(index, test)| {
        let route = Arc::new(test.build(metrics));
        for host in &test.hosts {
            hosts.insert(host.parse().unwrap(), index).unwrap();
        }
        route
    });
    let routes = routes.collect();
    Snapshot {
        generation,
        hosts,
        routes,
        trusted_proxies: TrustedProxies::default(),
    }
}

impl TestProxy {
    /// Stops as on SIGTERM; returns how many connections were cut.
    pub(crate) fn drain(self) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(self.server.drain()).cut
    }

    /// Stops, and waits until the access log is written.
    pub(crate) fn finish_log(mut self) {
        let log = self.access_log.take().unwrap();
        self.drain();
        assert!(log.finish(Duration::from_secs(20)));
    }

    pub(crate) fn start(routes: &[TestRoute]) -> Self {
        Self::with_limits(routes, Limits::default())
    }

    pub(crate) fn with_limits(routes: &[TestRoute], limits: Limits) -> Self {
        Self::with(routes, limits, DrainSettings::default())
    }

    /// With a JSON access log in a file.
    pub(crate) fn logged_to(path: &Path, routes: &[TestRoute]) -> Self {
        Self::trusting(&[], listener(), routes, Limits::default(), Some(path))
    }

    pub(crate) fn with(routes: &[TestRoute], limits: Limits, drain: DrainSettings) -> Self {
        Self::build(routes, listener(), limits, drain, None, &[], None)
    }

    /// With a listener that is not just plain.
    pub(crate) fn on(listener: ListenerSettings, routes: &[TestRoute], limits: Limits) -> Self {
        Self::build(
            routes,
            listener,
            limits,
            DrainSettings::default(),
            None,
            &[],
            None,
        )
    }

    /// With listed proxies, and a JSON access log in a file.
    pub(crate) fn trusting(
        proxies: &[&str],
        listener: ListenerSettings,
        routes: &[TestRoute],
        limits: Limits,
        access_log: Option<&Path>,
    ) -> Self {
        let access_log = access_log.map(|path| AccessLogSettings {
            format: AccessLogFormat::Json,
            path: Destination::File(path.to_owned()),
        });
        let drain = DrainSettings::default();
        Self::build(routes, listener, limits, drain, access_log, proxies, None)
    }

    /// With traces, to a collector.
    #[cfg(feature = "otlp")]
    pub(crate) fn traced(settings: &TracesSettings, routes: &[TestRoute]) -> Self {
        let (limits, drain) = (Limits::default(), DrainSettings::default());
        Self::build(routes, listener(), limits, drain, None, &[], Some(settings))
    }

    /// Stops, and waits until the last spans are sent; returns whether they were.
    #[cfg(feature = "otlp")]
    pub(crate) fn finish_traces(mut self, patience: Duration) -> bool {
        let traces = self.traces.take().unwrap();
        self.drain();
        traces.finish(patience)
    }

    fn build(
        routes: &[TestRoute],
        listener: ListenerSettings,
        limits: Limits,
        drain: DrainSettings,
        access_log: Option<AccessLogSettings>,
        trusted_proxies: &[&str],
        traces: Option<&TracesSettings>,
    ) -> Self {
        let settings = Settings {
            workers: 1,
            listeners: vec![listener],
            limits,
            drain,
        };
        let metrics = Metrics::new(settings.workers);
        let mut snapshot = snapshot(routes, &metrics, 1);
        snapshot.trusted_proxies = trusted_proxies
            .iter()
            .map(|proxy| proxy.parse().unwrap())
            .collect();
        let current = Arc::new(Current::new(snapshot));
        let access_log = access_log.map(|log| AccessLog::start(&log, &metrics).unwrap());
        let traces = traces.map(|settings| Traces::start(settings, &metrics).unwrap());
        let bound = Server::bind(&settings, Claim::Free).unwrap();
        let Bind::Tcp(address) = bound.addresses()[0].clone() else {
            panic!("a TCP address was asked for");
        };
        let server = bound
            .serve(
                Arc::clone(&current),
                Arc::clone(&metrics),
                access_log.as_ref(),
                traces.as_ref(),
            )
            .unwrap();
        Self {
            address,
            metrics,
            server,
            access_log,
            #[cfg(feature = "otlp")]
            traces,
        }
    }
}

/// A plain listener on a port that the system chooses.
pub(crate) fn listener() -> ListenerSettings {
    ListenerSettings::plain(Bind::Tcp("127.0.0.1:0".parse().unwrap()))
}
