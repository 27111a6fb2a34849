//! An exchange in progress.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, StatusCode};

use crate::cors::fetch::AnswerVerdict;
use crate::metrics::{RouteCounts, UpstreamFailure};
use crate::net::deadline::Deadline;
use crate::routing::snapshot::Route;
use crate::telemetry::access_log::BodyCut;
use crate::upstream::endpoint::Upstream;
use crate::upstream::error::Error;
use crate::upstream::http1_conn::Http1Conn;

use super::access_note::ExchangeEnd;
use super::exchange::Http1Exchange;
use super::moved_bytes::MovedBytes;
use super::state::Proxy;

/// The state in which an exchange leaves the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnFate {
    /// Ready for the next request. The exchange ended then, or slightly later.
    On(Instant),
    /// To be closed; nothing is left to read.
    Ends,
    /// To be closed, while the client may still be sending.
    Refused,
    /// To be closed abruptly: its end must not look like the end of a body.
    Cut,
}

/// Why an exchange has no complete response.
pub(crate) enum ExchangeFailure {
    /// The connection was closed before anything was sent on it again.
    Unsent(Error),
    /// The connection was closed just as it was used again. The upstream may have processed the
    /// request, and is not at fault for closing an old connection.
    Stale(Error),
    /// Another try would not help.
    Final(Error),
    /// The client has left.
    ClientLeft,
}

impl ExchangeFailure {
    pub(crate) fn allows_another_try(&self, exchange: &Http1Exchange) -> bool {
        match self {
            Self::Unsent(_) => true,
            Self::Stale(_) => exchange.is_repeatable(),
            Self::Final(_) | Self::ClientLeft => false,
        }
    }
}

/// An exchange in progress, with everything it uses except the upstream's connection.
pub(crate) struct RunningExchange<'c, C> {
    pub(crate) proxy: &'c Proxy,
    pub(crate) exchange: &'c Http1Exchange,
    pub(crate) route: &'c Route,
    /// This worker's counts of the route.
    pub(crate) counts: &'c RouteCounts,
    pub(crate) client: &'c mut C,
    pub(crate) ahead: &'c mut Vec<u8>,
    /// The upstream connection that is authenticated for this client connection.
    pub(crate) bound: &'c mut Option<Box<Http1Conn>>,
    pub(crate) deadline: &'c mut Deadline,
    pub(crate) closing: &'c dyn Fn() -> bool,
    /// The time when the clock was last read: precise enough for limits of seconds.
    pub(crate) now: Instant,
    /// When the whole request was sent.
    pub(crate) asked: Instant,
    /// Interim responses that the client has not accepted yet.
    pub(crate) untaken: Vec<u8>,
    /// The status of the response.
    pub(crate) status: StatusCode,
    pub(crate) moved: MovedBytes<'c>,
    /// Which side cut the response short.
    pub(crate) cut: Option<BodyCut>,
    /// The upstream that answered, if the log needs it.
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// The upstream that failed, and why.
    pub(crate) failed: Option<(Box<str>, UpstreamFailure)>,
    pub(crate) request_id: Option<HeaderValue>,
    /// What browsers will do with the response.
    pub(crate) verdict: Option<AnswerVerdict>,
}

impl<C> RunningExchange<'_, C> {
    /// Counts the response at its head, which came now.
    pub(crate) fn count_response(&self, status: StatusCode) {
        let took = self.now.saturating_duration_since(self.exchange.start);
        self.counts.request(&self.exchange.method, status, took);
    }

    /// Counts the wait for the response, whose first byte came now. Not for an early one, before the
    /// end of the request: nothing was waited for.
    pub(crate) fn count_first_byte(&self) {
        let waited = self.now.saturating_duration_since(self.asked);
        self.counts.first_byte(waited);
    }
}

impl<C> Drop for RunningExchange<'_, C> {
    /// Runs at the end of the exchange, whatever the reason.
    fn drop(&mut self) {
        self.moved.count();
        self.counts.end();
        let id = self.request_id.as_ref().and_then(|id| id.to_str().ok());
        let failed = self.failed.as_ref();
        let end = ExchangeEnd {
            status: self.status,
            bytes: self.moved.client_sent,
            cut: self.cut,
            upstream: self.upstream.as_deref(),
            failed: failed.map(|(upstream, failure)| (&**upstream, *failure)),
            request_id: id.unwrap_or_default(),
            verdict: self.verdict,
        };
        self.proxy.log_exchange(self.exchange, self.route, &end);
    }
}
