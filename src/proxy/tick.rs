//! A worker's periodic work, independent of requests.
use std::time::Instant;

use crate::metrics::Worker;
use crate::telemetry::upstream_log;
use crate::upstream::health_check;

use super::bad_request;
use super::state::Proxy;

impl Proxy {
    /// Does the periodic work. Call it once a second.
    pub fn tick(&self) {
        self.pool.evict();
        self.pipes.shrink();
        self.pool.refresh_resolvers();
        self.check_upstreams();
        self.denial_log.summarise(Instant::now());
        upstream_log::summarise(Instant::now());
        bad_request::summarise(Instant::now());
        if let Some(log) = &self.access_log {
            log.flush();
        }
    }

    /// Starts checking the upstreams of a new snapshot; one worker does it for all.
    pub(super) fn check_upstreams(&self) {
        let snapshot = self.snapshot();
        let generation = snapshot.0.generation;
        if self.worker != Worker(0) || self.checked.replace(generation) == generation {
            return;
        }
        let routes = snapshot.0.routes.iter();
        routes
            .flat_map(|route| &route.upstreams)
            .for_each(health_check::start);
    }
}
