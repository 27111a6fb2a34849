//! The log of refused CORS requests: enough lines to see why a page does not work, at a limited
//! rate.

use std::time::Instant;

use crate::cors::{Kind, Reason};
use crate::routing::client::{TrustedProxies, address_behind};
use crate::text::escape::Percent;

use super::LogLimiter;
use super::denial::{DenialRecord, DeniedRequest};
use super::denial_text::{Why, command};

/// The most bytes shown of an origin or a path.
const MAX_SHOWN: usize = 200;

/// One worker's log of refused requests.
#[derive(Debug, Default)]
pub(crate) struct DenialLog {
    by_reason: LogLimiter<{ Reason::ALL.len() }>,
    unknown_hosts: LogLimiter<1>,
}

impl DenialLog {
    /// Logs a refusal, at a limited rate for each reason.
    pub(crate) fn log(&self, refusal: &DenialRecord<'_>, now: Instant) {
        let reason = refusal.denial.reason();
        let index = Reason::ALL.iter().position(|one| *one == reason);
        let over = |suppressed| report(reason, suppressed);
        if self.by_reason.take(index.unwrap_or(usize::MAX), now, over) {
            refusal.write(reason);
        }
    }

    /// Logs a request to a host that no route serves, at a limited rate.
    pub(crate) fn log_unknown_host(
        &self,
        denied: DeniedRequest<'_>,
        request_id: &str,
        now: Instant,
    ) {
        if self.unknown_hosts.take(0, now, report_unknown_hosts) {
            tracing::info!(
                host = shown(denied.host, MAX_SHOWN),
                origin = Some(denied.origin)
                    .filter(|origin| !origin.is_empty())
                    .map(|origin| shown(origin, MAX_SHOWN)),
                method = shown(denied.method, 32),
                path = shown(denied.path.as_bytes(), MAX_SHOWN),
                id = request_id,
                "no route serves the request's host"
            );
        }
    }

    /// Logs how many lines were suppressed in past periods. Call it regularly, so that they are
    /// reported even if no more refusals come.
    pub(crate) fn summarise(&self, now: Instant) {
        self.unknown_hosts
            .summarise(now, |_, suppressed| report_unknown_hosts(suppressed));
        self.by_reason.summarise(now, |index, suppressed| {
            if let Some(reason) = Reason::ALL.get(index) {
                report(*reason, suppressed);
            }
        });
    }
}

fn report(reason: Reason, suppressed: u64) {
    let reason = reason.as_str();
    tracing::info!(reason, suppressed, "more CORS requests refused");
}

fn report_unknown_hosts(suppressed: u64) {
    tracing::info!(suppressed, "more requests for hosts without a route");
}

/// Input from clients, as a string. The log quotes it and escapes quotation marks in it, so that it
/// cannot imitate another field.
fn shown(bytes: &[u8], max: usize) -> String {
    Percent::new(bytes, max).to_string()
}

