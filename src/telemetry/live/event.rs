//! One CORS request, as viewers see it; deploy/observability describes the JSON.

use std::io::Write as _;
use std::time::SystemTime;

use form_urlencoded::Serializer;

use crate::cors::Kind;
use crate::cors::fetch::BlockedReason;
use crate::telemetry::access_log::{Clock, Record};
use crate::text::escape::{Json, cut};

use super::note::LiveNote;
use super::redact;

/// The most bytes shown of a host or a browser's name.
const MAX_VALUE: usize = 256;

/// The most bytes shown of an origin: more than browsers send, whose hosts have at most 253.
const MAX_ORIGIN: usize = 512;

/// The most headers in the link to the explanation.
const MAX_HEADERS: usize = 16;

/// A CORS request that ended.
#[derive(Debug)]
pub struct LiveEvent {
    /// One JSON object, without a line break.
    pub json: Vec<u8>,
    /// When the request's head was read.
    pub time: SystemTime,
    /// The group it belongs to; `None`: it was not refused.
    pub group: Option<GroupKey>,
}

/// The properties that refused requests are grouped by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// The origin as events have it: its bytes read as Latin-1.
    pub origin: Box<str>,
    /// The route's name; `None`: no route serves the host.
    pub route: Option<Box<str>>,
    /// The bucket, on a route with buckets.
    pub bucket: Option<Box<str>>,
    /// `preflight` or `actual`.
    pub request: &'static str,
    /// What refuses it: `policy`, `upstream` or `no_route`.
    pub by: &'static str,
    /// Why.
    pub reason: &'static str,
}

impl LiveEvent {
    /// The event of a CORS request, with secrets redacted.
    pub(super) fn new(record: &Record<'_>, note: Option<&LiveNote>) -> Self {
        let target = redact::target(record.target);
        let referer = record.referer.map(redact::referer);
        let short = |value| cut(value, MAX_VALUE).0;
        let shown = Record {
            host: short(record.host),
            target: &target,
            origin: record.origin.map(|origin| cut(origin, MAX_ORIGIN).0),
            referer: referer.as_deref().map(|referer| short(referer.as_bytes())),
            user_agent: record.user_agent.map(short),
            ..*record
        };
        let mut json = Vec::with_capacity(1024);
        shown.write_json(&mut json, &mut Clock::default());
        json.truncate(json.len().saturating_sub(b"}\n".len()));
        let group = group(&shown, note);
        if let Some(group) = &group {
            for part in [
                ",\"refused\":{\"by\":\"",
                group.by,
                "\",\"reason\":\"",
                group.reason,
                "\"}",
            ] {
                json.extend_from_slice(part.as_bytes());
            }
        }
        if let Some(note) = note {
            write_note(note, &mut json);
        }
        match record.origin.map_or(0, <[u8]>::len) {
            // A shorter origin is another one, which a policy can treat otherwise.
            length if length > MAX_ORIGIN => number("origin_bytes", length as u64, &mut json),
            _ => member("explain", explain(&shown).as_bytes(), &mut json),
        }
        json.push(b'}');
        Self {
            json,
            time: record.time,
            group,
        }
    }
}

fn group(record: &Record<'_>, note: Option<&LiveNote>) -> Option<GroupKey> {
    let error = record.verdict.and_then(|verdict| verdict.blocked());
    let error = error.map(BlockedReason::as_str);
    let (by, reason) = match record.decision {
        Some((_, Err(reason))) => ("policy", reason.as_str()),
        Some((_, Ok(()))) => ("policy", error?),
        None if record.route.is_none() => ("no_route", error?),
        None => ("upstream", error?),
    };
    let bucket = note.and_then(|note| note.bucket.as_deref());
    let origin = record.origin.unwrap_or_default();
    Some(GroupKey {
        origin: origin.iter().copied().map(char::from).collect(),
        route: record.route.map(Into::into),
        bucket: bucket.map(Into::into),
        request: match record.kind() {
            Kind::Preflight => "preflight",
            Kind::Actual => "actual",
        },
        by,
        reason,
    })
}

