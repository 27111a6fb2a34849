//! The thread that sends spans to the collector: [OTLP] over HTTP/1.1, in protobuf.
//!
//! [OTLP]: https://opentelemetry.io/docs/specs/otlp/#otlphttp

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
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

use super::super::stream::Stream;
use super::super::upstream::Upstream;
use super::TracesSettings;

/// How many spans are sent together.
const BATCH: usize = 512;

/// How long a span waits for others.
const BATCH_AGE: Duration = Duration::from_secs(1);

/// How long the collector may take over a batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that is read of the collector's answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

pub(super) struct Exporter {
    runtime: Runtime,
    collector: Upstream,
    resource: Resource,
    metrics: Arc<Metrics>,
    /// Whether the last batch was lost, so that this is said once and not for each.
    is_failing: bool,
}

impl Exporter {
    pub(super) fn new(settings: &TracesSettings, metrics: Arc<Metrics>) -> io::Result<Self> {
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

    /// Sends until nobody is left who could hand over a span.
    pub(super) fn run(mut self, spans: &Receiver<Span>) {
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
            tracing::warn!(%error, cause, collector, "cannot send traces: spans are lost");
        }
        self.is_failing = sent.is_err();
    }
}

/// Sends a batch, on a connection of its own: there is one a second, unless there is much to send.
async fn send(
    collector: &Upstream,
    body: Bytes,
) -> Result<ExportTraceServiceResponse, Box<dyn Error + Send + Sync>> {
    let stream = Stream::connect(collector).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post("/v1/traces")
        .header(HOST, &collector.authority)
        .header(CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(body))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await?;
        match status {
            StatusCode::OK => Ok(ExportTraceServiceResponse::decode(answer.to_bytes())?),
            _ => Err(format!("the collector answered {status}").into()),
        }
    };
    // It moves the bytes; what it has to say of a failure the exchange says too.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = exchange => answer,
        never = driven => match never {},
    }
}
