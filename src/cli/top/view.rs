//! The screen's contents as data, made from snapshots and events.

use std::fmt::Write as _;

use serde_json::Value;

use crate::text::visible::visible;

/// The longest text that is shown, in characters.
const MAX_TEXT: usize = 1000;

/// The screen's contents.
#[derive(Debug, Default)]
pub(super) struct View {
    admin: String,
    /// One line about the process.
    pub(super) process: String,
    /// One line about the last hour.
    pub(super) totals: String,
    /// Requests, and refused or blocked requests, per minute; the oldest first.
    pub(super) requests: Vec<u64>,
    pub(super) refused_per_minute: Vec<u64>,
    pub(super) refused: Vec<RefusedRow>,
    /// Origin, route and count.
    pub(super) allowed: Vec<[String; 3]>,
    /// Problems with files and upstreams.
    pub(super) problems: Vec<String>,
    /// The last requests, the newest first.
    pub(super) events: Vec<String>,
}

/// A group of refused requests.
#[derive(Debug, Default)]
pub(super) struct RefusedRow {
    pub(super) id: u64,
    /// Time, count, route and bucket, reason, method, origin, path.
    pub(super) cells: [String; 7],
    pub(super) why: String,
    /// The path of the explanation on the admin listener.
    pub(super) explain: String,
}

/// The names of [`RefusedRow::cells`].
pub(super) const COLUMNS: [&str; 7] = [
    "LAST", "COUNT", "ROUTE", "REASON", "METHOD", "ORIGIN", "PATH",
];

/// The maximum number of events kept.
const MAX_EVENTS: usize = 100;

impl View {
    pub(super) fn new(admin: &str) -> Self {
        Self {
            admin: visible(admin),
            ..Self::default()
        }
    }

    /// Shows a snapshot.
    pub(super) fn take(&mut self, snapshot: &Value) {
        let list = |name: &str| {
            snapshot
                .get(name)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
        };
        self.process = format!(
            "s3cors {} at {} · {} · generation {} · since {}",
            text(snapshot, "version"),
            self.admin,
            text(snapshot, "phase"),
            number(snapshot, "generation"),
            clock(&text(snapshot, "started")),
        );
        let minutes: Vec<&Value> = list("minutes").collect();
        let sum_of = |value: Option<&Value>| -> u64 {
            let values = value
                .and_then(Value::as_object)
                .into_iter()
                .flat_map(|all| all.values());
            values.filter_map(Value::as_u64).sum()
        };
        let blocked = |minute: &Value| {
            let verdicts = minute.get("verdicts");
            verdicts.map_or(0, |verdicts| number(verdicts, "blocked"))
        };
        self.requests = minutes
            .iter()
            .map(|minute| number(minute, "requests"))
            .collect();
        self.refused_per_minute = minutes
            .iter()
            .map(|minute| blocked(minute).max(sum_of(minute.get("denied"))))
            .collect();
        let total =
            |each: &dyn Fn(&Value) -> u64| minutes.iter().map(|minute| each(minute)).sum::<u64>();
        self.totals = format!(
            "last {} min: {} requests · {} allowed · {} refused · {} with 5xx",
            minutes.len(),
            self.requests.iter().sum::<u64>(),
            total(&|minute| sum_of(minute.get("allowed"))),
            self.refused_per_minute.iter().sum::<u64>(),
            total(&|minute| number(minute, "server_errors")),
        );
        self.refused = list("refused").map(RefusedRow::of).collect();
        let allowed = list("allowed").map(|one| {
            [
                text(one, "origin"),
                text(one, "route"),
                number(one, "count").to_string(),
            ]
        });
        self.allowed = allowed.collect();
        self.problems = problems(snapshot, number(snapshot, "dropped_events"));
    }

    /// Shows a request that ended.
    pub(super) fn add(&mut self, event: &Value) {
        let refused = event.get("refused");
        let outcome = refused.map_or_else(
            || "allowed".to_owned(),
            |refused| format!("REFUSED {}", text(refused, "reason")),
        );
        let line = format!(
            "{} {outcome:22} {:7} {}  {}{}",
            clock(&text(event, "time")),
            method(event),
            text(event, "origin"),
            text(event, "host"),
            text(event, "target"),
        );
        self.events.insert(0, line);
        self.events.truncate(MAX_EVENTS);
    }

