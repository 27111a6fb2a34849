//! Requests for buckets' CORS configurations, by operation and code.

use std::collections::BTreeMap;
#[expect(
    clippy::disallowed_types,
    reason = "guards a handful of counts, for requests that write a file"
)]
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};

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

/// One route's counts. Codes are S3's, a fixed set.
#[derive(Clone, Debug, Default)]
pub struct BucketCorsRequests(
    #[expect(clippy::disallowed_types, reason = "as above")]
    Arc<Mutex<BTreeMap<(BucketCorsOperation, &'static str), u64>>>,
);

impl BucketCorsRequests {
    /// Counts a request; `code` is S3's error code, or `OK`.
    pub fn count(&self, operation: BucketCorsOperation, code: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((operation, code)).or_default() += 1;
    }

    /// Whether anybody else may count.
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
