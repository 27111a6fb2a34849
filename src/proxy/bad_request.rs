//! Answers a head that is invalid or too large. The response gets the policy's CORS fields if the
//! sender can be determined, so that an allowed page can read why, and the request is logged like
//! any other.

use std::time::{Duration, Instant, SystemTime};

use http::header::{CONNECTION, HOST, ORIGIN, REFERER, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, Uri, request};
use http_body::Body as _;

use crate::http1::fields::Fields as _;
use crate::http1::partial_head::PartialHead;
use crate::routing::client;
use crate::routing::client::Client;
use crate::telemetry::LogLimiter;
use crate::telemetry::access_log::Record;
use crate::telemetry::trace_context::TraceParent;
use crate::upstream::error::Error;

use super::request_id::REQUEST_ID;
use super::response_body::Body;
use super::verdict::JudgedRequest;
use super::verdict_basis::VerdictBasis;
use super::{Proxy, own_response};

thread_local! {
    /// One per worker, because a worker is a thread.
    static LIMITER: LogLimiter<1> = LogLimiter::default();
}

impl Proxy {
    /// Answers a client that sent only `bytes` of a head in time.
    pub fn refuse_slow_head(&self, bytes: &[u8], client: Client, out: &mut Vec<u8>) {
        self.refuse_bytes(&Error::RequestHeadTimeout, bytes, client, b"", out);
    }

    /// Answers a client whose incomplete head, of which `bytes` arrived, exceeds the memory for
    /// such heads.
    pub fn refuse_unfinished_head(&self, bytes: &[u8], client: Client, out: &mut Vec<u8>) {
        self.refuse_bytes(&Error::UnfinishedHead, bytes, client, b"", out);
    }

    /// Appends to `out` the answer to a refused head that begins with `bytes`, with `lines` among
    /// its fields.
    #[cold]
    pub(super) fn refuse_bytes(
        &self,
        error: &Error,
        bytes: &[u8],
        client: Client,
        lines: &[u8],
        out: &mut Vec<u8>,
    ) {
        let start = Instant::now();
        // An unknown host is logged elsewhere.
        if !matches!(error, Error::UnknownHost) {
            log(error, bytes, client, start);
        }
        let head = PartialHead::of(bytes);
        let parts = parts(&head);
        let held = self.snapshot();
        let mut response = self.refuse_head(error, &held.0, &parts, client);
        if !lines.is_empty() {
            // `lines` include it.
            response.headers_mut().remove(CONNECTION);
        }
        let status = response.status();
        let judged = JudgedRequest::of(&parts);
        let verdict = judged.and_then(|judged| judged.judge(&response));
        self.count_verdict(&self.unrouted, verdict);
        let target = std::str::from_utf8(head.target).unwrap_or_default();
        let tracer = self.tracer.as_ref();
        let span = tracer.and_then(|tracer| tracer.begin(&parts.headers, target, client));
        let basis = verdict.map_or(VerdictBasis::NotCors, VerdictBasis::Decided);
        if self.access_log.is_some() || span.is_some() || self.shows(None, &basis) {
            let address = client::address_behind(
                parts.headers.field_values(&client::X_FORWARDED_FOR),
                client,
                &held.0.trusted_proxies,
            );
            let record = Record {
                client: address,
                duration: start.elapsed(),
                verdict,
                tls: client.tls,
                ..record(&head, &parts, &response)
            };
            self.record(&record, span.as_ref(), None);
        }
        let to_head = parts.method == Method::HEAD;
        let bytes = own_response::write(response, lines, to_head, &self.date, start, out);
        self.count_own_answer(&self.unrouted, (&parts.method, start), status, bytes);
    }
}

/// Logs a refused head, at a limited rate.
fn log(error: &Error, bytes: &[u8], client: Client, now: Instant) {
    if LIMITER.with(|limiter| limiter.take(0, now, tell)) {
        let client = client.address.map(tracing::field::display);
        tracing::info!(client, %error, hint = hint(bytes), "request head refused");
    }
}

/// Logs how many refused heads were not logged. Call it regularly.
pub(super) fn summarise(now: Instant) {
    LIMITER.with(|limiter| limiter.summarise(now, |_, suppressed| tell(suppressed)));
}

fn tell(suppressed: u64) {
    tracing::info!(suppressed, "more request heads refused");
}

/// Advice for bytes that belong to another protocol.
fn hint(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"\x16\x03") {
        Some(
            "the client uses TLS on a listener without it: use http://, or set tls on the listener",
        )
    } else if bytes.starts_with(b"PROXY ") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
        Some("the client sent a PROXY protocol header: set proxy_protocol = true on the listener")
    } else {
        None
    }
}

/// What is known of a refused head, as a request. Without a method, its method is `-`. With an
/// invalid target, it has no host either, because the policy depends on both.
fn parts(head: &PartialHead<'_>) -> request::Parts {
    let mut request = Request::new(());
    *request.version_mut() = head.version;
    *request.headers_mut() = head.fields.clone();
    let method = Method::from_bytes(head.method).or_else(|_| Method::from_bytes(b"-"));
    *request.method_mut() = method.unwrap_or_default();
    // The query does not choose a route, and may be the part that is too long.
    let path = head.target.split(|&byte| byte == b'?').next();
    match Uri::try_from(path.unwrap_or_default()) {
        Ok(path) => *request.uri_mut() = path,
        Err(_) => {
            request.headers_mut().remove(HOST);
        }
    }
    request.into_parts().0
}

/// The access log's record, without the client's address and the duration.
fn record<'r>(
    head: &'r PartialHead<'_>,
    parts: &'r request::Parts,
    response: &'r Response<Body>,
) -> Record<'r> {
    let field = |name| head.fields.get(name).map(HeaderValue::as_bytes);
    let id = response.headers().get(REQUEST_ID);
    let bytes = response.body().size_hint().exact();
    Record {
        time: SystemTime::now(),
        route: None,
        client: None,
        method: &parts.method,
        host: field(HOST).unwrap_or_default(),
        target: match std::str::from_utf8(head.target) {
            Ok(target) if !target.is_empty() => target,
            _ => "-",
        },
        version: head.version,
        status: response.status(),
        bytes: bytes
            .filter(|_| parts.method != Method::HEAD)
            .unwrap_or_default(),
        cut: None,
        duration: Duration::ZERO,
        upstream: None,
        failed: None,
        request_id: id.and_then(|id| id.to_str().ok()).unwrap_or_default(),
        trace_id: TraceParent::of(&head.fields).map(|parent| parent.trace_id),
        origin: field(ORIGIN),
        decision: None,
        verdict: None,
        asked: None,
        tls: false,
        referer: field(REFERER),
        user_agent: field(USER_AGENT),
    }
}