fn write_note(note: &LiveNote, json: &mut Vec<u8>) {
    if let Some(bucket) = &note.bucket {
        member("bucket", bucket.as_bytes(), json);
    }
    number("generation", note.generation, json);
    if let Some(rule) = note.rule {
        // Counted from 1 for people.
        number("rule", rule as u64 + 1, json);
    }
    let texts = [
        ("rule_id", &note.rule_id),
        ("pattern", &note.pattern),
        ("policy", &note.policy),
        ("why", &note.why),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            member(name, cut(text.as_bytes(), 4 * MAX_VALUE).0, json);
        }
    }
    if !note.missing.is_empty() {
        json.extend_from_slice(b",\"missing\":[");
        for (place, name) in note.missing.iter().enumerate() {
            json.extend_from_slice(if place > 0 { b",\"" } else { b"\"" });
            Json(cut(name.as_bytes(), MAX_VALUE).0).write(json);
            json.push(b'"');
        }
        json.push(b']');
    }
}

/// The path of the page that explains exactly this request.
fn explain(record: &Record<'_>) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let scheme = if record.tls { "https" } else { "http" };
    let path = record.target.split('?').next().unwrap_or_default();
    let url = format!("{scheme}://{}{path}", text(record.host));
    let mut query = Serializer::new("/cors?".to_owned());
    query.append_pair("url", &url);
    query.append_pair("origin", &text(record.origin.unwrap_or_default()));
    let method = record
        .asked
        .map_or(record.method.as_str().as_bytes(), |asked| asked.method);
    query.append_pair("method", &text(cut(method, MAX_VALUE).0));
    let names = record.asked.map_or(&b""[..], |asked| asked.headers);
    let names = names.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    for name in names.filter(|name| !name.is_empty()).take(MAX_HEADERS) {
        query.append_pair("header", &text(cut(name, MAX_VALUE).0));
    }
    let needs_credentials = [
        BlockedReason::WildcardOriginNotAllowed,
        BlockedReason::InvalidAllowCredentials,
    ];
    let blocked = record.verdict.and_then(|verdict| verdict.blocked());
    if blocked.is_some_and(|blocked| needs_credentials.contains(&blocked)) {
        query.append_pair("credentials", "include");
    }
    query.finish().replacen("/cors?&", "/cors?", 1)
}

fn member(name: &str, value: &[u8], json: &mut Vec<u8>) {
    for part in [",\"", name, "\":\""] {
        json.extend_from_slice(part.as_bytes());
    }
    Json(value).write(json);
    json.push(b'"');
}

