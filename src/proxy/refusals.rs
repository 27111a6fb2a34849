//! The log of refused CORS requests: enough lines to see why a page does not work, and never
//! more than a few a second.

use std::time::Instant;

use crate::cors::Denial;
use crate::cors::Kind;
use crate::cors::Reason;

use super::escape::Escaped;
use super::quota::Quota;
use super::snapshot::RoutePolicy;

/// The most that is shown of an origin or a path, in bytes.
const MAX_SHOWN: usize = 200;

/// One worker's log of refusals.
#[derive(Debug, Default)]
pub struct Refusals(Quota<{ Reason::ALL.len() }>);

/// A refused request.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'r> {
    /// The route's name.
    pub route: &'r str,
    /// A preflight, or the request itself.
    pub kind: Kind,
    /// Why.
    pub denial: &'r Denial,
    /// Who says so; `None` where no route serves the host.
    pub policy: Option<&'r RoutePolicy>,
    /// The request's `Origin`, as it came.
    pub origin: &'r [u8],
    /// The method that rules were asked for.
    pub method: &'r [u8],
    /// The request's path, as it came.
    pub path: &'r str,
    /// Under which the client knows the request; empty where it does not.
    pub request_id: &'r str,
}

impl Refusals {
    /// Shows a refusal, unless its reason had its lines already.
    pub fn log(&self, refusal: &Refusal<'_>, now: Instant) {
        let reason = refusal.denial.reason();
        let index = Reason::ALL.iter().position(|one| *one == reason);
        let over = |suppressed| tell(reason, suppressed);
        if self.0.take(index.unwrap_or(usize::MAX), now, over) {
            refusal.write(reason);
        }
    }

    /// Says what was suppressed in periods that are over. To be called now and then, so that it
    /// is said even where no further refusal comes.
    pub fn summarise(&self, now: Instant) {
        self.0.summarise(now, |index, suppressed| {
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

impl Refusal<'_> {
    fn write(&self, reason: Reason) {
        let nearest = self.denial.nearest_rule();
        let id = nearest
            .zip(self.policy)
            .and_then(|(index, policy)| policy.policy.rule_id(index))
            .map(|id| tracing::field::display(Escaped::new(id.as_bytes(), MAX_SHOWN)));
        let kind = match self.kind {
            Kind::Preflight => "preflight",
            Kind::Actual => "actual",
        };
        tracing::info!(
            route = self.route,
            request = kind,
            reason = reason.as_str(),
            origin = %Escaped::new(self.origin, MAX_SHOWN),
            method = %Escaped::new(self.method, 32),
            path = %Escaped::new(self.path.as_bytes(), MAX_SHOWN),
            // People count from 1, as `explain` does.
            nearest_rule = nearest.map(|index| index + 1),
            rule_id = id,
            id = self.request_id,
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

    use super::super::quota::PERIOD;
    use super::*;
    use crate::cors::{CorsConfiguration, CorsRule, Decision, Options, Policy};

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
                    kind: Kind::Actual,
                    denial: &denial,
                    policy: Some(&policy),
                    origin: b"https://app.example\r\nforged\x1b[31m",
                    method: b"PUT",
                    path: &"/long".repeat(100),
                    request_id: "0A1B",
                },
                Instant::now(),
            );
        });
        assert_eq!(lines.len(), 1);
        for part in [
            "route=\"photos\"",
            "reason=\"method\"",
            "origin=https://app.example\\x0d\\x0aforged\\x1b[31m",
            "method=PUT",
            "/long...",
            "nearest_rule=1",
            "rule_id=read",
        ] {
            assert!(lines[0].contains(part), "{part} in {}", lines[0]);
        }
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
                kind: Kind::Actual,
                denial,
                policy: None,
                origin: b"null",
                method: b"GET",
                path: "/",
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
