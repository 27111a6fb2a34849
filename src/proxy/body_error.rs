//! Why a response's body breaks off.

use std::io;

use crate::metrics::{UpstreamFailure, UpstreamFailures};
use crate::telemetry::access_log::BodyCut;
use crate::telemetry::upstream_log;
use crate::upstream::balance::InFlight;
use crate::upstream::body_error::RequestBodyError;

/// Why a response's body is cut short. The client sees it cut: its connection (HTTP/1.1) or its
/// stream (HTTP/2) ends without the body's end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream's connection failed in the middle of it.
    #[error("the upstream's response broke off")]
    Upstream(#[source] io::Error),
    /// The upstream stopped sending.
    #[error("nothing came for route.timeouts.body_idle_seconds (0 turns this limit off)")]
    Idle,
    /// The request's body, which was still being sent, failed.
    #[error("the request's body failed while the response came")]
    Request(#[source] RequestBodyError),
}

impl BodyError {
    /// As the access log says it.
    pub(crate) fn cut(&self) -> BodyCut {
        match self {
            Self::Upstream(_) => BodyCut::Upstream,
            Self::Idle => BodyCut::Idle,
            Self::Request(_) => BodyCut::Client,
        }
    }
}

/// Logs a response of `in_flight`'s upstream that was cut, and counts it as a failure with `failures`.
pub(crate) fn note_cut(
    in_flight: &InFlight,
    failures: Option<&UpstreamFailures>,
    error: &dyn std::fmt::Display,
) {
    let upstream = in_flight.upstream();
    upstream_log::log(UpstreamFailure::Body, || {
        tracing::warn!(%upstream, %error, "an upstream's response was cut");
    });
    if let Some(failures) = failures {
        failures.count(UpstreamFailure::Body);
    }
}
