//! Reloads changed files and applies them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::admin::{OutOfDate, ReloadState, Reloads};
use crate::metrics::{ConfigState, Metrics, ReloadResult};
use crate::routing::snapshot::{Current, Snapshot};
use crate::upstream::resolver::Resolver;

use super::check::Config;
use super::files::{Before, Files};
use super::reload_log::{log_outcome, summary};
use super::source::SourceFile;
use super::state_folder::{Saver, StateFolder};
use super::{Input, Loaded, Source, build, certificates, in_force, load_changes};

pub use super::reload_log::log;

/// Reloads the config of a running proxy.
#[derive(Debug)]
pub struct Reloader {
    input: Input,
    keep_going: bool,
    /// The initial values of settings that need a restart to change.
    started: Config,
    /// The text of the last good config; `None` if from flags.
    last_good: Option<Arc<SourceFile>>,
    current: Arc<Current>,
    metrics: Arc<Metrics>,
    reloads: Reloads,
    /// The last load, whether it is in force or not.
    files: Files,
    /// Since when the newest contents of each file have not been in force.
    out_of_date: BTreeMap<PathBuf, SystemTime>,
    restart_needed_for: Vec<&'static str>,
    /// Whether the last reload panicked.
    has_panicked: bool,
    /// Saves what is good in the state folder; `None`: there is none.
    saver: Option<Saver>,
    progress: watch::Sender<Progress>,
}

/// The results of the reloads so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of reloads that found a change or were forced.
    pub reloads: u64,
    /// The number of forced reloads.
    pub forced: u64,
    /// The generation in force.
    pub generation: u64,
    /// The result of the last one.
    pub last: Outcome,
}

/// The result of a reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// No file changed.
    #[default]
    Unchanged,
    /// Everything is in force.
    Applied,
    /// Some files are not in force, because they are invalid.
    InPart,
    /// Nothing changed for requests.
    Rejected,
}

