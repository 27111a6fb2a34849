//! A proxy in this process that serves what a config file says.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use s3cors::admin::Reloads;
use s3cors::config::reload::Reloader;
use s3cors::config::{Input, load};
use s3cors::metrics::Metrics;
use s3cors::proxy::snapshot::Current;
use s3cors::server::socket::Claim;
use s3cors::server::{Bind, Server};

/// A running proxy; it stops when dropped.
pub(crate) struct Configured {
    addresses: Vec<Bind>,
    pub(crate) metrics: Arc<Metrics>,
    /// Does what a change of a file or SIGHUP does.
    pub(crate) reloader: Reloader,
    _server: Server,
}

impl Configured {
    pub(crate) fn start(config: &Path) -> Self {
        let input = Input::file(config);
        let loaded = load(&input);
        assert!(!loaded.has_errors(), "{:?}", loaded.report.diagnostics());
        let settings = loaded.config.as_ref().unwrap().server.clone();
        let metrics = Metrics::new(settings.workers);
        let snapshot = loaded.snapshot(&metrics, None, 1, false).unwrap();
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
        let tcp = self.addresses.iter().find_map(|bind| match bind {
            Bind::Tcp(address) => Some(*address),
            Bind::Unix(_) | Bind::Systemd(_) => None,
        });
        tcp.unwrap()
    }
}
