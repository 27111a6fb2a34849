//! Every metric with its name, type, help and labels, written in Prometheus' text format.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use prometheus::{TextEncoder, proto};

use crate::cors::fetch::BlockedReason;
use crate::cors::{Kind, Reason};

use super::bucket_cors;
use super::cells::{METHODS, OTHER_STATUS};
use super::family::Family;
use super::process::{ProcessStats, unix_seconds};
use super::registry::Metrics;
use super::traffic_families::TrafficFamilies;
use super::upstream_failure::UpstreamFailure;

impl Metrics {
    /// All metrics in Prometheus' text format. A metric without samples is left out.
    #[must_use]
    pub fn encode(&self) -> String {
        let families: Vec<_> = routes(self)
            .into_iter()
            .chain(self.upstreams.families().map(Family::finish))
            .chain(listeners(self))
            .chain(self.config.families())
            .chain(process(self))
            .filter(|family| !family.get_metric().is_empty())
            .collect();
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            // The encoder refuses empty or unnamed families; there are none here.
            tracing::error!(%error, "cannot write the metrics");
        }
        text
    }
}

fn routes(metrics: &Metrics) -> Vec<proto::MetricFamily> {
    let mut traffic = TrafficFamilies::new();
    let mut requests = Family::counter(
        "s3cors_requests_total",
        "Answered requests, by method and status.",
    );
    let mut decisions = Family::counter(
        "s3cors_cors_decisions_total",
        "CORS decisions, by kind of request, outcome and reason.",
    );
    let mut verdicts = Family::counter(
        "s3cors_cors_verdicts_total",
        "Answers to CORS requests, by what browsers do with them and why.",
    );
    let mut allowed = Family::counter(
        "s3cors_allowed_origins_total",
        "Allowed CORS requests, by the AllowedOrigin that matched.",
    );
    let mut denied = Family::counter(
        "s3cors_denied_origins_total",
        "Denied CORS requests, by origin: the most frequent ones, and the rest as other.",
    );
    let mut durations = Family::histogram_of(
        "s3cors_request_duration_seconds",
        "Time from the head of a request to the head of its response.",
    );
    let mut failures = Family::counter(
        "s3cors_upstream_errors_total",
        "Requests without a complete response from their upstream, by reason.",
    );
    let mut healthy = Family::gauge(
        "s3cors_upstream_healthy",
        "Whether an upstream gets requests: 1, or 0 while it is unhealthy.",
    );
    let counts = metrics.bucket_cors_counts();
    let bucket_cors = bucket_cors::family(&counts);
    let policy_stores = bucket_cors::store_family(&counts);
    for route in metrics.routes() {
        let name = route.name();
        for (origin, count) in route.allowed_counts() {
            allowed.count(&[("route", name), ("origin", &origin)], count);
        }
        for (origin, count) in route.denied_origins() {
            denied.count(&[("route", name), ("origin", &origin)], count);
        }
        let Some(totals) = route.totals() else {
            continue;
        };
        for ((method, status), count) in &totals.requests {
            let method = METHODS.get(*method).copied().unwrap_or_default();
            let status = match *status {
                OTHER_STATUS => "other".to_owned(),
                status => status.to_string(),
            };
            let labels = [("route", name), ("method", method), ("status", &status)];
            requests.count(&labels, *count);
        }
        // All or none: only if a series exists before its first count does that count show as an
        // increase.
        if totals.decisions().any(|(_, _, count)| count > 0) {
            for (kind, outcome, count) in totals.decisions() {
                decisions.count(&decision_labels(name, kind, outcome), count);
            }
        }
        if totals.verdicts().any(|(_, count)| count > 0) {
            for (verdict, count) in totals.verdicts() {
                let reason = verdict.blocked().map_or("none", BlockedReason::as_str);
                let labels = [
                    ("route", name),
                    ("verdict", verdict.as_str()),
                    ("reason", reason),
                ];
                verdicts.count(&labels, count);
            }
        }
        for (failure, count) in UpstreamFailure::ALL.iter().zip(totals.failures) {
            failures.count(&[("route", name), ("reason", failure.as_str())], count);
        }
        for (upstream, is_healthy) in route.upstreams() {
            let labels = [("route", name), ("upstream", &upstream)];
            healthy.value(&labels, f64::from(u8::from(is_healthy)));
        }
        durations.histogram(&[("route", name)], &totals.durations);
        traffic.add(name, &totals);
    }
    let families = [
        requests,
        decisions,
        verdicts,
        allowed,
        denied,
        durations,
        failures,
        healthy,
        bucket_cors,
        policy_stores,
    ];
    let families = families.into_iter().chain(traffic.families());
    families.map(Family::finish).collect()
}

