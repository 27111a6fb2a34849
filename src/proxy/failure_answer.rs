//! What a client gets, and the log, when an exchange has no response or not the whole.

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
use super::download::Broken;
use super::own_response;
use super::request_id::REQUEST_ID;
use super::running_exchange::{ConnFate, RunningExchange};

impl<C: ClientStream> RunningExchange<'_, C> {
    /// Counts and logs a response's body that broke off.
    pub(super) fn note_broken_body(&self, in_flight: &InFlight, broken: &Broken) {
        let cause = match broken {
            Broken::Client => {
                return tracing::debug!(
                    "a client left in the middle of a response, or took no more of it"
                );
            }
            Broken::Upstream(error) => error.to_string(),
            Broken::Chunk => "a chunk is none".to_owned(),
            Broken::Idle { .. } => BodyError::Idle.to_string(),
        };
        let (route, worker) = (self.route, self.proxy.worker);
        // A stream without a length may be silent for as long as it likes: that is our limit.
        if !matches!(broken, Broken::Idle { owes: false }) {
            route
                .metrics
                .upstream_failure(worker, UpstreamFailure::Body);
        }
        let upstream = in_flight.upstream();
        upstream_log::log(UpstreamFailure::Body, || {
            tracing::warn!(route = &*route.name, %upstream, cause, "a response's body broke off");
        });
    }

    /// Answers for an upstream that did not.
    pub(super) async fn answer_failure(&mut self, error: &Error) -> ConnFate {
        let (proxy, exchange, route) = (self.proxy, self.exchange, self.route);
        let failed = error.failed_upstream().filter(|_| exchange.note.is_some());
        self.failed = failed.map(|(upstream, failure)| (upstream.into(), failure));
        let mut response = proxy.failure(route, error, exchange.marks.is_some());
        // A request whose body was not read to its end has bytes behind it that are no request.
        let is_unread = !exchange.is_bodiless();
        let closes = exchange.closes || is_unread || error.answer().close || (self.closing)();
        // Our own line says it.
        response.headers_mut().remove(CONNECTION);
        let client_head = exchange.client_head(route, closes);
        let mut lines = client_head.cors.unwrap_or_default().to_vec();
        lines.extend_from_slice(client_head.ends);
        if let Some(names) = client_head.vary {
            write_line(b"vary", names.as_bytes(), &mut lines);
        }
        let now = Instant::now();
        proxy.count_exchange(exchange, route, response.status(), now);
        self.verdict = proxy.judge_failure(exchange, route);
        self.status = response.status();
        self.request_id = response.headers().get(REQUEST_ID).cloned();
        let mut bytes = std::mem::take(&mut self.untaken);
        let to_head = exchange.method == Method::HEAD;
        let length = own_response::write(response, &lines, to_head, &proxy.date, now, &mut bytes);
        self.bytes = length as u64;
        self.deadline.set(due(Timeouts::default().body_idle));
        match write_all(self.client, &bytes, self.deadline, None).await {
            Ok(()) if closes => ConnFate::Refused,
            Ok(()) => ConnFate::On(Instant::now()),
            Err(_) => ConnFate::Ends,
        }
    }
}
