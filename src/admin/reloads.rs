//! What became of the last reload, for `/status`.

#[expect(
    clippy::disallowed_types,
    reason = "set by a reload, read by /status: both on the control thread"
)]
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::status::time;

/// What became of the last reload; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Reloads {
    #[expect(clippy::disallowed_types, reason = "as above")]
    last: Arc<Mutex<Option<Last>>>,
    #[expect(clippy::disallowed_types, reason = "as above")]
    waiting: Arc<Mutex<Vec<&'static str>>>,
}

#[derive(Debug)]
struct Last {
    at: SystemTime,
    error: Option<String>,
}

impl Reloads {
    /// A reload was applied as a whole.
    pub fn applied(&self) {
        self.set(None);
    }

    /// A reload was rejected, as a whole or in parts; `error` tells the operator what and where.
    pub fn rejected(&self, error: String) {
        self.set(Some(error));
    }

    /// These keys of the config are not what the process was started with, and wait for a restart.
    pub fn wait_for_restart(&self, keys: Vec<&'static str>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The keys whose changes wait for a restart.
    pub(super) fn waiting(&self) -> Vec<&'static str> {
        let waiting = self.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, error: Option<String>) {
        let at = SystemTime::now();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Last { at, error });
    }

    /// `null` before the first reload.
    pub(super) fn last(&self) -> Value {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map_or(Value::Null, |last| {
            json!({
                "at": time(last.at),
                "applied": last.error.is_none(),
                "error": last.error,
            })
        })
    }
}