fn decision_labels(
    route: &str,
    kind: Kind,
    outcome: Result<(), Reason>,
) -> [(&'static str, &str); 4] {
    let kind = match kind {
        Kind::Preflight => "preflight",
        Kind::Actual => "actual",
    };
    let (outcome, reason) = match outcome {
        Ok(()) => ("allowed", "matched"),
        Err(reason) => ("denied", reason.as_str()),
    };
    [
        ("route", route),
        ("request", kind),
        ("outcome", outcome),
        ("reason", reason),
    ]
}

fn listeners(metrics: &Metrics) -> [proto::MetricFamily; 8] {
    let mut ready = Family::gauge(
        "s3cors_ready",
        "Whether requests are served: 1, or 0 during start and drain.",
    );
    let is_ready = metrics.ready.load(Ordering::Relaxed);
    ready.value(&[], f64::from(u8::from(is_ready)));
    let mut limit = Family::gauge(
        "s3cors_connections_limit",
        "Maximum number of open connections over all listeners.",
    );
    limit.value(
        &[],
        metrics.connections_limit.load(Ordering::Relaxed) as f64,
    );
    let mut connections = Family::gauge("s3cors_connections", "Open connections, by listener.");
    let listeners = metrics
        .listeners
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let mut refused = Family::counter(
        "s3cors_connections_refused_total",
        "Connections refused by a limit, by limit.",
    );
    let mut handshakes = Family::counter(
        "s3cors_handshake_failures_total",
        "Connections that ended before the first HTTP request, by reason.",
    );
    let mut accepted = Family::counter(
        "s3cors_connections_accepted_total",
        "Accepted connections, by listener, including refused ones.",
    );
    let mut tls = Family::counter(
        "s3cors_tls_handshakes_total",
        "Completed TLS handshakes, by whether they resumed a session.",
    );
    for (name, counts) in &*listeners {
        accepted.count(&[("listener", name)], counts.accepted());
        for (kind, count) in counts.tls_handshakes() {
            tls.count(&[("listener", name), ("kind", kind)], count);
        }
        for (reason, count) in counts.handshake_failures() {
            handshakes.count(&[("listener", name), ("reason", reason)], count);
        }
        connections.value(&[("listener", name)], counts.connections() as f64);
        for (reason, count) in counts.refusals() {
            refused.count(&[("listener", name), ("reason", reason)], count);
        }
    }
    let mut ends = Family::gauge(
        "s3cors_tls_certificate_expiry_timestamp_seconds",
        "Expiry time of a listener's certificate, in seconds since 1970.",
    );
    let certificates = metrics.certificates.lock();
    let certificates = certificates.unwrap_or_else(PoisonError::into_inner);
    for (listener, certificates) in &*certificates {
        for (name, end) in certificates {
            let labels = [("listener", &**listener), ("certificate", name)];
            ends.value(&labels, unix_seconds(*end));
        }
    }
    [
        ready,
        limit,
        connections,
        accepted,
        refused,
        tls,
        handshakes,
        ends,
    ]
    .map(Family::finish)
}

fn process(metrics: &Metrics) -> Vec<proto::MetricFamily> {
    let mut build = Family::gauge("s3cors_build_info", "Always 1; the label is the version.");
    build.value(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let mut dropped = Family::counter(
        "s3cors_access_log_dropped_lines_total",
        "Access log lines dropped because they could not be written in time.",
    );
    dropped.count(&[], metrics.access_log_dropped.load(Ordering::Relaxed));
    let mut log_dropped = Family::counter(
        "s3cors_log_dropped_lines_total",
        "Process log lines dropped because they could not be written in time.",
    );
    if let Some(lines) = metrics.log_dropped.get() {
        log_dropped.count(&[], lines.get());
    }
    let mut spans = Family::counter(
        "s3cors_trace_spans_dropped_total",
        "Trace spans dropped because they could not be sent in time.",
    );
    spans.count(&[], metrics.trace_spans_dropped.load(Ordering::Relaxed));
    let mut live = Family::counter(
        "s3cors_live_dropped_events_total",
        "CORS console events dropped because the queue was full.",
    );
    live.count(&[], metrics.live_dropped.get());
    let mut panics = Family::counter("s3cors_panics_total", "Connections lost to a panic.");
    panics.count(&[], metrics.panics.load(Ordering::Relaxed));

    let mut busy = Family::counter(
        "s3cors_worker_busy_seconds_total",
        "Time that a worker thread was busy instead of waiting for events.",
    );
    for (worker, time) in metrics.busy_times() {
        busy.value(&[("worker", &worker.to_string())], time.as_secs_f64());
    }

    let process = ProcessStats::read();
    let mut cpu = Family::counter(
        "process_cpu_seconds_total",
        "User and system CPU time of the process.",
    );
    cpu.maybe(process.cpu_seconds);
    let gauge = |name, help, value: Option<f64>| {
        let mut gauge = Family::gauge(name, help);
        gauge.maybe(value);
        gauge
    };
    let bytes = |value: Option<u64>| value.map(|value| value as f64);
    let families = [
        build,
        dropped,
        log_dropped,
        spans,
        live,
        panics,
        busy,
        cpu,
        gauge(
            "process_start_time_seconds",
            "Start time of the process, in seconds since 1970.",
            Some(unix_seconds(metrics.started)),
        ),
        gauge(
            "process_resident_memory_bytes",
            "Resident memory.",
            bytes(process.resident_bytes),
        ),
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory.",
            bytes(process.virtual_bytes),
        ),
        gauge("process_open_fds", "Open files.", bytes(process.open_files)),
        gauge(
            "process_max_fds",
            "Maximum number of open files.",
            bytes(process.max_files),
        ),
    ];
    families.into_iter().map(Family::finish).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use http::{Method, StatusCode};

    use super::*;
    use crate::cors::fetch::AnswerVerdict;
    use crate::metrics::{ConfigState, ReloadResult, UpstreamHealth, Worker};

    fn some_of_everything() -> String {
        let metrics = Metrics::new(2);
        metrics.listener("http").opened(Worker(1));
        let route = metrics.route("pho\"tos\n");
        for worker in [Worker(0), Worker(1)] {
            route.request(
                worker,
                &Method::GET,
                StatusCode::OK,
                Duration::from_millis(3),
            );
            route.decision(worker, Kind::Preflight, Ok(()));
            route.decision(worker, Kind::Actual, Err(Reason::Origin));
            route.verdict(
                worker,
                AnswerVerdict::Blocked(BlockedReason::AllowOriginMismatch),
            );
            route.upstream_failure(worker, UpstreamFailure::Closed);
            route.denied_origin(b"https://evil.example");
        }
        route.show_upstreams(vec![UpstreamHealth {
            label: "http://minio:9000".into(),
            problems: Arc::new(1.into()),
        }]);
        let pattern = route.allowed_origin("https://*.example");
        pattern.inc(Worker(0));
        metrics.reloaded(ReloadResult::Applied, 2);
        metrics.reloaded(ReloadResult::Partial, 3);
        metrics.config_state(ConfigState {
            out_of_date_since: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(7)),
            restart_needed: true,
            hash: "c0ffee".to_owned(),
            buckets_without_policy: vec![("photos".into(), 2)],
            policies_from_state: vec![("photos".into(), 3)],
        });
        metrics.encode()
    }

    /// The samples by series; also checks what every reader of the format requires.
    fn samples(text: &str) -> HashMap<&str, f64> {
        let mut samples = HashMap::new();
        let mut families = HashSet::new();
        let mut family = ("", "");
        let mut help = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, words) = rest.split_once(' ').unwrap();
                assert!(words.ends_with('.') && words.len() > 10, "{line}");
                help = name;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split_once(' ').unwrap();
                assert_eq!(family.0, help, "help and type follow each other");
                assert!(families.insert(family.0), "{line} occurs twice");
                assert_eq!(
                    family.1 == "counter",
                    family.0.ends_with("_total"),
                    "{line}"
                );
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let end = name.strip_prefix(family.0).unwrap_or("elsewhere");
                match family.1 {
                    "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&end), "{line}"),
                    _ => assert_eq!(end, "", "{line}"),
                }
                let value: f64 = value.parse().unwrap();
                assert!(
                    samples.insert(series, value).is_none(),
                    "{line} occurs twice"
                );
            }
        }
        samples
    }

    #[test]
    fn every_count_is_exported() {
        let text = some_of_everything();
        let samples = samples(&text);
        let route = r#"route="pho\"tos\n""#;
        let expected = [
            (
                format!(r#"s3cors_requests_total{{{route},method="GET",status="200"}}"#),
                2.0,
            ),
            (
                format!(
                    r#"s3cors_cors_decisions_total{{{route},request="preflight",outcome="allowed",reason="matched"}}"#
                ),
                2.0,
            ),
            (
                format!(
                    r#"s3cors_cors_decisions_total{{{route},request="actual",outcome="denied",reason="origin"}}"#
                ),
                2.0,
            ),
            (
                format!(
                    r#"s3cors_cors_decisions_total{{{route},request="actual",outcome="denied",reason="header"}}"#
                ),
                0.0,
            ),
            (
                format!(
                    r#"s3cors_cors_verdicts_total{{{route},verdict="blocked",reason="AllowOriginMismatch"}}"#
                ),
                2.0,
            ),
            (
                format!(
                    r#"s3cors_cors_verdicts_total{{{route},verdict="readable",reason="none"}}"#
                ),
                0.0,
            ),
            (
                format!(r#"s3cors_allowed_origins_total{{{route},origin="https://*.example"}}"#),
                1.0,
            ),
            (
                format!(r#"s3cors_denied_origins_total{{{route},origin="https://evil.example"}}"#),
                2.0,
            ),
            (
                format!(r#"s3cors_denied_origins_total{{{route},origin="other"}}"#),
                0.0,
            ),
            (
                format!(r#"s3cors_request_duration_seconds_bucket{{{route},le="0.0025"}}"#),
                0.0,
            ),
            (
                format!(r#"s3cors_request_duration_seconds_bucket{{{route},le="0.005"}}"#),
                2.0,
            ),
            (
                format!(r#"s3cors_request_duration_seconds_bucket{{{route},le="+Inf"}}"#),
                2.0,
            ),
            (
                format!("s3cors_request_duration_seconds_sum{{{route}}}"),
                0.006,
            ),
            (
                format!("s3cors_request_duration_seconds_count{{{route}}}"),
                2.0,
            ),
            (
                format!(r#"s3cors_upstream_errors_total{{{route},reason="closed"}}"#),
                2.0,
            ),
            (
                format!(r#"s3cors_upstream_healthy{{{route},upstream="http://minio:9000"}}"#),
                0.0,
            ),
            (r#"s3cors_connections{listener="http"}"#.to_owned(), 1.0),
            ("s3cors_config_generation".to_owned(), 3.0),
            (
                r#"s3cors_config_reloads_total{result="applied"}"#.to_owned(),
                1.0,
            ),
            (
                r#"s3cors_config_reloads_total{result="partial"}"#.to_owned(),
                1.0,
            ),
            (
                r#"s3cors_config_reloads_total{result="rejected"}"#.to_owned(),
                0.0,
            ),
            ("s3cors_config_last_reload_successful".to_owned(), 0.0),
            ("s3cors_config_out_of_date".to_owned(), 1.0),
            (
                "s3cors_config_out_of_date_since_timestamp_seconds".to_owned(),
                7.0,
            ),
            ("s3cors_config_restart_needed".to_owned(), 1.0),
            (r#"s3cors_config_info{hash="c0ffee"}"#.to_owned(), 1.0),
            (
                r#"s3cors_buckets_without_policy{route="photos"}"#.to_owned(),
                2.0,
            ),
            (
                r#"s3cors_policies_from_state{route="photos"}"#.to_owned(),
                3.0,
            ),
        ];
        for (series, value) in expected {
            assert_eq!(
                samples.get(series.as_str()),
                Some(&value),
                "{series}\n{text}"
            );
        }
    }

    #[test]
    fn routes_without_requests_have_no_series() {
        let metrics = Metrics::new(2);
        let _unused = metrics.route("photos");
        let text = metrics.encode();
        assert!(!text.contains("photos"));
        assert_eq!(
            samples(&text).get("s3cors_config_last_reload_successful"),
            Some(&1.0)
        );
    }
}
