//! Spans reach a collector over OTLP, and the upstream's spans are their children.

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use s3cors::telemetry::traces::TracesSettings;
use s3cors::upstream::endpoint::{Address, UpstreamSettings};

use crate::support::client::ask;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::{MockUpstream, refusing};

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
                      <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A collector that accepts everything.
const TAKEN: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn settings(collector: SocketAddr, sample_ratio: f64) -> TracesSettings {
    let host = collector.ip().to_string();
    let port = collector.port();
    TracesSettings {
        endpoint: UpstreamSettings::plain(Address::Tcp { host, port }),
        sample_ratio,
        service_name: "edge".to_owned(),
    }
}

fn traced(collector: SocketAddr, sample_ratio: f64, upstream: &MockUpstream) -> TestProxy {
    let route = TestRoute::new(upstream.address, POLICY);
    TestProxy::traced(&settings(collector, sample_ratio), &[route])
}

/// All spans that the proxy sent until it stopped; and their service.
fn spans(proxy: TestProxy, collector: &MockUpstream) -> Vec<Span> {
    assert!(proxy.finish_traces(Duration::from_secs(30)));
    let mut spans = Vec::new();
    for request in collector.requests() {
        assert_eq!(request.line(), "POST /v1/traces HTTP/1.1");
        assert_eq!(request.values("content-type"), ["application/x-protobuf"]);
        let sent = ExportTraceServiceRequest::decode(&*request.body).unwrap();
        for resource_spans in sent.resource_spans {
            let resource = resource_spans.resource.unwrap();
            let resource = texts(&resource.attributes);
            assert_eq!(resource["service.name"], "edge");
            assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
            for scope_spans in resource_spans.scope_spans {
                assert_eq!(scope_spans.scope.unwrap().name, "s3cors");
                spans.extend(scope_spans.spans);
            }
        }
    }
    spans
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    fn text(value: &Value) -> String {
        match value {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(integer) => integer.to_string(),
            Value::ArrayValue(array) => {
                let values = array.values.iter().filter_map(|value| value.value.as_ref());
                values.map(text).collect::<Vec<_>>().join("|")
            }
            other => panic!("{other:?}"),
        }
    }
    let value = |there: &KeyValue| text(there.value.as_ref().unwrap().value.as_ref().unwrap());
    let pairs = attributes.iter().map(|there| (&*there.key, value(there)));
    pairs.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_span_describes_the_request_and_its_decision_between_client_and_upstream() {
    let (upstream, collector) = (MockUpstream::answering(OK), MockUpstream::answering(TAKEN));
    // Nothing is recorded but what a client records.
    let proxy = traced(collector.address, 0.0, &upstream);
    let port = proxy.address.port();
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let fields = [
        ("Host", "photos.example:8080"),
        ("Origin", "https://app.example"),
        ("User-Agent", "test/1"),
        ("traceparent", &*parent),
        ("tracestate", "b=2"),
        ("tracestate", "a=1"),
    ];
    let target = "/a.jpg?list&X-Amz-Signature=5ec2e7";
    assert_eq!(ask(proxy.address, "GET", target, &fields).status, 200);
    let forwarded = upstream.requests().remove(0);
    let [span] = &*spans(proxy, &collector) else {
        panic!("one span");
    };

    let ours = hex(&span.span_id);
    assert_ne!(ours, PARENT);
    let told = format!("00-{TRACE}-{ours}-01");
    assert_eq!(forwarded.values("traceparent"), [told]);
    assert_eq!(forwarded.values("tracestate"), ["b=2", "a=1"]);
    assert_eq!(hex(&span.trace_id), TRACE);
    assert_eq!(hex(&span.parent_span_id), PARENT);
    assert_eq!(span.trace_state, "b=2,a=1");
    assert_eq!(span.flags & 0xff, 1);
    assert_eq!((&*span.name, span.kind()), ("GET", SpanKind::Server));
    assert!(span.start_time_unix_nano > 0);
    assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    assert_eq!(span.status, None);
    let upstream = upstream.address.to_string();
    let expected = BTreeMap::from([
        ("client.address", "127.0.0.1"),
        ("http.request.header.origin", "https://app.example"),
        ("http.request.method", "GET"),
        ("http.response.body.size", "2"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("s3cors.cors.outcome", "allowed"),
        ("s3cors.cors.reason", "matched"),
        ("s3cors.cors.request", "actual"),
        ("s3cors.route", "photos.example"),
        ("s3cors.upstream", &upstream),
        ("server.address", "photos.example"),
        ("server.port", "8080"),
        ("url.path", "/a.jpg"),
        ("url.query", "list&X-Amz-Signature=-"),
        ("url.scheme", "http"),
        ("user_agent.original", "test/1"),
    ]);
    let got = texts(&span.attributes);
    let got: BTreeMap<_, _> = got.iter().map(|(name, text)| (*name, &**text)).collect();
    assert_eq!(got, expected);
    assert_ne!(port, 8080, "server.port is what the client asked for");
}

#[test]
fn the_client_decides_about_sampling_or_else_the_ratio() {
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    let not_sampled = format!("00-{TRACE}-{PARENT}-00");
    let cases = [
        (0.0, Some(&*sampled), true),
        (1.0, Some(&*not_sampled), false),
        (0.0, None, false),
        (1.0, None, true),
        (1.0, Some("what is no traceparent"), true),
    ];
    for (ratio, parent, is_recorded) in cases {
        let (upstream, collector) = (MockUpstream::answering(OK), MockUpstream::answering(TAKEN));
        let proxy = traced(collector.address, ratio, &upstream);
        let mut fields = vec![("Host", "photos.example"), ("tracestate", "a=1")];
        fields.extend(parent.map(|parent| ("traceparent", parent)));
        ask(proxy.address, "GET", "/a", &fields);
        let forwarded = upstream.requests().remove(0);
        let spans = spans(proxy, &collector);
        assert_eq!(spans.len(), usize::from(is_recorded), "{ratio} {parent:?}");
        let told = forwarded.values("traceparent");
        match &*spans {
            [] => assert_eq!(told, Vec::from_iter(parent), "untouched"),
            [span, ..] => {
                let ids = format!("{}-{}", hex(&span.trace_id), hex(&span.span_id));
                assert!(told[0].contains(&ids), "{told:?}");
                let is_ours = !parent.is_some_and(|parent| parent.contains(TRACE));
                assert_eq!(span.parent_span_id.is_empty(), is_ours);
                // Trace fields that do not belong to this trace are removed.
                let state = forwarded.values("tracestate");
                assert_eq!(state.is_empty(), is_ours, "{state:?}");
            }
        }
    }
}

#[test]
fn a_signed_traceparent_is_kept() {
    let (upstream, collector) = (MockUpstream::answering(OK), MockUpstream::answering(TAKEN));
    let proxy = traced(collector.address, 1.0, &upstream);
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let signed = "AWS4-HMAC-SHA256 Credential=K/20261124/us-east-1/s3/aws4_request, \
                  SignedHeaders=host;traceparent;x-amz-date, Signature=5ec2e7";
    let fields = [
        ("Host", "photos.example"),
        ("Authorization", signed),
        ("traceparent", &*parent),
    ];
    ask(proxy.address, "GET", "/a", &fields);
    let presigned = "/a?X-Amz-SignedHeaders=host%3Btraceparent&X-Amz-Signature=5ec2e7";
    ask(proxy.address, "GET", presigned, &[fields[0], fields[2]]);
    for forwarded in upstream.requests() {
        assert_eq!(forwarded.values("traceparent"), [&*parent]);
    }
    assert_eq!(spans(proxy, &collector).len(), 2);
}

#[test]
fn refusals_failures_and_unknown_hosts_have_spans_too() {
    let collector = MockUpstream::answering(TAKEN);
    let down = refusing();
    let route = TestRoute::new(down, POLICY);
    let proxy = TestProxy::traced(&settings(collector.address, 1.0), &[route]);
    let preflight = [
        ("Host", "photos.example"),
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "GET"),
    ];
    let asked = [
        ask(proxy.address, "OPTIONS", "/a", &preflight).status,
        ask(proxy.address, "GET", "/a", &[("Host", "photos.example")]).status,
        ask(
            proxy.address,
            "BREW",
            "/a",
            &[("Host", "elsewhere.example")],
        )
        .status,
    ];
    assert_eq!(asked, [403, 502, 421]);
    let spans = spans(proxy, &collector);
    let [refused, failed, unknown] = &*spans else {
        panic!("{spans:?}");
    };
    let of = |span: &Span, name: &str| texts(&span.attributes).get(name).cloned();
    assert_eq!(of(refused, "s3cors.cors.request").unwrap(), "preflight");
    assert_eq!(of(refused, "s3cors.cors.outcome").unwrap(), "denied");
    assert_eq!(of(refused, "s3cors.cors.reason").unwrap(), "origin");
    // For a server's span, a 4xx is not an error (semantic conventions, § Status).
    assert_eq!((&refused.status, of(refused, "error.type")), (&None, None));
    assert_eq!(failed.status.as_ref().unwrap().code, 2);
    assert_eq!(of(failed, "error.type").unwrap(), "502");
    assert_eq!(of(failed, "s3cors.upstream"), None);
    assert_eq!(unknown.name, "HTTP");
    assert_eq!(of(unknown, "http.request.method").unwrap(), "_OTHER");
    assert_eq!(of(unknown, "http.request.method_original").unwrap(), "BREW");
    assert_eq!(of(unknown, "s3cors.route"), None);
}

#[test]
fn lost_spans_are_counted_and_no_request_waits_for_them() {
    let partial = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message: String::new(),
        }),
    };
    let partial = String::from_utf8(partial.encode_to_vec()).unwrap();
    let partial = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{partial}",
        partial.len()
    );
    let refuses = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let listening = |answer| MockUpstream::answering(answer).address;
    let down = refusing();
    let cases = [(down, 3), (listening(refuses), 3), (listening(&partial), 1)];
    for (collector, dropped) in cases {
        let upstream = MockUpstream::answering(OK);
        let proxy = traced(collector, 1.0, &upstream);
        for _ in 0..3 {
            let response = ask(proxy.address, "GET", "/a", &[("Host", "photos.example")]);
            assert_eq!(response.status, 200);
        }
        let metrics = proxy.metrics.clone();
        assert!(proxy.finish_traces(Duration::from_secs(30)));
        let counted = format!("\ns3cors_trace_spans_dropped_total {dropped}\n");
        assert!(metrics.encode().contains(&counted), "{}", metrics.encode());
    }
}
