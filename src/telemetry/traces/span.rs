//! Converts a request to a span: [OpenTelemetry's semantic conventions for HTTP servers].
//!
//! [OpenTelemetry's semantic conventions for HTTP servers]: https://opentelemetry.io/docs/specs/semconv/http/http-spans/

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, Version};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status};

use crate::cors::Kind;
use crate::telemetry::access_log::Record;
use crate::telemetry::trace_context::{TraceId, TraceParent};
use crate::text::escape::cut;

/// The most bytes kept of a value.
const MAX_VALUE: usize = 512;

/// What a span needs in addition to its request's record.
#[derive(Debug)]
pub(crate) struct SpanContext {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: u64,
    /// The client's span; `None`: the trace begins here.
    pub(crate) parent_id: Option<u64>,
    pub(crate) trace_state: Vec<Vec<u8>>,
    pub(crate) is_tls: bool,
}

pub(crate) fn of(open: &SpanContext, record: &Record<'_>) -> Span {
    let method = known(record.method);
    let state = open
        .trace_state
        .iter()
        .filter_map(|value| std::str::from_utf8(value).ok());
    let state = state.collect::<Vec<_>>().join(",");
    // `parent_span_id` is the ID of another process's span.
    let parent_flags =
        SpanFlags::ContextHasIsRemoteMask as u32 | SpanFlags::ContextIsRemoteMask as u32;
    let parent_flags = open.parent_id.map_or(0, |_| parent_flags);
    Span {
        trace_id: open.trace_id.0.to_be_bytes().to_vec(),
        span_id: open.span_id.to_be_bytes().to_vec(),
        parent_span_id: open
            .parent_id
            .map_or_else(Vec::new, |id| id.to_be_bytes().to_vec()),
        trace_state: if state.len() <= MAX_VALUE {
            state
        } else {
            String::new()
        },
        flags: u32::from(TraceParent::SAMPLED) | parent_flags,
        // Without a route template, the name is only the method (§ Name).
        name: method.unwrap_or("HTTP").to_owned(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanoseconds(record.time),
        end_time_unix_nano: nanoseconds(record.time + record.duration),
        attributes: attributes(open, record, method),
        status: record.status.is_server_error().then(|| Status {
            code: StatusCode::Error.into(),
            ..Status::default()
        }),
        ..Span::default()
    }
}

fn attributes(open: &SpanContext, record: &Record<'_>, method: Option<&str>) -> Vec<KeyValue> {
    let status = record.status;
    let target = record.unsigned_target();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*target, None),
    };
    let scheme = if open.is_tls { "https" } else { "http" };
    let version = match record.version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    let mut attributes = vec![
        text("http.request.method", method.unwrap_or("_OTHER")),
        text("url.scheme", scheme),
        text("url.path", path),
        text("server.address", host(record.host)),
        text("network.protocol.version", version),
        integer("http.response.status_code", status.as_u16().into()),
        integer("http.response.body.size", record.bytes),
    ];
    let mut add =
        |name, value: Option<&[u8]>| attributes.extend(value.map(|value| text(name, value)));
    let port = port(record.host).and_then(|port| port.parse().ok());
    let other = method.is_none().then(|| record.method.as_str().as_bytes());
    add("http.request.method_original", other);
    add("url.query", query.map(str::as_bytes));
    add("user_agent.original", record.user_agent);
    let client = record.client.map(|address| address.to_string());
    add("client.address", client.as_deref().map(str::as_bytes));
    let failure = status.is_server_error().then(|| status.as_str().as_bytes());
    add("error.type", failure);
    add("s3cors.route", record.route.map(str::as_bytes));
    let upstream = record.upstream.map(ToString::to_string);
    add("s3cors.upstream", upstream.as_deref().map(str::as_bytes));
    if let Some((kind, outcome)) = record.decision {
        let kind = match kind {
            Kind::Preflight => "preflight",
            Kind::Actual => "actual",
        };
        let (outcome, reason) = match outcome {
            Ok(()) => ("allowed", "matched"),
            Err(reason) => ("denied", reason.as_str()),
        };
        add("s3cors.cors.request", Some(kind.as_bytes()));
        add("s3cors.cors.outcome", Some(outcome.as_bytes()));
        add("s3cors.cors.reason", Some(reason.as_bytes()));
    }
    attributes.extend(port.map(|port| integer("server.port", port)));
    attributes.extend(record.origin.map(|origin| {
        let values = vec![string(origin)];
        let value = Value::ArrayValue(ArrayValue { values });
        attribute("http.request.header.origin", value)
    }));
    attributes
}

/// A method of RFC 9110 or RFC 5789; others are unbounded and become `_OTHER`.
fn known(method: &Method) -> Option<&str> {
    const KNOWN: [Method; 9] = [
        Method::CONNECT,
        Method::DELETE,
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PATCH,
        Method::POST,
        Method::PUT,
        Method::TRACE,
    ];
    KNOWN.contains(method).then(|| method.as_str())
}

/// A request's host without its port.
fn host(authority: &[u8]) -> &[u8] {
    match port(authority) {
        Some(port) => authority
            .get(..authority.len() - port.len() - 1)
            .unwrap_or_default(),
        None => authority,
    }
}

fn port(authority: &[u8]) -> Option<&str> {
    let colon = authority.iter().rposition(|byte| *byte == b':')?;
    let port = std::str::from_utf8(authority.get(colon + 1..)?).ok()?;
    // The last colon of an IPv6 address comes before its bracket.
    port.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(port)
}

fn text(name: &str, value: impl AsRef<[u8]>) -> KeyValue {
    let value = string(value.as_ref());
    KeyValue {
        key: name.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

/// A value cut to [`MAX_VALUE`], with U+FFFD in place of invalid UTF-8.
fn string(value: &[u8]) -> AnyValue {
    let (value, _) = cut(value, MAX_VALUE);
    let text = String::from_utf8_lossy(value).into_owned();
    AnyValue {
        value: Some(Value::StringValue(text)),
    }
}

fn integer(name: &str, value: u64) -> KeyValue {
    attribute(
        name,
        Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)),
    )
}

fn attribute(name: &str, value: Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
