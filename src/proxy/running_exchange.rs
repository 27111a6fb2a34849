//! An exchange under way.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, StatusCode};

use crate::cors::fetch::AnswerVerdict;
use crate::metrics::UpstreamFailure;
use crate::net::deadline::Deadline;
use crate::routing::snapshot::Route;
use crate::telemetry::access_log::BodyCut;
use crate::upstream::endpoint::Upstream;
use crate::upstream::error::Error;
use crate::upstream::http1_conn::Http1Conn;

use super::access_note::ExchangeEnd;
use super::exchange::Exchange;
use super::state::Proxy;

/// How an exchange left the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnFate {
    /// The next request may come. The exchange ended then, or a little later.
    On(Instant),
    /// It ends, with nothing left to be read.
    Ends,
    /// It ends while the client may still be sending.
    Refused,
    /// It ends without a word: its end must not be taken for a body's.
    Cut,
}

/// Why an exchange has no response, or not the whole.
pub(crate) enum ExchangeFailure {
    /// The connection was closed before anything was sent on it again.
    Unsent(Error),
    /// The connection was closed at the moment that it was used again: what became of the request
    /// is not known, and that the connection was old is no fault of the upstream's.
    Stale(Error),
    /// There is no use in another try.
    Final(Error),
    /// The client has left.
    ClientLeft,
}

impl ExchangeFailure {
    pub(crate) fn allows_another_try(&self, exchange: &Exchange) -> bool {
        match self {
            Self::Unsent(_) => true,
            Self::Stale(_) => exchange.is_repeatable(),
            Self::Final(_) | Self::ClientLeft => false,
        }
    }
}

/// An exchange under way, with all that takes part in it but the upstream.
pub(crate) struct RunningExchange<'c, C> {
    pub(crate) proxy: &'c Proxy,
    pub(crate) exchange: &'c Exchange,
    pub(crate) route: &'c Route,
    pub(crate) client: &'c mut C,
    pub(crate) ahead: &'c mut Vec<u8>,
    /// An upstream's connection that is authenticated for this client's.
    pub(crate) bound: &'c mut Option<Box<Http1Conn>>,
    pub(crate) deadline: &'c mut Deadline,
    pub(crate) closing: &'c dyn Fn() -> bool,
    /// The clock as it was last read: near enough for limits of seconds.
    pub(crate) now: Instant,
    /// What the client has not taken of interim responses.
    pub(crate) untaken: Vec<u8>,
    /// The response's.
    pub(crate) status: StatusCode,
    /// Of its body, moved to the client so far.
    pub(crate) bytes: u64,
    /// Who cut it short.
    pub(crate) cut: Option<BodyCut>,
    /// Who answered, where the log wants to know it.
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// Who did not, and why.
    pub(crate) failed: Option<(Box<str>, UpstreamFailure)>,
    pub(crate) request_id: Option<HeaderValue>,
    /// What browsers make of the response.
    pub(crate) verdict: Option<AnswerVerdict>,
}

impl<C> Drop for RunningExchange<'_, C> {
    /// The exchange has ended, however that came about.
    fn drop(&mut self) {
        let id = self.request_id.as_ref().and_then(|id| id.to_str().ok());
        let failed = self.failed.as_ref();
        let end = ExchangeEnd {
            status: self.status,
            bytes: self.bytes,
            cut: self.cut,
            upstream: self.upstream.as_deref(),
            failed: failed.map(|(upstream, failure)| (&**upstream, *failure)),
            request_id: id.unwrap_or_default(),
            verdict: self.verdict,
        };
        self.proxy.log_exchange(self.exchange, self.route, &end);
    }
}
