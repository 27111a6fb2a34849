//! Answers and logs an exchange without a complete response.

use std::time::Instant;

use http::Method;
use http::header::CONNECTION;

use crate::http1::client_head::write_line;
use crate::metrics::UpstreamFailure;
use crate::net::client_stream::ClientStream;
use crate::net::deadline::due;
use crate::net::write::write_all;
use crate::telemetry::upstream_log;
use crate::upstream::balance::InFlight;
use crate::upstream::endpoint::Timeouts;
use crate::upstream::error::Error;

use super::body_error::BodyError;
use super::download::DownloadFailure;
use super::own_response;
use super::request_id::REQUEST_ID;
use super::running_exchange::{ConnFate, RunningExchange};

impl<C: ClientStream> RunningExchange<'_, C> {
    /// Counts and logs a response's body that ended early.
    pub(super) fn note_broken_body(&self, in_flight: &InFlight, broken: &DownloadFailure) {
        let cause = match broken {
            DownloadFailure::Client => {
                return tracing::debug!("client left or stopped reading during a response");
            }
            DownloadFailure::Upstream(error) => error.to_string(),
            DownloadFailure::Chunk => "invalid chunk".to_owned(),
            DownloadFailure::Idle { .. } => BodyError::Idle.to_string(),
        };
        // A stream without a length may be silent; the limit is the proxy's.
        if !matches!(broken, DownloadFailure::Idle { owes: false }) {
            self.counts.upstream_failure(UpstreamFailure::Body);
        }
        let upstream = in_flight.upstream();
        upstream_log::log(UpstreamFailure::Body, || {
            tracing::warn!(route = &*self.route.name, %upstream, cause, "response body interrupted");
        });
    }

    /// Answers in place of an upstream that failed.
    pub(super) async fn answer_failure(&mut self, error: &Error) -> ConnFate {
        let (proxy, exchange, route) = (self.proxy, self.exchange, self.route);
        let failed = error.failed_upstream().filter(|_| exchange.note.is_some());
        self.failed = failed.map(|(upstream, failure)| (upstream.into(), failure));
        let mut response = proxy.failure(route, error, exchange.marks.is_some());
        // An unread request body would be misread as the next request.
        let is_unread = !exchange.is_bodiless();
        let closes = exchange.closes || is_unread || error.answer().close || (self.closing)();
        // `ends` has its own line.
        response.headers_mut().remove(CONNECTION);
        let client_head = exchange.client_head(route, closes);
        let mut lines = client_head.cors.unwrap_or_default().to_vec();
        lines.extend_from_slice(client_head.ends);
        if let Some(names) = client_head.vary {
            write_line(b"vary", names.as_bytes(), &mut lines);
        }
        let now = Instant::now();
        self.now = now;
        self.count_response(response.status());
        self.verdict = proxy.judge_failure(exchange, route);
        self.status = response.status();
        self.request_id = response.headers().get(REQUEST_ID).cloned();
        let mut bytes = std::mem::take(&mut self.untaken);
        let to_head = exchange.method == Method::HEAD;
        let length = own_response::write(response, &lines, to_head, &proxy.date, now, &mut bytes);
        self.moved.client_sent = length as u64;
        self.deadline.set(due(Timeouts::default().body_idle));
        match write_all(self.client, &bytes, self.deadline, None).await {
            Ok(()) if closes => ConnFate::Refused,
            Ok(()) => ConnFate::On(Instant::now()),
            Err(_) => ConnFate::Ends,
        }
    }
}
