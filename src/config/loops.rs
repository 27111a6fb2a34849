//! Finds upstreams that are listeners of the same config: their requests would loop.

use crate::server::Bind;
use crate::upstream::endpoint::Address;
use crate::upstream::start_check::is_listener;

use super::check::Config;
use super::diagnostic::Diagnostic;

impl Config {
    /// A warning and its place for each upstream that is one of the listeners.
    pub(super) fn loops(
        &self,
    ) -> impl Iterator<Item = (Diagnostic, Option<std::ops::Range<usize>>)> {
        let routes = self.routes.iter();
        let upstreams = routes.flat_map(|route| {
            let places = route.upstream_spans.iter().cloned().map(Some);
            route
                .upstreams
                .iter()
                .zip(places.chain(std::iter::repeat(None)))
        });
        upstreams.filter_map(|(upstream, place)| {
            let listeners = self.server.listeners.iter();
            let mut binds = listeners
                .map(|listener| &listener.address)
                .chain(&self.admin.address);
            let bind = binds.find(|bind| match (bind, &upstream.address) {
                (Bind::Tcp(listener), address) => is_listener(address, *listener),
                (Bind::Unix(listener), Address::Unix(path)) => listener == path,
                (Bind::Unix(_) | Bind::Systemd(_), _) => false,
            })?;
            let message = format!("the upstream is this proxy's own listener {bind}");
            let diagnostic = Diagnostic::warning("upstream-loop", message)
                .help("requests would loop; write the address of the real server");
            Some((diagnostic, place))
        })
    }
}