    /// The contents as text.
    pub(super) fn to_text(&self) -> String {
        let mut out = format!("{}\n{}\n", self.process, self.totals);
        let mut section = |title: &str, rows: &[Vec<String>], none: &str| {
            let _ = writeln!(out, "\n{title}");
            if rows.is_empty() {
                let _ = writeln!(out, "  {none}");
            }
            for line in aligned(rows) {
                let _ = writeln!(out, "  {line}");
            }
        };
        let header = COLUMNS.map(str::to_owned).to_vec();
        let mut rows = Vec::new();
        for row in &self.refused {
            rows.push(row.cells.to_vec());
        }
        if !rows.is_empty() {
            rows.insert(0, header);
        }
        section("Refused", &rows, "nothing was refused");
        let reasons = self.refused.iter().filter(|row| !row.why.is_empty());
        let reasons: Vec<_> = reasons
            .map(|row| vec![row.cells[5].clone(), row.why.clone()])
            .collect();
        if !reasons.is_empty() {
            section("Why", &reasons, "");
        }
        let allowed: Vec<_> = self.allowed.iter().map(|row| row.to_vec()).collect();
        section("Allowed origins", &allowed, "none yet");
        let problems: Vec<_> = self
            .problems
            .iter()
            .map(|line| vec![line.clone()])
            .collect();
        section(
            "Problems",
            &problems,
            "none: all files are in force, all upstreams are healthy",
        );
        out
    }
}

impl RefusedRow {
    fn of(group: &Value) -> Self {
        let nothing = Value::Null;
        let last = group.get("last").unwrap_or(&nothing);
        let route = text(group, "route");
        let place = match text(group, "bucket") {
            _ if route.is_empty() => "-".to_owned(),
            bucket if bucket.is_empty() => route,
            bucket => format!("{route}/{bucket}"),
        };
        let reason = text(group, "reason");
        let why = match (&*text(group, "by"), text(last, "why")) {
            ("no_route", _) => format!("no route serves the host ({reason})"),
            (_, why) if !why.is_empty() => why,
            ("upstream", _) => format!("browsers block the upstream's answer ({reason})"),
            (_, _) => format!("browsers block the answer ({reason})"),
        };
        Self {
            id: number(group, "id"),
            cells: [
                clock(&text(group, "last_seen")),
                number(group, "count").to_string(),
                place,
                reason,
                method(last),
                text(group, "origin"),
                text(last, "target"),
            ],
            why,
            explain: text(last, "explain"),
        }
    }
}

/// The method that a request is about: for a preflight, the requested method.
fn method(event: &Value) -> String {
    let asked = event.get("cors").map(|cors| text(cors, "method"));
    match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) => asked,
        None => text(event, "method"),
    }
}

