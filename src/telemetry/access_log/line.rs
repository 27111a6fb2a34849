//! Formats the access log's lines.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode, Version};

use crate::cors::fetch::{AnswerVerdict, BlockedReason, RequestedPermission};
use crate::cors::{Kind, Reason};
use crate::metrics::UpstreamFailure;
use crate::routing::bucket::percent_decoded;
use crate::telemetry::trace_context::TraceId;
use crate::text::escape::{Escaped, Json, cut};
use crate::text::timestamp::{CommonLog, Timestamp};
use crate::upstream::endpoint::Upstream;

use super::body_cut::BodyCut;

/// A request that was answered, or whose client left before.
///
/// Values from the client are escaped and cut here, so callers pass them unchanged.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r> {
    /// When the request's head was read.
    pub time: SystemTime,
    /// The route's name; `None`: no route serves the host.
    pub route: Option<&'r str>,
    /// The client's address; `None` on a Unix socket.
    pub client: Option<IpAddr>,
    /// Its method.
    pub method: &'r Method,
    /// Its host as it came.
    pub host: &'r [u8],
    /// Its path and query as they came; secrets are redacted when they are written.
    pub target: &'r str,
    /// Its version.
    pub version: Version,
    /// The response's status.
    pub status: StatusCode,
    /// How many bytes of the response's body were sent.
    pub bytes: u64,
    /// Which side cut that body short; `None`: it is complete, or there is none.
    pub cut: Option<BodyCut>,
    /// From the request's head to the end of the response's body.
    pub duration: Duration,
    /// The upstream that answered; `None`: the proxy itself.
    pub upstream: Option<&'r Upstream>,
    /// The upstream that failed to answer, and the reason it is counted under.
    pub failed: Option<(&'r str, UpstreamFailure)>,
    /// The ID that the client knows for the request; empty if it has none.
    pub request_id: &'r str,
    /// The trace that it belongs to, by its `traceparent`.
    pub trace_id: Option<TraceId>,
    /// The value of `Origin`.
    pub origin: Option<&'r [u8]>,
    /// The CORS decision; `None` if it is not a CORS request.
    pub decision: Option<(Kind, Result<(), Reason>)>,
    /// What browsers do with the response; `None`: they do not apply CORS to the request.
    pub verdict: Option<AnswerVerdict>,
    /// What a preflight asks for.
    pub asked: Option<RequestedPermission<'r>>,
    /// Whether the client used TLS.
    pub tls: bool,
    /// The value of `Referer`.
    pub referer: Option<&'r [u8]>,
    /// The value of `User-Agent`.
    pub user_agent: Option<&'r [u8]>,
}

/// The most bytes written of a target.
const MAX_TARGET: usize = 4096;

/// The most bytes written of a field value.
const MAX_VALUE: usize = 512;

/// The current second as text, cached because there are many lines a second.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    second: Option<u64>,
    text: String,
}

impl Clock {
    /// The second of `time` as `write` formats it, and its milliseconds.
    fn at(&mut self, time: SystemTime, write: fn(Timestamp) -> String) -> (&str, u32) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.text = write(Timestamp::new(time));
        }
        (&self.text, since.subsec_millis())
    }
}

