//! What an active health check asks, and which answers pass.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};

/// How an upstream is checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckSettings {
    /// What it is asked for.
    pub path: PathAndQuery,
    /// By which method.
    pub method: Method,
    /// The value of `Host`; `None`: the upstream's address.
    pub host: Option<HeaderValue>,
    /// Which statuses are a pass.
    pub statuses: Box<[RangeInclusive<u16>]>,
    /// Between two checks, and for each of them.
    pub interval: Duration,
    /// After how many passes in a row it gets requests again.
    pub passes: usize,
    /// After how many failures in a row it is left out.
    pub failures: usize,
}

impl CheckSettings {
    /// A `GET` of `path` every five seconds, which a status from 200 to 399 passes.
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
