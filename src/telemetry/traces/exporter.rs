//! The thread that sends spans to the collector: [OTLP] over HTTP/1.1, in protobuf.
//!
//! [OTLP]: https://opentelemetry.io/docs/specs/otlp/#otlphttp

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::runtime::Runtime;

use crate::metrics::Metrics;
use crate::upstream::endpoint::Upstream;
use crate::upstream::http1_once::request_once;
use crate::upstream::stream::UpstreamStream;

use super::settings::TracesSettings;

/// How many spans are sent at once.
const BATCH: usize = 512;

/// How long a span waits for others.
const BATCH_AGE: Duration = Duration::from_secs(1);

/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most bytes read of the collector's response.
const MAX_ANSWER: usize = 64 * 1024;

pub(crate) struct Exporter {
    runtime: Runtime,
    collector: Upstream,
    resource: Resource,
    metrics: Arc<Metrics>,
    /// Whether the last batch was lost, so that a failure is reported once and not for each batch.
    is_failing: bool,
}

impl Exporter {
    pub(crate) fn new(settings: &TracesSettings, metrics: Arc<Metrics>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let attribute = |key: &str, value: &str| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue {
                value: Some(Value::StringValue(value.to_owned())),
            }),
            ..KeyValue::default()
        };
        let attributes = vec![
            attribute("service.name", &settings.service_name),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
        ];
        Ok(Self {
            runtime,
            collector: Upstream::new(settings.endpoint.clone()).map_err(io::Error::other)?,
            resource: Resource {
                attributes,
                ..Resource::default()
            },
            metrics,
            is_failing: false,
        })
    }

    /// Sends until all senders are gone.
    pub(crate) fn run(mut self, spans: &Receiver<Span>) {
        while let Ok(first) = spans.recv() {
            let mut batch = vec![first];
            let until = Instant::now() + BATCH_AGE;
            while batch.len() < BATCH {
                let left = until.saturating_duration_since(Instant::now());
                match spans.recv_timeout(left) {
                    Ok(span) => batch.push(span),
                    Err(_) => break,
                }
            }
            self.export(batch);
        }
    }

    fn export(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(InstrumentationScope {
                        name: env!("CARGO_PKG_NAME").to_owned(),
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                        ..InstrumentationScope::default()
                    }),
                    spans: batch,
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        let body = Bytes::from(request.encode_to_vec());
        let sent = async { tokio::time::timeout(PATIENCE, send(&self.collector, body)).await };
        let sent = self
            .runtime
            .block_on(sent)
            .unwrap_or_else(|late| Err(late.into()));
        let rejected = match &sent {
            Ok(answer) => answer.partial_success.as_ref().map_or(0, |partial| {
                u64::try_from(partial.rejected_spans).unwrap_or_default()
            }),
            Err(_) => count,
        };
        self.metrics.trace_spans_dropped(rejected.min(count));
        if let Err(error) = &sent
            && !self.is_failing
        {
            let collector = self.collector.to_string();
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%error, cause, collector, "cannot send traces: dropping spans");
        }
        self.is_failing = sent.is_err();
    }
}

/// Sends a batch on a new connection: under low load there is only one batch a second.
async fn send(
    collector: &Upstream,
    body: Bytes,
) -> Result<ExportTraceServiceResponse, Box<dyn Error + Send + Sync>> {
    let stream = UpstreamStream::connect(collector).await?;
    let mut request = b"POST /v1/traces HTTP/1.1\r\nhost: ".to_vec();
    request.extend_from_slice(collector.authority.as_bytes());
    let length = format!("\r\ncontent-length: {}\r\n", body.len());
    request.extend_from_slice(length.as_bytes());
    request.extend_from_slice(b"content-type: application/x-protobuf\r\n\r\n");
    request.extend_from_slice(&body);
    let limits = &collector.settings.limits;
    let asked = request_once(stream, &request, limits, MAX_ANSWER).await;
    let (status, answer) = asked.map_err(|no_reply| no_reply.error_of(collector))?;
    match status {
        StatusCode::OK => Ok(ExportTraceServiceResponse::decode(&*answer)?),
        _ => Err(format!("the collector responded with status {status}").into()),
    }
}
