//! Why a response's body ends early.

use std::io;

use crate::metrics::{RouteCounts, UpstreamFailure};
use crate::telemetry::access_log::BodyCut;
use crate::telemetry::upstream_log;
use crate::upstream::balance::InFlight;
use crate::upstream::body_error::RequestBodyError;

/// Why a response's body is cut short. The client notices it: its connection (HTTP/1.1) or stream
/// (HTTP/2) ends before the body does.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream's connection failed during the body.
    #[error("the upstream's response was interrupted")]
    Upstream(#[source] io::Error),
    /// The upstream stopped sending.
    #[error("no data arrived for route.timeouts.body_idle_seconds (0 disables this limit)")]
    Idle,
    /// The request's body failed while it was still being sent.
    #[error("the request's body failed during the response")]
    Request(#[source] RequestBodyError),
}

impl BodyError {
    /// The access log's name for it.
    pub(crate) fn cut(&self) -> BodyCut {
        match self {
            Self::Upstream(_) => BodyCut::Upstream,
            Self::Idle => BodyCut::Idle,
            Self::Request(_) => BodyCut::Client,
        }
    }
}

/// Logs that a response of `in_flight`'s upstream was cut short, and counts it in `counts`.
pub(crate) fn note_cut(
    in_flight: &InFlight,
    counts: Option<&RouteCounts>,
    error: &dyn std::fmt::Display,
) {
    let upstream = in_flight.upstream();
    upstream_log::log(UpstreamFailure::Body, || {
        tracing::warn!(%upstream, %error, "upstream response cut short");
    });
    if let Some(counts) = counts {
        counts.upstream_failure(UpstreamFailure::Body);
    }
}