fn problems(snapshot: &Value, dropped: u64) -> Vec<String> {
    let list = |name: &str| {
        snapshot
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let mut problems: Vec<String> = list("out_of_date")
        .map(|file| {
            let (name, error) = (text(file, "file"), first_line(&text(file, "error")));
            // Most errors already begin with the file.
            match error.starts_with(&name) {
                true => format!("not in force: {error}"),
                false => format!("not in force: {name}: {error}"),
            }
        })
        .collect();
    problems.extend(
        list("restart_needed_for")
            .filter_map(Value::as_str)
            .map(|key| format!("needs a restart: {}", visible(key))),
    );
    problems.extend(
        list("upstreams")
            .filter(|upstream| upstream.get("healthy") == Some(&Value::Bool(false)))
            .map(|upstream| {
                let failed = first_line(&text(upstream, "failed_check"));
                let why = if failed.is_empty() {
                    "not used after failures".to_owned()
                } else {
                    failed
                };
                format!(
                    "upstream of {}: {}: {why}",
                    text(upstream, "route"),
                    text(upstream, "upstream")
                )
            }),
    );
    for policy in list("policies") {
        let warnings = policy.get("warnings").and_then(Value::as_array);
        let warnings = warnings.into_iter().flatten().filter_map(Value::as_str);
        problems.extend(
            warnings
                .map(|warning| format!("warning: {}: {}", text(policy, "file"), visible(warning))),
        );
    }
    if dropped > 0 {
        problems.push(format!(
            "{dropped} requests not shown: too many at once; the metrics count all"
        ));
    }
    problems
}

fn first_line(text: &str) -> String {
    text.split("\\n").next().unwrap_or_default().to_owned()
}

/// The time of day in a timestamp.
fn clock(time: &str) -> String {
    time.get(11..19).unwrap_or("-").to_owned()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// A string with control characters escaped; empty if it is missing.
fn text(value: &Value, name: &str) -> String {
    let text = value.get(name).and_then(Value::as_str).unwrap_or_default();
    let short: String = text.chars().take(MAX_TEXT).collect();
    visible(&short)
}

/// Aligns rows: each column is as wide as its widest cell.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let lines = rows.iter().map(|row| {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(column, cell)| match column + 1 == row.len() {
            true => cell.clone(),
            false => format!("{cell:0$}", width(column)),
        });
        cells.collect::<Vec<_>>().join("  ")
    });
    lines.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::cli::top) fn snapshot() -> Value {
        let minute = |requests: u64, denied: u64| {
            json!({"time": "2026-11-30T21:40:00.000Z", "requests": requests, "allowed": {"preflight": 1, "actual": 2},
                   "denied": {"origin": denied, "method": 0}, "verdicts": {"readable": 2, "passed": 1, "blocked": denied},
                   "server_errors": 1})
        };
        json!({
            "version": "0.1.0", "phase": "serving", "generation": 3, "started": "2026-11-30T20:00:00.000Z",
            "dropped_events": 0, "minutes": [minute(100, 0), minute(50, 7)],
            "refused": [
                {"id": 1, "origin": "https://app.example", "route": "photos", "bucket": "cats", "request": "preflight",
                 "by": "policy", "reason": "header", "count": 12, "last_seen": "2026-11-30T21:40:07.042Z",
                 "last": {"method": "OPTIONS", "target": "/cats/1.jpg", "cors": {"method": "PUT"},
                          "why": "header x-amz-acl is not in AllowedHeader (content-type) of rule 1, cors.xml",
                          "explain": "/cors?url=http%3A%2F%2Fphotos.example%2F"}},
                {"id": 2, "origin": "https://evil.example/\u{1b}[31m\u{202e}", "route": "plain", "bucket": null,
                 "request": "actual", "by": "upstream", "reason": "MissingAllowOriginHeader", "count": 1,
                 "last_seen": "2026-11-30T21:39:00.000Z", "last": {"method": "GET", "target": "/\r\n"}},
            ],
            "allowed": [{"route": "photos", "origin": "https://*.app.example", "count": 80, "rules": []}],
            "out_of_date": [{"file": "cors.xml", "error": "line 3: bad\nmore", "seconds": 7}],
            "restart_needed_for": ["workers"],
            "upstreams": [{"route": "photos", "upstream": "http://minio:9000", "healthy": false, "failed_check": "503"}],
            "policies": [{"file": "cors.xml", "warnings": ["rule 1 is wide"]}],
        })
    }

    #[test]
    fn the_text_has_every_section_and_no_control_characters() {
        let mut view = View::new("127.0.0.1:9901");
        view.take(&snapshot());
        let text = view.to_text();
        for part in [
            "s3cors 0.1.0 at 127.0.0.1:9901 · serving · generation 3 · since 20:00:00",
            "last 2 min: 150 requests · 6 allowed · 7 refused · 2 with 5xx",
            "21:40:07  12     photos/cats  header",
            "PUT     https://app.example",
            "header x-amz-acl is not in AllowedHeader (content-type) of rule 1, cors.xml",
            "browsers block the upstream's answer (MissingAllowOriginHeader)",
            "https://*.app.example  photos  80",
            "not in force: cors.xml: line 3: bad",
            "needs a restart: workers",
            "upstream of photos: http://minio:9000: 503",
            "warning: cors.xml: rule 1 is wide",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let obeyed = text
            .chars()
            .find(|char| (char.is_control() && *char != '\n') || *char == '\u{202e}');
        assert_eq!(obeyed, None, "{text}");
    }

    #[test]
    fn a_process_without_traffic_says_so() {
        let mut view = View::new("x");
        view.take(&json!({}));
        let text = view.to_text();
        for part in [
            "nothing was refused",
            "none yet",
            "none: all files are in force",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