fn number(name: &str, value: u64, json: &mut Vec<u8>) {
    write!(json, ",\"{name}\":{value}").expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::cors::Reason;
    use crate::cors::fetch::{AnswerVerdict, RequestedPermission};
    use crate::telemetry::access_log::line_tests::record;

    fn value(event: &LiveEvent) -> Value {
        assert!(!event.json.contains(&b'\n'));
        serde_json::from_slice(&event.json).unwrap()
    }

    #[test]
    fn an_event_has_the_log_members_and_the_decision() {
        let note = LiveNote {
            bucket: Some("cats".to_owned()),
            generation: 3,
            rule: Some(0),
            rule_id: Some("uploads".to_owned()),
            policy: Some("cors/photos.xml".to_owned()),
            why: Some("header x-a is not in AllowedHeader (none) of rule 1".to_owned()),
            missing: vec!["x-a".to_owned()],
            ..LiveNote::default()
        };
        let refused = Record {
            method: &Method::OPTIONS,
            target: "/cat.jpg?X-Amz-Signature=5ec2e7",
            decision: Some((Kind::Preflight, Err(Reason::Header))),
            verdict: Some(AnswerVerdict::Blocked(
                BlockedReason::PreflightMissingAllowOriginHeader,
            )),
            asked: Some(RequestedPermission {
                method: b"PUT",
                headers: b"content-type, x-a",
            }),
            tls: true,
            ..record()
        };
        let event = LiveEvent::new(&refused, Some(&note));
        let got = value(&event);
        assert_eq!(
            got,
            json!({
                "time": "2000-10-10T13:55:36.042Z", "route": "photos", "client": "192.0.2.7", "method": "OPTIONS",
                "host": "photos.example", "target": "/cat.jpg?X-Amz-Signature=-", "version": "HTTP/1.1",
                "status": 200, "bytes": 1234, "duration_seconds": 1.002003, "request_id": "0A1B",
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "origin": "https://app.example",
                "cors": {"request": "preflight", "outcome": "denied", "reason": "header", "verdict": "blocked",
                         "error": "PreflightMissingAllowOriginHeader", "method": "PUT",
                         "headers": "content-type, x-a"},
                "user_agent": "curl/8",
                "refused": {"by": "policy", "reason": "header"},
                "bucket": "cats", "generation": 3, "rule": 1, "rule_id": "uploads", "policy": "cors/photos.xml",
                "why": "header x-a is not in AllowedHeader (none) of rule 1", "missing": ["x-a"],
                "explain": "/cors?url=https%3A%2F%2Fphotos.example%2Fcat.jpg&origin=https%3A%2F%2Fapp.example\
                            &method=PUT&header=content-type&header=x-a",
            })
        );
        let group = event.group.unwrap();
        assert_eq!(
            (
                &*group.origin,
                group.bucket.as_deref(),
                group.request,
                group.reason
            ),
            ("https://app.example", Some("cats"), "preflight", "header")
        );
    }

    #[test]
    fn a_request_is_refused_by_the_policy_the_upstream_or_no_route() {
        let blocked = Some(AnswerVerdict::Blocked(BlockedReason::AllowOriginMismatch));
        let by = |record: Record<'_>| {
            let group = LiveEvent::new(&record, None).group;
            group.map(|group| (group.by, group.reason))
        };
        let upstream = Record {
            decision: None,
            verdict: blocked,
            ..record()
        };
        assert_eq!(by(upstream), Some(("upstream", "AllowOriginMismatch")));
        let no_route = Record {
            route: None,
            ..upstream
        };
        assert_eq!(by(no_route), Some(("no_route", "AllowOriginMismatch")));
        let allowed = Record {
            decision: Some((Kind::Actual, Ok(()))),
            ..upstream
        };
        assert_eq!(by(allowed), Some(("policy", "AllowOriginMismatch")));
        let readable = Record {
            verdict: Some(AnswerVerdict::Readable),
            ..allowed
        };
        assert_eq!(by(readable), None);
        assert_eq!(by(record()), Some(("policy", "method")));
    }

    #[test]
    fn an_event_and_its_group_have_the_same_origin() {
        let origins = [
            "https://app.example",
            "https://b\u{fc}cher.example",
            "https://\u{202e}.example",
            "a\"\\b",
        ];
        let long = format!("https://{}.example", "a".repeat(60_000));
        for origin in origins.into_iter().chain([&*long]) {
            let record = Record {
                origin: Some(origin.as_bytes()),
                ..record()
            };
            let event = LiveEvent::new(&record, None);
            let shown = value(&event)["origin"].as_str().unwrap().to_owned();
            assert_eq!(&*event.group.unwrap().origin, shown, "{origin}");
        }
    }

    #[test]
    fn an_origin_that_is_cut_is_not_explained_as_another_one() {
        let of = |length: usize| {
            let origin = "a".repeat(length);
            let record = Record {
                origin: Some(origin.as_bytes()),
                ..record()
            };
            value(&LiveEvent::new(&record, None))
        };
        let whole = of(MAX_ORIGIN);
        assert!(
            whole["explain"]
                .as_str()
                .unwrap()
                .contains(&"a".repeat(MAX_ORIGIN))
        );
        assert_eq!(whole.get("origin_bytes"), None);
        let longer = of(MAX_ORIGIN + 1);
        assert_eq!(longer.get("explain"), None);
        assert_eq!(longer["origin_bytes"], MAX_ORIGIN + 1);
    }

    #[test]
    fn client_input_cannot_enlarge_or_break_an_event() {
        let hostile = [
            &b"\"}\r\n\r\nevent: snapshot\ndata: {\x1b[31m\xff</script>"[..],
            &[b'"'; 70_000],
        ]
        .concat();
        let target = format!("/\"\\{}", "a".repeat(100_000));
        let headers = b"x-a,".repeat(10_000);
        let record = Record {
            host: &hostile,
            target: &target,
            origin: Some(&hostile),
            referer: Some(&hostile),
            user_agent: Some(&hostile),
            asked: Some(RequestedPermission {
                method: &hostile,
                headers: &headers,
            }),
            ..record()
        };
        let event = LiveEvent::new(&record, None);
        assert!(event.json.len() < 16_000, "{}", event.json.len());
        assert!(event.json.iter().all(|byte| matches!(byte, b' '..=b'~')));
        assert!(value(&event).get("event").is_none());
    }
}
