//! What an active health check requests, and which responses pass.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};

/// How an upstream is checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckSettings {
    /// The path to request.
    pub path: PathAndQuery,
    /// The method to use.
    pub method: Method,
    /// The value of `Host`; `None`: the upstream's address.
    pub host: Option<HeaderValue>,
    /// Which statuses pass.
    pub statuses: Box<[RangeInclusive<u16>]>,
    /// The time between two checks, and the time limit for each.
    pub interval: Duration,
    /// After this many passes in a row, the upstream gets requests again.
    pub passes: usize,
    /// After this many failures in a row, the upstream gets no more requests.
    pub failures: usize,
}

impl CheckSettings {
    /// A `GET` of `path` every five seconds; statuses from 200 to 399 pass.
    #[must_use]
    pub fn new(path: PathAndQuery) -> Self {
        Self {
            path,
            method: Method::GET,
            host: None,
            statuses: [200..=399].into(),
            interval: Duration::from_secs(5),
            passes: 2,
            failures: 3,
        }
    }

    pub(crate) fn passes_with(&self, status: StatusCode) -> bool {
        let mut ranges = self.statuses.iter();
        ranges.any(|range| range.contains(&status.as_u16()))
    }
}