impl Record<'_> {
    /// The target without its secrets, cut.
    #[must_use]
    pub fn unsigned_target(&self) -> String {
        unsigned(self.target, MAX_TARGET).collect()
    }

    /// Adds the line of [`AccessLogFormat::Json`](super::AccessLogFormat::Json).
    pub(crate) fn write_json(&self, out: &mut Vec<u8>, clock: &mut Clock) {
        let (second, millisecond) = clock.at(self.time, |time| {
            // Without `.000Z`.
            let text = time.to_string();
            text.split('.').next().unwrap_or_default().to_owned()
        });
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(second.as_bytes());
        out.push(b'.');
        number(out, millisecond.into(), 3);
        out.extend_from_slice(b"Z\"");
        if let Some(route) = self.route {
            string(out, "route", route.as_bytes());
        }
        if let Some(client) = self.client {
            out.extend_from_slice(b",\"client\":\"");
            address(out, client);
            out.push(b'"');
        }
        string(out, "method", self.method.as_str().as_bytes());
        if !self.host.is_empty() {
            string(out, "host", self.host);
        }
        out.extend_from_slice(b",\"target\":\"");
        for part in unsigned(self.target, MAX_TARGET) {
            Json(part.as_bytes()).write(out);
        }
        out.extend_from_slice(b"\",\"version\":\"");
        out.extend_from_slice(version(self.version).as_bytes());
        out.extend_from_slice(b"\",\"status\":");
        out.extend_from_slice(self.status.as_str().as_bytes());
        out.extend_from_slice(b",\"bytes\":");
        number(out, self.bytes, 1);
        if let Some(cut) = self.cut {
            string(out, "cut", cut.as_str().as_bytes());
        }
        out.extend_from_slice(b",\"duration_seconds\":");
        number(out, self.duration.as_secs(), 1);
        out.push(b'.');
        number(out, self.duration.subsec_micros().into(), 6);
        if let Some(upstream) = self.upstream {
            string(out, "upstream", upstream.shown_address().as_bytes());
        }
        if let Some((upstream, failure)) = self.failed {
            // From the config, so no longer than a host name.
            out.extend_from_slice(b",\"failed\":{\"upstream\":\"");
            Json(upstream.as_bytes()).write(out);
            out.extend_from_slice(b"\",\"reason\":\"");
            out.extend_from_slice(failure.as_str().as_bytes());
            out.extend_from_slice(b"\"}");
        }
        if !self.request_id.is_empty() {
            string(out, "request_id", self.request_id.as_bytes());
        }
        if let Some(trace_id) = self.trace_id {
            put(out, format_args!(",\"trace_id\":\"{trace_id}\""));
        }
        if let Some(origin) = self.origin.filter(|origin| !origin.is_empty()) {
            string(out, "origin", origin);
        }
        self.write_cors(out);
        if let Some(referer) = self.referer.filter(|referer| !referer.is_empty()) {
            out.extend_from_slice(b",\"referer\":\"");
            for part in unsigned_value(referer) {
                Json(part.as_bytes()).write(out);
            }
            out.push(b'"');
        }
        if let Some(user_agent) = self.user_agent.filter(|agent| !agent.is_empty()) {
            string(out, "user_agent", user_agent);
        }
        out.extend_from_slice(b"}\n");
    }

    /// Which kind of CORS request it is.
    pub(crate) fn kind(&self) -> Kind {
        match (self.decision, self.asked) {
            (Some((kind, _)), _) => kind,
            (None, Some(_)) => Kind::Preflight,
            (None, None) => Kind::Actual,
        }
    }

    /// Adds the members about CORS.
    fn write_cors(&self, out: &mut Vec<u8>) {
        if self.decision.is_none() && self.verdict.is_none() {
            return;
        }
        let kind = match self.kind() {
            Kind::Preflight => "preflight",
            Kind::Actual => "actual",
        };
        for part in [",\"cors\":{\"request\":\"", kind, "\""] {
            out.extend_from_slice(part.as_bytes());
        }
        if let Some((_, outcome)) = self.decision {
            let (outcome, reason) = match outcome {
                Ok(()) => ("allowed", "matched"),
                Err(reason) => ("denied", reason.as_str()),
            };
            constant(out, "outcome", outcome);
            constant(out, "reason", reason);
        }
        if let Some(verdict) = self.verdict {
            constant(out, "verdict", verdict.as_str());
            if let Some(error) = verdict.blocked().map(BlockedReason::as_str) {
                constant(out, "error", error);
            }
        }
        if let Some(asked) = self.asked {
            string(out, "method", asked.method);
            if !asked.headers.is_empty() {
                string(out, "headers", asked.headers);
            }
        }
        out.push(b'}');
    }

    /// Adds the line of [`AccessLogFormat::Combined`](super::AccessLogFormat::Combined).
    pub(crate) fn write_combined(&self, out: &mut Vec<u8>, clock: &mut Clock) {
        match self.client {
            Some(client) => put(out, format_args!("{client}")),
            None => out.push(b'-'),
        }
        let (time, _) = clock.at(self.time, |time| CommonLog(time).to_string());
        put(out, format_args!(" - - [{time}] \""));
        put(
            out,
            format_args!("{} ", Escaped::new(self.method.as_str().as_bytes(), 32)),
        );
        for part in unsigned(self.target, MAX_TARGET) {
            put(
                out,
                format_args!("{}", Escaped::new(part.as_bytes(), MAX_TARGET)),
            );
        }
        put(
            out,
            format_args!(
                " {}\" {} {}",
                version(self.version),
                self.status.as_u16(),
                self.bytes
            ),
        );
        out.extend_from_slice(b" \"");
        for part in unsigned_value(self.referer.unwrap_or(b"-")) {
            put(
                out,
                format_args!("{}", Escaped::new(part.as_bytes(), MAX_VALUE)),
            );
        }
        let agent = Escaped::new(self.user_agent.unwrap_or(b"-"), MAX_VALUE);
        put(out, format_args!("\" \"{agent}\"\n"));
    }
}