impl DenialRecord<'_> {
    fn write(&self, reason: Reason) {
        let nearest = self.denial.nearest_rule();
        let rule_id = nearest
            .zip(self.policy)
            .and_then(|(index, policy)| policy.policy.rule_id(index))
            .map(|id| shown(id.as_bytes(), MAX_SHOWN));
        let denied = &self.denied;
        let bucket = self.snapshot.map_or(Ok(None), |snapshot| {
            snapshot.bucket(denied.host, denied.path)
        });
        let ambiguous = bucket.as_ref().err().map(ToString::to_string);
        let bucket = bucket.unwrap_or_default();
        let bucket = bucket.map(|name| shown(name.as_bytes(), MAX_SHOWN));
        let kind = match denied.kind {
            Kind::Preflight => "preflight",
            Kind::Actual => "actual",
        };
        let no_proxies = TrustedProxies::default();
        let proxies = self
            .snapshot
            .map_or(&no_proxies, |snapshot| &snapshot.trusted_proxies);
        let client = address_behind(denied.forwarded_for.into_iter(), denied.client, proxies);
        tracing::info!(
            why = Why(self).to_string(),
            client = client.map(tracing::field::display),
            route = self.route,
            host = shown(denied.host, MAX_SHOWN),
            bucket,
            ambiguous,
            request = kind,
            reason = reason.as_str(),
            origin = shown(denied.origin, MAX_SHOWN),
            method = shown(denied.method, 32),
            path = shown(denied.path.as_bytes(), MAX_SHOWN),
            // Counted from 1, like in `explain`.
            nearest_rule = nearest.map(|index| index + 1),
            rule_id,
            explain = command(self),
            id = Some(self.request_id).filter(|id| !id.is_empty()),
            "CORS request refused"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::mpsc;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::cors::Denial;
    use crate::cors::{CorsConfiguration, CorsRule, Decision, Options, Policy, RequestedHeaders};
    use crate::routing::client::Client;
    use crate::routing::snapshot::PolicySource;
    use crate::routing::snapshot::RoutePolicy;
    use crate::telemetry::PERIOD;

    #[derive(Clone)]
    struct DenialLines(mpsc::Sender<String>);

    impl io::Write for DenialLines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .send(String::from_utf8(bytes.to_vec()).unwrap())
                .unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(test: impl FnOnce()) -> Vec<String> {
        let (sender, receiver) = mpsc::channel();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_writer(move || DenialLines(sender.clone()))
            .finish();
        tracing::subscriber::with_default(subscriber, test);
        receiver.try_iter().collect()
    }

    fn policy() -> RoutePolicy {
        let rule = CorsRule {
            id: Some("read".to_owned()),
            allowed_origins: vec!["https://app.example".to_owned()],
            allowed_methods: vec!["GET".to_owned()],
            ..CorsRule::default()
        };
        let configuration = CorsConfiguration { rules: vec![rule] };
        RoutePolicy {
            policy: Arc::new(Policy::compile(&configuration, Options::default()).unwrap()),
            allowed: Box::default(),
            source: Arc::default(),
        }
    }

    fn denied_request() -> DeniedRequest<'static> {
        DeniedRequest {
            kind: Kind::Actual,
            host: b"photos.example",
            origin: b"https://app.example",
            method: b"GET",
            path: "/",
            headers: RequestedHeaders::NONE,
            client: Client {
                address: Some("192.0.2.7".parse().unwrap()),
                tls: false,
                trusted: false,
                listener: Default::default(),
            },
            forwarded_for: None,
        }
    }

    fn denial(policy: &RoutePolicy, method: &Method, origin: &str) -> Denial {
        let mut fields = HeaderMap::new();
        fields.insert("origin", origin.parse().unwrap());
        match policy.policy.decide(method, &fields) {
            Decision::Actual(Err(denial)) => denial,
            decision => panic!("{decision:?}"),
        }
    }

    #[test]
    fn a_line_has_every_detail_and_cannot_be_broken() {
        let policy = policy();
        let denial = denial(&policy, &Method::PUT, "https://app.example");
        let lines = logged(|| {
            DenialLog::default().log(
                &DenialRecord {
                    route: "photos",
                    snapshot: None,
                    denied: DeniedRequest {
                        kind: Kind::Actual,
                        host: b"s3.example",
                        origin: b"https://a reason=\"forged\r\nforged\x1b[31m",
                        method: b"PUT",
                        path: &"/long".repeat(100),
                        ..denied_request()
                    },
                    denial: &denial,
                    policy: Some(&policy),
                    request_id: "",
                },
                Instant::now(),
            );
        });
        assert_eq!(lines.len(), 1);
        for part in [
            "route=\"photos\"",
            "reason=\"method\"",
            "host=\"s3.example\"",
            "origin=\"https://a reason=\\\"forged%0d%0aforged%1b[31m\"",
            "method=\"PUT\"",
            "/long...",
            "nearest_rule=1",
            "rule_id=\"read\"",
        ] {
            assert!(lines[0].contains(part), "{part} in {}", lines[0]);
        }
        assert!(!lines[0].contains(" id="), "{}", lines[0]);
        assert!(lines[0].len() < 900);
    }

    /// The log line of a preflight that a policy with this rule refuses.
    fn line(rule: CorsRule, origin: &str, method: &str, headers: &str) -> String {
        let configuration = CorsConfiguration { rules: vec![rule] };
        let policy = RoutePolicy {
            policy: Arc::new(Policy::compile(&configuration, Options::default()).unwrap()),
            allowed: Box::default(),
            source: Arc::new(PolicySource {
                file: Some(Path::new("cors/photos.xml").into()),
                ..PolicySource::default()
            }),
        };
        let mut fields = HeaderMap::new();
        fields.insert("origin", origin.parse().unwrap());
        fields.insert("access-control-request-method", method.parse().unwrap());
        fields.insert("access-control-request-headers", headers.parse().unwrap());
        let Decision::Preflight(Err(denial)) = policy.policy.decide(&Method::OPTIONS, &fields)
        else {
            panic!("it is allowed");
        };
        let lines = logged(|| {
            let refusal = DenialRecord {
                route: "photos",
                snapshot: None,
                denied: DeniedRequest {
                    kind: Kind::Preflight,
                    origin: origin.as_bytes(),
                    method: method.as_bytes(),
                    headers: RequestedHeaders::from_value(headers.as_bytes()),
                    ..denied_request()
                },
                denial: &denial,
                policy: Some(&policy),
                request_id: "",
            };
            DenialLog::default().log(&refusal, Instant::now());
        });
        lines.concat()
    }

    fn rule() -> CorsRule {
        CorsRule {
            allowed_origins: vec!["https://app.example".to_owned()],
            allowed_methods: vec!["GET".to_owned(), "PUT".to_owned()],
            allowed_headers: vec!["content-type".to_owned()],
            ..CorsRule::default()
        }
    }

    #[test]
    fn a_line_names_the_failing_value_rule_file_and_command() {
        let app = "https://app.example";
        let cases = [
            (
                (app, "PUT", "content-type,x-amz-date"),
                "header x-amz-date is not in AllowedHeader (content-type) of rule 1, cors/photos.xml",
                "s3cors explain --cors='cors/photos.xml' --origin='https://app.example' \
                 --method='PUT' --header='content-type' --header='x-amz-date'",
            ),
            (
                (app, "GET", "a,b"),
                "headers a, b are not in AllowedHeader (content-type) of rule 1",
                "--header='a' --header='b'",
            ),
            (
                (app, "DELETE", ""),
                "method DELETE is not in AllowedMethod (GET, PUT) of rule 1, cors/photos.xml",
                "--method='DELETE'\"",
            ),
            (
                ("http://app.example", "GET", ""),
                "origin http://app.example is not in any AllowedOrigin of cors/photos.xml; closest: \
                 https://app.example of rule 1 (",
                "--origin='http://app.example'",
            ),
            (
                (app, "PATCH", ""),
                "method PATCH is neither an S3 method (GET, PUT, POST, DELETE, HEAD) nor in extra_methods",
                "reason=\"method\"",
            ),
            (
                (app, "G T", ""),
                "method G T is neither",
                "reason=\"malformed\"",
            ),
            (
                (app, "GET", "a b"),
                "a b in Access-Control-Request-Headers is not a header name",
                "",
            ),
        ];
        for ((origin, method, headers), why, also) in cases {
            let line = line(rule(), origin, method, headers);
            for part in [why, also, "client=192.0.2.7"] {
                assert!(line.contains(part), "{part} in {line}");
            }
        }
    }

    #[test]
    fn hostile_values_are_escaped_and_not_put_into_a_command() {
        for origin in [
            "https://a'; rm -rf ~ #",
            "https://a\"b",
            "https://a\\'b",
            "https://a`id`",
            "https://$(id)",
            "https://a b",
            "https://a|b",
            &format!("https://{}", "a".repeat(300)),
        ] {
            let line = line(rule(), origin, "GET", "");
            assert!(!line.contains("s3cors explain"), "{line}");
            assert!(line.len() < 900, "{line}");
        }
        // A value cannot become a flag.
        let line = line(rule(), "--help", "GET", "");
        assert!(line.contains("--origin='--help'"), "{line}");
    }

    #[test]
    fn long_lists_are_cut() {
        let many = |prefix: &str| (0..100).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
        let rule = CorsRule {
            allowed_headers: many("x-allowed-"),
            ..rule()
        };
        let line = line(rule, "https://app.example", "GET", &many("y").join(","));
        assert!(line.contains("y7, and 92 more"), "{line}");
        assert!(line.contains("x-allowed-7, and 92 more"), "{line}");
        assert!(line.len() < 1000, "{line}");
    }

    #[test]
    fn each_reason_gets_a_few_lines_a_second_and_a_summary() {
        let policy = Arc::new(policy());
        let refusals = DenialLog::default();
        let by_origin = denial(&policy, &Method::GET, "https://evil.example");
        let by_method = denial(&policy, &Method::PUT, "https://app.example");
        let log = |denial, now| {
            let refusal = DenialRecord {
                route: "photos",
                snapshot: None,
                denied: DeniedRequest {
                    kind: Kind::Actual,
                    host: b"photos.example",
                    origin: b"null",
                    ..denied_request()
                },
                denial,
                policy: None,
                request_id: "",
            };
            refusals.log(&refusal, now);
        };
        let start = Instant::now();
        let lines = logged(|| {
            (0..1000).for_each(|_| log(&by_origin, start));
            log(&by_method, start);
        });
        assert_eq!(lines.len(), 6);

        let next = start + PERIOD;
        let lines = logged(|| log(&by_origin, next));
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("suppressed=995"), "{}", lines[0]);

        let lines = logged(|| (0..10).for_each(|_| log(&by_origin, next)));
        assert_eq!(lines.len(), 4);
        let lines = logged(|| refusals.summarise(next + PERIOD));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("suppressed=6"), "{}", lines[0]);
        assert!(logged(|| refusals.summarise(next + 2 * PERIOD)).is_empty());
    }
}
