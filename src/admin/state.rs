//! The state that the admin listener shows.

use std::sync::Arc;

use crate::explain::Entrance;
use crate::metrics::Metrics;
use crate::routing::snapshot::Current;
use crate::server::Heartbeats;
use crate::telemetry::live::LiveFeed;

use super::health::{Health, Phase};
use super::reloads::Reloads;

/// The state that the admin listener shows.
#[derive(Debug)]
pub struct State {
    /// The snapshot in force.
    pub current: Arc<Current>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The phase of the process.
    pub health: Health,
    /// The workers' heartbeats.
    pub heartbeats: Heartbeats,
    /// The result of the last reload.
    pub reloads: Reloads,
    /// The proxy's listeners, for the command lines of `/cors`.
    pub entrances: Vec<Entrance>,
    /// The workers' events, for `/cors/live`.
    pub live: LiveFeed,
}

impl State {
    /// Enters a phase: `/readyz`, `/status` and the metrics show it.
    pub fn enter(&self, phase: Phase) {
        self.health.set(phase);
        self.metrics.ready(phase == Phase::Serving);
    }
}
