//! Requests for buckets' CORS configurations, by operation and code.

use std::collections::BTreeMap;
#[expect(
    clippy::disallowed_types,
    reason = "guards a few counts, only for requests that write a file"
)]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::family::Family;

/// An operation of S3's API: the `operation` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BucketCorsOperation {
    /// GetBucketCors.
    Get,
    /// PutBucketCors.
    Put,
    /// DeleteBucketCors.
    Delete,
}

impl BucketCorsOperation {
    /// The value of the `operation` label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GetBucketCors",
            Self::Put => "PutBucketCors",
            Self::Delete => "DeleteBucketCors",
        }
    }
}

/// One route's counts. The codes are S3's, a fixed set.
#[derive(Clone, Debug, Default)]
pub struct BucketCorsRequests(
    #[expect(clippy::disallowed_types, reason = "as above")]
    Arc<Mutex<BTreeMap<(BucketCorsOperation, &'static str), u64>>>,
    Arc<StoreAge>,
);

/// When a store's copy went out of date, in seconds since 1970.
#[derive(Debug)]
struct StoreAge(AtomicU64);

/// The route has no store.
const NO_STORE: u64 = u64::MAX;

/// The copy is up to date.
const CURRENT: u64 = 0;

impl Default for StoreAge {
    fn default() -> Self {
        Self(AtomicU64::new(NO_STORE))
    }
}

impl BucketCorsRequests {
    /// Counts a request; `code` is S3's error code, or `OK`.
    pub fn count(&self, operation: BucketCorsOperation, code: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((operation, code)).or_default() += 1;
    }

    /// Exports when the copy of a bucket of policies went out of date; `None`: it is up to date.
    pub fn show_store(&self, out_of_date_since: Option<SystemTime>) {
        let since = out_of_date_since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        let since = since.map_or(CURRENT, |since| since.as_secs());
        self.1.0.store(since, Ordering::Relaxed);
    }

    /// How many seconds the copy has been out of date; `None`: there is no bucket of policies.
    fn out_of_date_seconds(&self) -> Option<u64> {
        match self.1.0.load(Ordering::Relaxed) {
            NO_STORE => None,
            CURRENT => Some(0),
            since => {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                Some(now.as_secs().saturating_sub(since))
            }
        }
    }

    /// Whether anything else still counts here.
    pub(super) fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// The counts of every route.
pub(super) fn family(routes: &BTreeMap<Box<str>, BucketCorsRequests>) -> Family {
    let mut family = Family::counter(
        "s3cors_cors_api_requests_total",
        "Requests for buckets' CORS configurations, by operation and S3's error code.",
    );
    for (route, requests) in routes {
        let counts = requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((operation, code), count) in &*counts {
            let labels = [
                ("route", &**route),
                ("operation", operation.as_str()),
                ("code", code),
            ];
            family.count(&labels, *count);
        }
    }
    family
}

/// How long each route's copy of its bucket of policies has been out of date.
pub(super) fn store_family(routes: &BTreeMap<Box<str>, BucketCorsRequests>) -> Family {
    let mut family = Family::gauge(
        "s3cors_cors_api_store_out_of_date_seconds",
        "For how long the bucket of policies could not be read; 0 if the copy is up to date.",
    );
    for (route, requests) in routes {
        if let Some(seconds) = requests.out_of_date_seconds() {
            family.count(&[("route", &**route)], seconds);
        }
    }
    family
}
