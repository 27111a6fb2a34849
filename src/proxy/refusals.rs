//! The log of refused CORS requests: enough lines to see why a page does not work, and never
//! more than a few a second.

use std::time::Instant;

use crate::cors::Denial;
use crate::cors::Kind;
use crate::cors::Reason;
use crate::telemetry::LogLimiter;

use super::account::Asking;
use super::escape::Percent;
use super::snapshot::{RoutePolicy, Snapshot};

/// The most that is shown of an origin or a path, in bytes.
const MAX_SHOWN: usize = 200;

/// One worker's log of refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    by_reason: LogLimiter<{ Reason::ALL.len() }>,
    unknown_hosts: LogLimiter<1>,
}

/// A refused request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal<'r> {
    /// The route's name.
    pub(super) route: &'r str,
    /// What its bucket can be found in; `None` where no route serves the host.
    pub(super) snapshot: Option<&'r Snapshot>,
    /// What was refused.
    pub(super) asking: Asking<'r>,
    /// Why.
    pub(super) denial: &'r Denial,
    /// Who says so; `None` where no route serves the host.
    pub(super) policy: Option<&'r RoutePolicy>,
    /// Under which the client knows the request; empty where it does not.
    pub(super) request_id: &'r str,
}

impl Refusals {
    /// Shows a refusal, unless its reason had its lines already.
    pub(super) fn log(&self, refusal: &Refusal<'_>, now: Instant) {
        let reason = refusal.denial.reason();
        let index = Reason::ALL.iter().position(|one| *one == reason);
        let over = |suppressed| tell(reason, suppressed);
        if self.by_reason.take(index.unwrap_or(usize::MAX), now, over) {
            refusal.write(reason);
        }
    }

    /// Shows a request to a host that no route serves, unless there were enough lines of those.
    pub(super) fn log_unknown_host(&self, asking: Asking<'_>, request_id: &str, now: Instant) {
        if self.unknown_hosts.take(0, now, tell_unknown_hosts) {
            tracing::info!(
                host = shown(asking.host, MAX_SHOWN),
                origin = Some(asking.origin)
                    .filter(|origin| !origin.is_empty())
                    .map(|origin| shown(origin, MAX_SHOWN)),
                method = shown(asking.method, 32),
                path = shown(asking.path.as_bytes(), MAX_SHOWN),
                id = request_id,
                "no route serves a request's host"
            );
        }
    }

    /// Says what was suppressed in periods that are over. To be called now and then, so that it
    /// is said even where no further refusal comes.
    pub(super) fn summarise(&self, now: Instant) {
        self.unknown_hosts
            .summarise(now, |_, suppressed| tell_unknown_hosts(suppressed));
        self.by_reason.summarise(now, |index, suppressed| {
            if let Some(reason) = Reason::ALL.get(index) {
                tell(*reason, suppressed);
            }
        });
    }
}

fn tell(reason: Reason, suppressed: u64) {
    let reason = reason.as_str();
    tracing::info!(reason, suppressed, "more CORS requests were refused");
}

fn tell_unknown_hosts(suppressed: u64) {
    tracing::info!(suppressed, "more requests had a host that no route serves");
}

/// What came from outside, as a string: the log puts quotation marks around it and a backslash
/// before those in it, so that nothing in it passes for another field.
fn shown(bytes: &[u8], max: usize) -> String {
    Percent::new(bytes, max).to_string()
}

impl Refusal<'_> {
    fn write(&self, reason: Reason) {
        let nearest = self.denial.nearest_rule();
        let rule_id = nearest
            .zip(self.policy)
            .and_then(|(index, policy)| policy.policy.rule_id(index))
            .map(|id| shown(id.as_bytes(), MAX_SHOWN));
        let asking = &self.asking;
        let bucket = self.snapshot.map_or(Ok(None), |snapshot| {
            snapshot.bucket(asking.host, asking.path)
        });
        let ambiguous = bucket.as_ref().err().map(ToString::to_string);
        let bucket = bucket.unwrap_or_default();
        let bucket = bucket.map(|name| shown(name.as_bytes(), MAX_SHOWN));
        let kind = match asking.kind {
            Kind::Preflight => "preflight",
            Kind::Actual => "actual",
        };
        tracing::info!(
            route = self.route,
            host = shown(asking.host, MAX_SHOWN),
            bucket,
            ambiguous,
            request = kind,
            reason = reason.as_str(),
            origin = shown(asking.origin, MAX_SHOWN),
            method = shown(asking.method, 32),
            path = shown(asking.path.as_bytes(), MAX_SHOWN),
            // People count from 1, as `explain` does.
            nearest_rule = nearest.map(|index| index + 1),
            rule_id,
            id = Some(self.request_id).filter(|id| !id.is_empty()),
            "a CORS request was refused"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::mpsc;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::cors::{CorsConfiguration, CorsRule, Decision, Options, Policy};
    use crate::telemetry::PERIOD;

    #[derive(Clone)]
    struct Lines(mpsc::Sender<String>);

    impl io::Write for Lines {
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
            .with_writer(move || Lines(sender.clone()))
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

    fn denial(policy: &RoutePolicy, method: &Method, origin: &str) -> Denial {
        let mut fields = HeaderMap::new();
        fields.insert("origin", origin.parse().unwrap());
        match policy.policy.decide(method, &fields) {
            Decision::Actual(Err(denial)) => denial,
            decision => panic!("{decision:?}"),
        }
    }

    #[test]
    fn a_line_names_what_an_operator_looks_for_and_nothing_breaks_it() {
        let policy = policy();
        let denial = denial(&policy, &Method::PUT, "https://app.example");
        let lines = logged(|| {
            Refusals::default().log(
                &Refusal {
                    route: "photos",
                    snapshot: None,
                    asking: Asking {
                        kind: Kind::Actual,
                        host: b"s3.example",
                        origin: b"https://a reason=\"forged\r\nforged\x1b[31m",
                        method: b"PUT",
                        path: &"/long".repeat(100),
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
        assert!(lines[0].len() < 600);
    }

    #[test]
    fn each_reason_has_a_few_lines_a_second_and_the_rest_is_summed_up() {
        let policy = Arc::new(policy());
        let refusals = Refusals::default();
        let by_origin = denial(&policy, &Method::GET, "https://evil.example");
        let by_method = denial(&policy, &Method::PUT, "https://app.example");
        let log = |denial, now| {
            let refusal = Refusal {
                route: "photos",
                snapshot: None,
                asking: Asking {
                    kind: Kind::Actual,
                    host: b"photos.example",
                    origin: b"null",
                    method: b"GET",
                    path: "/",
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
