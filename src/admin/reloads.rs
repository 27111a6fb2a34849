//! The result of the last reload, and the files that are not in force, for `/status`.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::metrics::ReloadResult;

use super::answer::{MAX_LISTED, time};

#[expect(
    clippy::disallowed_types,
    reason = "set by a reload, read by /status: both on the control plane"
)]
use std::sync::Mutex;

/// The result of the last reload, and the files that are not in force; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Reloads {
    #[expect(clippy::disallowed_types, reason = "as above")]
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    last: Option<Last>,
    state: ReloadState,
}

#[derive(Debug)]
struct Last {
    at: SystemTime,
    result: ReloadResult,
    error: Option<String>,
}

/// The files that are not in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadState {
    /// The files whose newest contents are not in force.
    pub out_of_date: Vec<OutOfDate>,
    /// The keys of the config that changed since the start and need a restart.
    pub restart_needed_for: Vec<&'static str>,
    /// A hash of the config and the policies in force, to compare replicas; empty if unknown.
    pub hash: String,
}

/// A file whose newest contents are not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfDate {
    /// The file, or the folder that cannot be read.
    pub file: PathBuf,
    /// The error.
    pub error: String,
    /// Since when it has not been in force.
    pub since: SystemTime,
}

impl Reloads {
    /// Records the end of a reload; `error` says what is not in force and why.
    pub fn ended(&self, result: ReloadResult, error: Option<String>) {
        let at = SystemTime::now();
        self.with(|shared| shared.last = Some(Last { at, result, error }));
    }

    /// Replaces the state of the files that are not in force.
    pub fn set(&self, state: ReloadState) {
        self.with(|shared| shared.state = state);
    }

    /// The files that are not in force.
    #[must_use]
    pub fn state(&self) -> ReloadState {
        self.with(|shared| shared.state.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `null` before the first reload.
    pub(super) fn last(&self) -> Value {
        self.with(|shared| {
            shared.last.as_ref().map_or(Value::Null, |last| {
                json!({
                    "at": time(last.at),
                    "applied": last.result == ReloadResult::Applied,
                    "result": last.result.as_str(),
                    "error": last.error,
                })
            })
        })
    }
}

impl ReloadState {
    /// The files whose newest contents are not in force, with the error and for how long.
    pub(super) fn out_of_date(&self) -> Vec<Value> {
        let now = SystemTime::now();
        let listed = self.out_of_date.iter().take(MAX_LISTED);
        listed
            .map(|file| {
                json!({
                    "file": file.file.display().to_string(),
                    "error": file.error,
                    "since": time(file.since),
                    "seconds": now.duration_since(file.since).unwrap_or_default().as_secs(),
                })
            })
            .collect()
    }
}