/// Query parameters with which a reader could repeat a presigned request, in lower case ([S3,
/// «Authenticating requests: using query parameters»], and version 2 of it).
///
/// [S3, «Authenticating requests: using query parameters»]: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
const SECRETS: [&str; 3] = ["x-amz-signature", "x-amz-security-token", "signature"];

/// The value of a field that holds a URL, which may itself be presigned.
fn unsigned_value(value: &[u8]) -> impl Iterator<Item = &str> {
    unsigned(std::str::from_utf8(value).unwrap_or("-"), MAX_VALUE)
}

/// A target cut to `most` bytes, in pieces, with `-` in place of secrets.
fn unsigned(target: &str, most: usize) -> impl Iterator<Item = &str> {
    let target = match target.get(..most) {
        Some(target) => target,
        // A target is always ASCII. If it were not, it would be left out, because a cut could split
        // a character.
        None if target.len() > most => "",
        None => target,
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let parameters = query.into_iter().flat_map(|query| query.split('&'));
    let pieces = parameters.enumerate().flat_map(|(place, parameter)| {
        let separator = if place == 0 { "?" } else { "&" };
        let (name, shown) = match parameter.split_once('=') {
            Some((name, _)) if is_secret(name) => (name, "=-"),
            _ => (parameter, ""),
        };
        [separator, name, shown]
    });
    std::iter::once(path).chain(pieces)
}

/// Names are compared as the upstream decodes them.
fn is_secret(name: &str) -> bool {
    let name = percent_decoded(name);
    SECRETS
        .iter()
        .any(|secret| name.eq_ignore_ascii_case(secret))
}

/// Writes a member whose value needs no escapes.
fn constant(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [",\"", name, "\":\"", value, "\""] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn string(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [",\"", name, "\":\""] {
        out.extend_from_slice(part.as_bytes());
    }
    Json(cut(value, MAX_VALUE).0).write(out);
    out.push(b'"');
}

/// Writes a number with at least `width` digits.
fn number(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        start = place;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let start = start.min(digits.len() - width);
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// Writes an address.
fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V6(address) => put(out, format_args!("{address}")),
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                out.extend_from_slice(if place > 0 { b"." } else { b"" });
                number(out, octet.into(), 1);
            }
        }
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory cannot fail");
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_addresses_are_written_as_they_are_displayed(
            value: u64, small in 0..1_000_u64, client: IpAddr,
        ) {
            let mut out = Vec::new();
            number(&mut out, value, 1);
            number(&mut out, small, 3);
            number(&mut out, small, 6);
            address(&mut out, client);
            prop_assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("{value}{small:03}{small:06}{client}")
            );
        }
    }

    pub(crate) fn record() -> Record<'static> {
        Record {
            time: UNIX_EPOCH + Duration::from_millis(971_186_136_042),
            route: Some("photos"),
            client: Some("192.0.2.7".parse().unwrap()),
            method: &Method::GET,
            host: b"photos.example",
            target: "/a.jpg?x=1",
            version: Version::HTTP_11,
            status: StatusCode::OK,
            bytes: 1234,
            cut: None,
            duration: Duration::from_micros(1_002_003),
            upstream: None,
            failed: None,
            request_id: "0A1B",
            trace_id: Some(TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736)),
            origin: Some(b"https://app.example"),
            decision: Some((Kind::Actual, Err(Reason::Method))),
            verdict: None,
            asked: None,
            tls: false,
            referer: None,
            user_agent: Some(b"curl/8"),
        }
    }

    fn json(record: &Record<'_>) -> serde_json::Value {
        let mut out = Vec::new();
        record.write_json(&mut out, &mut Clock::default());
        let out = String::from_utf8(out).unwrap();
        assert!(out.ends_with("}\n") && out.matches('\n').count() == 1);
        serde_json::from_str(&out).unwrap()
    }

    fn combined(record: &Record<'_>) -> String {
        let mut out = Vec::new();
        record.write_combined(&mut out, &mut Clock::default());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_line_has_every_member() {
        assert_eq!(
            json(&record()),
            serde_json::json!({
                "time": "2000-10-10T13:55:36.042Z",
                "route": "photos",
                "client": "192.0.2.7",
                "method": "GET",
                "host": "photos.example",
                "target": "/a.jpg?x=1",
                "version": "HTTP/1.1",
                "status": 200,
                "bytes": 1234,
                "duration_seconds": 1.002003,
                "request_id": "0A1B",
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                "origin": "https://app.example",
                "cors": { "request": "actual", "outcome": "denied", "reason": "method" },
                "user_agent": "curl/8",
            })
        );
    }

    #[test]
    fn unknown_members_are_left_out() {
        let line = json(&Record {
            host: b"",
            origin: Some(b""),
            referer: Some(b""),
            user_agent: Some(b""),
            ..record()
        });
        for name in ["host", "origin", "referer", "user_agent", "failed"] {
            assert!(line.get(name).is_none(), "{name}: {line}");
        }
    }

    #[test]
    fn a_combined_line_is_what_log_readers_expect() {
        assert_eq!(
            combined(&record()),
            "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"GET /a.jpg?x=1 HTTP/1.1\" 200 1234 \"-\" \"curl/8\"\n"
        );
    }

    #[test]
    fn client_input_cannot_break_a_line_or_exceed_its_limit() {
        let hostile = [
            &b"\" 200 0 \"-\" \"\r\n{\"forged\":1}\x1b]0;\xff"[..],
            &[b'"'; 100_000],
        ]
        .concat();
        let target = format!("/\"\\{}", "a".repeat(100_000));
        let record = Record {
            host: &hostile,
            target: &target,
            origin: Some(&hostile),
            referer: Some(&hostile),
            user_agent: Some(&hostile),
            ..record()
        };
        let text = combined(&record);
        assert!(
            text.trim_end()
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~'))
        );
        assert_eq!(text.replace("\\\"", "").matches('"').count(), 6);
        assert!(text.len() < 10_000);
        let value = json(&record);
        assert!(value.to_string().len() < 15_000);
        assert!(value.get("forged").is_none());
    }

    #[test]
    fn signatures_are_not_written() {
        let cases = [
            (
                "/a?X-Amz-Signature=5ec2e7&x-amz-security-token=5ec2e7&X-Amz-Date=1",
                "/a?X-Amz-Signature=-&x-amz-security-token=-&X-Amz-Date=1",
            ),
            (
                "/a?AWSAccessKeyId=K&Signature=5ec2e7%3D",
                "/a?AWSAccessKeyId=K&Signature=-",
            ),
            (
                "/a?X-Amz%2DSignature=5ec2e7&%73ignature=5ec2e7&%7=1&X%2D=1",
                "/a?X-Amz%2DSignature=-&%73ignature=-&%7=1&X%2D=1",
            ),
            ("/a?b=?signature=no", "/a?b=?signature=no"),
            ("/signature=1?acl&", "/signature=1?acl&"),
            ("*", "*"),
        ];
        for (target, expected) in cases {
            let record = Record {
                target,
                referer: Some(target.as_bytes()),
                ..record()
            };
            let line = json(&record);
            assert_eq!([&line["target"], &line["referer"]], [expected; 2]);
            let line = combined(&record);
            assert!(line.contains(&format!("GET {expected} HTTP")), "{line}");
            assert!(line.contains(&format!(" \"{expected}\" ")), "{line}");
        }
    }

    #[test]
    fn the_cached_second_is_refreshed() {
        let mut clock = Clock::default();
        let mut out = Vec::new();
        for milliseconds in [1, 999, 1000, 999] {
            let time = UNIX_EPOCH + Duration::from_millis(milliseconds);
            Record { time, ..record() }.write_json(&mut out, &mut clock);
        }
        let out = String::from_utf8(out).unwrap();
        let times: Vec<_> = out.lines().map(|line| &line[9..33]).collect();
        assert_eq!(
            times,
            [
                "1970-01-01T00:00:00.001Z",
                "1970-01-01T00:00:00.999Z",
                "1970-01-01T00:00:01.000Z",
                "1970-01-01T00:00:00.999Z",
            ]
        );
    }
}
