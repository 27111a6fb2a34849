//! Loads anew what changed, and puts it in force.

use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::Reloads;
use crate::metrics::Metrics;
use crate::proxy::resolver::Resolver;
use crate::proxy::snapshot::{Current, Snapshot};

use super::check::Config;
use super::diagnostic::Diagnostic;
use super::files::{Before, Files};
use super::report::Report;
use super::{Input, Loaded, build, certificates, load_changes};

/// The most problems of a reload that are logged one by one.
const MAX_LOGGED: usize = 20;

/// The most problems that `/status` shows of a reload.
const MAX_SHOWN: usize = 5;

/// Loads anew what a running proxy serves.
#[derive(Debug)]
pub struct Reloader {
    input: Input,
    keep_going: bool,
    /// What the process was started with, of what needs a restart.
    started: Config,
    current: Arc<Current>,
    metrics: Arc<Metrics>,
    reloads: Reloads,
    /// What was read last, whether it is in force or not.
    files: Files,
    progress: watch::Sender<Progress>,
}

/// What became of reloads so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many there were that found something changed, or were forced.
    pub reloads: u64,
    /// How many of them were forced.
    pub forced: u64,
    /// The generation in force.
    pub generation: u64,
    /// What became of the last one.
    pub last: Outcome,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Every file is as it was.
    #[default]
    Unchanged,
    /// All that was read is in force.
    Applied,
    /// Some of it is not in force, because it does not check out.
    InPart,
    /// Nothing changed for requests.
    Rejected,
}

impl Reloader {
    /// A reloader for a proxy that was started with `loaded`, from which the first snapshot of
    /// `current` was made. `None`: it does not check out.
    #[must_use]
    pub fn new(
        input: Input,
        keep_going: bool,
        loaded: Loaded,
        current: Arc<Current>,
        metrics: Arc<Metrics>,
        reloads: Reloads,
    ) -> Option<Self> {
        let (progress, _) = watch::channel(Progress {
            generation: current.get().generation,
            ..Progress::default()
        });
        let mut started = loaded.config?;
        // Kept for what needs a restart only.
        started.routes = Vec::new();
        Some(Self {
            input,
            keep_going,
            started,
            current,
            metrics,
            reloads,
            files: loaded.files,
            progress,
        })
    }

    /// Tells what becomes of reloads.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// What was read last.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Loads what changed and puts in force what checks out. Where no file changed, nothing
    /// happens unless `forced`, which reads every file again.
    ///
    /// Reads files: not for a thread that has something better to do.
    pub fn reload(&mut self, forced: bool) -> Outcome {
        let before = if forced {
            Before::Contents(&self.files)
        } else {
            Before::Files(&self.files)
        };
        let loaded = load_changes(&self.input, before);
        tracing::debug!(read = loaded.files.reads(), "files were read");
        let is_changed = loaded.files.digest() != self.files.digest();
        if !is_changed && !forced {
            self.files = loaded.files;
            return Outcome::Unchanged;
        }
        let before = self.current.get();
        let snapshot = loaded.snapshot(
            &self.metrics,
            Some(&before),
            before.generation + 1,
            self.keep_going,
        );
        log(&loaded.report);
        let has_swapped = self.swap_certificates(&loaded);
        let outcome = match snapshot {
            None => Outcome::Rejected,
            Some(snapshot) if loaded.has_errors() => {
                self.apply_in_part(&before, snapshot, has_swapped)
            }
            Some(snapshot) => {
                self.publish(snapshot);
                Outcome::Applied
            }
        };
        match outcome {
            Outcome::Unchanged | Outcome::Applied => self.reloads.applied(),
            Outcome::InPart | Outcome::Rejected => {
                self.metrics.reload_rejected();
                self.reloads.rejected(summary(&loaded.report));
                let errors = loaded.report.errors();
                if loaded.config.is_none() {
                    tracing::error!(
                        errors,
                        "the config does not check out: nothing of it is in force, and what was \
                         stays so"
                    );
                } else {
                    tracing::error!(
                        errors,
                        "the config was reloaded, but not all of it is in force"
                    );
                }
            }
        }
        if let Some(config) = &loaded.config {
            self.warn_of_restart(config);
        }
        self.files = loaded.files;
        self.expire_addresses();
        self.progress.send_modify(|progress| {
            progress.reloads += 1;
            progress.forced += u64::from(forced);
            progress.generation = self.current.get().generation;
            progress.last = outcome;
        });
        outcome
    }

