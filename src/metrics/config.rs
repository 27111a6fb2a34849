//! Metrics of the config: results of reloads, and files whose contents are not in force.

#[expect(
    clippy::disallowed_types,
    reason = "set by a reload, read by a scrape: both on the control plane"
)]
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use prometheus::proto;

use super::family::Family;
use super::process::unix_seconds;

/// The result of a reload: the `result` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// Everything that was read is in force.
    Applied,
    /// Part of it is in force; the rest is invalid or could not be read.
    Partial,
    /// None of it is in force.
    Rejected,
}

impl ReloadResult {
    /// Every result.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Partial, Self::Rejected];

    /// The value of the `result` label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Partial => "partial",
            Self::Rejected => "rejected",
        }
    }
}

/// How much of the config and its files is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigState {
    /// When the contents of some file went out of force; `None`: all are in force.
    pub out_of_date_since: Option<SystemTime>,
    /// Whether keys changed that need a restart.
    pub restart_needed: bool,
    /// Hash of the config and policies in force; empty if unknown.
    pub hash: String,
    /// By route: the number of buckets without a policy because their file has been invalid since
    /// the start.
    pub buckets_without_policy: Vec<(Box<str>, usize)>,
    /// By route: how many of its policies are the last good ones from the state folder.
    pub policies_from_state: Vec<(Box<str>, usize)>,
}

/// The config's metrics.
#[derive(Debug)]
pub(super) struct ConfigMetrics {
    generation: AtomicU64,
    reloads: [AtomicU64; ReloadResult::ALL.len()],
    last_successful: AtomicBool,
    /// Seconds since 1970.
    last_success: AtomicU64,
    #[expect(clippy::disallowed_types, reason = "as above")]
    state: Mutex<ConfigState>,
}

impl ConfigMetrics {
    /// The metrics of a process that starts with generation 1.
    pub(super) fn new(started: SystemTime) -> Self {
        Self {
            generation: AtomicU64::new(1),
            reloads: Default::default(),
            last_successful: AtomicBool::new(true),
            last_success: AtomicU64::new(unix_seconds(started) as u64),
            state: Default::default(),
        }
    }

    pub(super) fn reloaded(&self, result: ReloadResult, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
        let all = ReloadResult::ALL.iter().zip(&self.reloads);
        for (_, count) in all.filter(|(one, _)| **one == result) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let is_whole = result == ReloadResult::Applied;
        self.last_successful.store(is_whole, Ordering::Relaxed);
        if is_whole {
            let now = unix_seconds(SystemTime::now()) as u64;
            self.last_success.store(now, Ordering::Relaxed);
        }
    }

    pub(super) fn set_state(&self, state: ConfigState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(super) fn families(&self) -> [proto::MetricFamily; 10] {
        let mut generation = Family::gauge(
            "s3cors_config_generation",
            "Generation of the configuration in force; each reload that changes it adds one.",
        );
        generation.value(&[], self.generation.load(Ordering::Relaxed) as f64);
        let mut reloads = Family::counter(
            "s3cors_config_reloads_total",
            "Reloads of the configuration, by result.",
        );
        for (result, count) in ReloadResult::ALL.iter().zip(&self.reloads) {
            let labels = [("result", result.as_str())];
            reloads.count(&labels, count.load(Ordering::Relaxed));
        }
        let mut successful = Family::gauge(
            "s3cors_config_last_reload_successful",
            "Whether the last reload was applied completely: 1 or 0.",
        );
        let was_successful = self.last_successful.load(Ordering::Relaxed);
        successful.value(&[], one_if(was_successful));
        let mut last_success = Family::gauge(
            "s3cors_config_last_reload_success_timestamp_seconds",
            "Time of the last start or reload that was applied completely, in seconds since 1970.",
        );
        last_success.value(&[], self.last_success.load(Ordering::Relaxed) as f64);

        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out_of_date = Family::gauge(
            "s3cors_config_out_of_date",
            "Whether any file's contents are not in force: 1 or 0.",
        );
        out_of_date.value(&[], one_if(state.out_of_date_since.is_some()));
        let mut since = Family::gauge(
            "s3cors_config_out_of_date_since_timestamp_seconds",
            "Time since which some file's contents have not been in force, in seconds since 1970.",
        );
        since.maybe(state.out_of_date_since.map(unix_seconds));
        let mut restart = Family::gauge(
            "s3cors_config_restart_needed",
            "Whether changed keys need a restart: 1 or 0.",
        );
        restart.value(&[], one_if(state.restart_needed));
        let mut info = Family::gauge(
            "s3cors_config_info",
            "Always 1; the label is a hash of the config and the policies in force.",
        );
        if !state.hash.is_empty() {
            info.value(&[("hash", &state.hash)], 1.0);
        }
        let mut without = Family::gauge(
            "s3cors_buckets_without_policy",
            "Buckets served without CORS because their policy file is invalid.",
        );
        for (route, count) in &state.buckets_without_policy {
            without.value(&[("route", route)], *count as f64);
        }
        let mut from_state = Family::gauge(
            "s3cors_policies_from_state",
            "Policies served from the state folder because their file was invalid at the start.",
        );
        for (route, count) in &state.policies_from_state {
            from_state.value(&[("route", route)], *count as f64);
        }
        [
            generation,
            reloads,
            successful,
            last_success,
            out_of_date,
            since,
            restart,
            info,
            without,
            from_state,
        ]
        .map(Family::finish)
    }
}

fn one_if(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}