impl Reloader {
    /// A reloader for a proxy started with `loaded`, from which the first snapshot of `current`
    /// was built. `None` if it is invalid.
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
            last: if loaded.has_errors() {
                Outcome::InPart
            } else {
                Outcome::Unchanged
            },
            ..Progress::default()
        });
        let mut started = loaded.config?;
        // Kept only to compare settings that need a restart.
        started.routes = Vec::new();
        let mut reloader = Self {
            input,
            keep_going,
            started,
            last_good: loaded.text,
            current,
            metrics,
            reloads,
            files: loaded.files,
            out_of_date: BTreeMap::new(),
            restart_needed_for: Vec::new(),
            has_panicked: false,
            saver: None,
            progress,
        };
        reloader.show_state();
        Some(reloader)
    }

    /// Has the good policies saved in the state folder, now and after each reload.
    ///
    /// # Errors
    ///
    /// Fails if the system has no thread for that.
    pub fn with_state(mut self, folder: StateFolder) -> io::Result<Self> {
        let saver = folder.saver()?;
        saver.save(&self.files);
        self.saver = Some(saver);
        Ok(self)
    }

    /// Tells what becomes of reloads.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The last load.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Whether a reload may differ although no file changes: a read failed, or the last reload
    /// panicked.
    pub(super) fn may_pass(&self) -> bool {
        self.files.may_pass() || self.has_panicked
    }

    /// Whether files must be read once more when their file system's clock has advanced: they may
    /// have changed since although their stamps are the same.
    pub(super) fn may_differ(&self) -> bool {
        self.files.may_differ()
    }

    /// Whether the last reload panicked.
    pub(super) fn has_panicked(&self) -> bool {
        self.has_panicked
    }

    /// Loads changed files and applies the valid ones. If no file changed, does nothing unless
    /// `forced`, which reads every file again.
    ///
    /// If the config itself is unreadable or invalid, the files of the last good one are still
    /// loaded.
    ///
    /// Blocks while it reads files: not for a thread that serves.
    pub fn reload(&mut self, forced: bool) -> Outcome {
        let before = if forced {
            Before::Contents(&self.files)
        } else {
            Before::Files(&self.files)
        };
        let mut loaded = load_changes(&self.input, before, self.last_good.as_ref());
        loaded.name_what_is_wrong(&self.input);
        tracing::debug!(read = loaded.files.reads(), "files were read");
        let is_changed = loaded.files.digest() != self.files.digest() || self.has_panicked;
        if !is_changed && !forced {
            self.files = loaded.files;
            return Outcome::Unchanged;
        }
        self.has_panicked = false;
        let before = self.current.get();
        let snapshot = loaded.snapshot(
            &self.metrics,
            Some(&before),
            before.generation + 1,
            self.keep_going,
        );
        let has_swapped = self.swap_certificates(&loaded);
        let outcome = match snapshot {
            None => Outcome::Rejected,
            Some(snapshot) if loaded.has_errors() => {
                self.apply_in_part(&before, snapshot, has_swapped)
            }
            Some(snapshot) => {
                self.current.publish(snapshot);
                Outcome::Applied
            }
        };
        let generation = self.current.get().generation;
        let result = match outcome {
            Outcome::Unchanged | Outcome::Applied => ReloadResult::Applied,
            Outcome::InPart => ReloadResult::Partial,
            Outcome::Rejected => ReloadResult::Rejected,
        };
        self.metrics.reloaded(result, generation);
        let error = (result != ReloadResult::Applied).then(|| summary(&loaded.report));
        self.reloads.ended(result, error);
        let config = loaded.config.as_ref();
        let waits_newly = config.is_some_and(|config| self.compare_with_start(config));
        if config.is_some() && !loaded.is_last_good {
            self.last_good = loaded.text;
        }
        let files_before = std::mem::replace(&mut self.files, loaded.files);
        self.show_state();
        if let Some(saver) = &self.saver {
            saver.save(&self.files);
        }
        // Logged last, so that `/status` agrees with the log line.
        log(&loaded.report);
        log_outcome(result, generation, &self.files, &files_before);
        if waits_newly {
            let keys = self.restart_needed_for.join(", ");
            tracing::warn!(keys, "changes of these keys need a restart");
        }
        self.expire_addresses();
        self.progress.send_modify(|progress| {
            progress.reloads += 1;
            progress.forced += u64::from(forced);
            progress.generation = generation;
            progress.last = outcome;
        });
        outcome
    }

    /// Looks up the host names of upstreams again.
    fn expire_addresses(&self) {
        let snapshot = self.current.get();
        let upstreams = snapshot.routes.iter().flat_map(|route| &route.upstreams);
        upstreams
            .filter_map(|upstream| upstream.resolver())
            .for_each(Resolver::expire);
    }

    /// Records that a reload panicked: the last good config stays in force, and a retry follows
    /// soon.
    pub(super) fn panicked(&mut self) {
        const ERROR: &str = "the reload panicked: see the log";
        self.has_panicked = true;
        let generation = self.current.get().generation;
        self.metrics.reloaded(ReloadResult::Rejected, generation);
        self.reloads
            .ended(ReloadResult::Rejected, Some(ERROR.to_owned()));
        self.show_state();
    }

    /// Gives each listener its valid certificates. Returns whether any changed.
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

    /// Applies the valid files. Even if nothing changes for requests, `/status` must show what is
    /// wrong with the rest.
    fn apply_in_part(
        &self,
        before: &Snapshot,
        mut snapshot: Snapshot,
        has_swapped: bool,
    ) -> Outcome {
        let is_same = !has_swapped && build::serve_alike(before, &snapshot);
        if is_same {
            snapshot.generation = before.generation;
        }
        self.current.publish(snapshot);
        if is_same {
            Outcome::Rejected
        } else {
            Outcome::InPart
        }
    }

    /// Shows in `/status` and in the metrics what is in force and what is not.
    fn show_state(&mut self) {
        let now = SystemTime::now();
        let mut rejected = self.files.rejected();
        if self.has_panicked
            && let Source::File(path) = &self.input.source
        {
            rejected.insert(path, "the last reload panicked: see the log");
        }
        let since = |path: &Path| self.out_of_date.get(path).copied().unwrap_or(now);
        let out_of_date: Vec<_> = rejected
            .into_iter()
            .map(|(file, error)| OutOfDate {
                file: file.to_owned(),
                error: error.to_owned(),
                since: since(file),
            })
            .collect();
        let files = out_of_date.iter();
        self.out_of_date = files.map(|file| (file.file.clone(), file.since)).collect();
        let snapshot = self.current.get();
        let hash = in_force::hash(&self.input, self.last_good.as_deref(), &snapshot);
        self.metrics.config_state(ConfigState {
            out_of_date_since: self.out_of_date.values().min().copied(),
            restart_needed: !self.restart_needed_for.is_empty(),
            hash: hash.clone(),
            buckets_without_policy: in_force::buckets_without_policy(&snapshot),
            policies_from_state: in_force::policies_from_state(&snapshot),
        });
        self.reloads.set(ReloadState {
            out_of_date,
            restart_needed_for: self.restart_needed_for.clone(),
            hash,
        });
    }

    /// Compares the settings that need a restart with the initial ones. Returns whether keys wait
    /// for a restart that did not before.
    fn compare_with_start(&mut self, config: &Config) -> bool {
        let (old, new) = (&self.started, config);
        let settings = [
            ("workers", old.server.workers == new.server.workers),
            ("listen", old.server.listeners == new.server.listeners),
            ("limits", old.server.limits == new.server.limits),
            ("drain", old.server.drain == new.server.drain),
            ("admin", old.admin == new.admin),
            ("access_log", old.access_log == new.access_log),
            ("traces", old.traces == new.traces),
            ("state_directory", old.state == new.state),
        ];
        let changed = settings.iter().filter(|(_, is_same)| !is_same);
        let changed: Vec<_> = changed.map(|(key, _)| *key).collect();
        let is_news = !changed.is_empty() && changed != self.restart_needed_for;
        self.restart_needed_for = changed;
        is_news
    }
}

#[cfg(test)]
mod tests;