    /// Has the host names of upstreams looked up again.
    fn expire_addresses(&self) {
        let snapshot = self.current.get();
        let upstreams = snapshot.routes.iter().flat_map(|route| &route.upstreams);
        upstreams
            .filter_map(|upstream| upstream.resolver())
            .for_each(Resolver::expire);
    }

    /// Has each listener serve the certificates that check out. True: some are others than before.
    fn swap_certificates(&self, loaded: &Loaded) -> bool {
        let Some(config) = &loaded.config else {
            return false;
        };
        let mut has_swapped = false;
        for (listener, tls) in config.server.listeners.iter().zip(&loaded.tls) {
            let mut running = self.started.server.listeners.iter();
            let running = running.find(|running| running.address == listener.address);
            if let (Some(running), Some(tls)) = (running.and_then(|one| one.tls.as_ref()), tls) {
                has_swapped |= certificates::publish(running, tls);
            }
        }
        has_swapped
    }

    /// Publishes what checks out. Even where that changes nothing for requests, `/status` has to
    /// tell what is wrong with the rest.
    fn apply_in_part(
        &self,
        before: &Snapshot,
        mut snapshot: Snapshot,
        has_swapped: bool,
    ) -> Outcome {
        if !has_swapped && build::serve_alike(before, &snapshot) {
            snapshot.generation = before.generation;
            self.current.publish(snapshot);
            return Outcome::Rejected;
        }
        self.publish(snapshot);
        Outcome::InPart
    }

    fn publish(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        let routes = snapshot.routes.len();
        self.current.publish(snapshot);
        self.metrics.reload_applied(generation);
        tracing::info!(generation, routes, "the config was reloaded");
    }

    fn warn_of_restart(&self, config: &Config) {
        let (old, new) = (&self.started, config);
        let settings = [
            ("workers", old.server.workers == new.server.workers),
            ("listen", old.server.listeners == new.server.listeners),
            ("limits", old.server.limits == new.server.limits),
            ("drain", old.server.drain == new.server.drain),
            ("admin", old.admin == new.admin),
            ("access_log", old.access_log == new.access_log),
            ("traces", old.traces == new.traces),
        ];
        let changed = settings.iter().filter(|(_, is_same)| !is_same);
        let changed: Vec<&str> = changed.map(|(key, _)| *key).collect();
        self.reloads.wait_for_restart(changed.clone());
        if !changed.is_empty() {
            tracing::warn!(
                keys = changed.join(", "),
                "changes of these keys need a restart"
            );
        }
    }
}

/// Logs what there is to say, a line each; errors first.
pub fn log(report: &Report) {
    let all = report.diagnostics();
    let errors = all.iter().filter(|there| there.is_error());
    let warnings = all.iter().filter(|there| !there.is_error());
    for diagnostic in errors.chain(warnings).take(MAX_LOGGED) {
        if diagnostic.is_error() {
            tracing::error!(code = diagnostic.code(), "{diagnostic}");
        } else {
            tracing::warn!(code = diagnostic.code(), "{diagnostic}");
        }
    }
    let more = all.len().saturating_sub(MAX_LOGGED);
    if more > 0 {
        tracing::warn!(more, "there is more: `s3cors check` shows all of it");
    }
}

fn summary(report: &Report) -> String {
    let errors = report.diagnostics().iter().filter(|there| there.is_error());
    let lines: Vec<String> = errors.take(MAX_SHOWN).map(Diagnostic::to_string).collect();
    let mut summary = lines.join("; ");
    let more = report.errors().saturating_sub(MAX_SHOWN);
    if more > 0 {
        summary.push_str(&format!("; and {more} more"));
    }
    summary
}
