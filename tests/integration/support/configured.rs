//! A proxy in this process that serves a config file.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use s3cors::admin::Reloads;
use s3cors::config::reload::Reloader;
use s3cors::config::{Input, load};
use s3cors::metrics::Metrics;
use s3cors::routing::snapshot::{Current, Forwarding, HostHeader, Policies, Route, Snapshot};
use s3cors::server::socket::Claim;
use s3cors::server::{Bind, Server};
use s3cors::upstream::endpoint::{Address, Upstream, UpstreamSettings};
use s3cors::upstream::resolver::Resolver;

/// A running proxy; it stops when dropped.
pub(crate) struct Configured {
    addresses: Vec<Bind>,
    pub(crate) metrics: Arc<Metrics>,
    /// Reloads, like a changed file or SIGHUP.
    pub(crate) reloader: Reloader,
    _server: Server,
}

impl Configured {
    pub(crate) fn start(config: &Path) -> Self {
        Self::with(config, |_| None)
    }

    /// The same, with a resolver for its host name.
    pub(crate) fn resolved_by(config: &Path, resolver: &Resolver) -> Self {
        // As if the name had existed before a reload.
        Self::with(config, |metrics| {
            let address = Address::Tcp {
                host: resolver.host().to_owned(),
                port: 1,
            };
            let settings = UpstreamSettings::plain(address);
            let upstream = Upstream::resolved_by(settings, |_| resolver.clone());
            let route = Route {
                name: "before".into(),
                hosts: Box::default(),
                policies: Policies::default(),
                upstreams: [Arc::new(upstream.unwrap())].into(),
                listeners: None,
                host_header: HostHeader::default(),
                forwarding: Forwarding::default(),
                explain_header: false,
                cors_api: None,
                metrics: metrics.route("before"),
            };
            Some(Snapshot {
                routes: vec![Arc::new(route)],
                ..Snapshot::default()
            })
        })
    }

    fn with(config: &Path, before: impl FnOnce(&Metrics) -> Option<Snapshot>) -> Self {
        let input = Input::file(config);
        let loaded = load(&input);
        assert!(!loaded.has_errors(), "{:?}", loaded.report.diagnostics());
        let settings = loaded.config.as_ref().unwrap().server.clone();
        let metrics = Metrics::new(settings.workers);
        let before = before(&metrics);
        let snapshot = loaded.snapshot(&metrics, before.as_ref(), 1, false);
        let snapshot = snapshot.unwrap();
        let current = Arc::new(Current::new(snapshot));
        let bound = Server::bind(&settings, Claim::Free).unwrap();
        let addresses = bound.addresses();
        let server = bound.serve(Arc::clone(&current), Arc::clone(&metrics), None, None);
        let (to, of) = (current, Arc::clone(&metrics));
        let reloader = Reloader::new(input, false, loaded, to, of, Reloads::default());
        Self {
            addresses,
            metrics,
            reloader: reloader.unwrap(),
            _server: server.unwrap(),
        }
    }

    /// The first TCP address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    /// Every TCP address that it listens on, in the config's order.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let tcp = self.addresses.iter().filter_map(|bind| match bind {
            Bind::Tcp(address) => Some(*address),
            Bind::Unix(_) | Bind::Systemd(_) => None,
        });
        tcp.collect()
    }
}
