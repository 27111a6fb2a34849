//! Prints the results of the probe, as JSON and for people.

use clap::builder::styling::AnsiColor;
use http::{HeaderMap, Version};
use serde_json::{Value, json};

use crate::cors::fetch::Outcome;
use crate::explain::verdict_to_json;

use super::super::explain_text::Text;
use super::super::json_text::title_case;
use super::super::redact;
use super::exchange::{ProbeExchange, Step, StepKind};
use super::finding::{Finding, Severity};
use super::fix::Fix;
use super::server::Server;

/// Everything that is reported.
pub(super) struct Report {
    pub(super) exchanged: ProbeExchange,
    /// Requests that no browser sends.
    pub(super) checks: Vec<Step>,
    pub(super) findings: Vec<Finding>,
    pub(super) server: Server,
    /// The change that would allow the request; `None` if it is allowed.
    pub(super) fix: Option<Fix>,
}

/// The result, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeOutcome {
    Readable,
    Blocked,
    /// The preflight passed; the request was not sent.
    Unsent,
    /// The server did not answer.
    Unreached,
}

impl ProbeOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Readable => "readable",
            Self::Blocked => "blocked",
            Self::Unsent => "unsent",
            Self::Unreached => "unreached",
        }
    }
}

impl Report {
    pub(super) fn result(&self) -> ProbeOutcome {
        let is_mixed = self
            .findings
            .iter()
            .any(|finding| finding.id == "mixed_content");
        match self.exchanged.verdict.outcome {
            _ if !super::response_findings::is_reached(&self.exchanged) => ProbeOutcome::Unreached,
            _ if is_mixed => ProbeOutcome::Blocked,
            _ if self.exchanged.is_unsent => ProbeOutcome::Unsent,
            Outcome::Readable | Outcome::Opaque => ProbeOutcome::Readable,
            Outcome::Blocked => ProbeOutcome::Blocked,
        }
    }

    /// Whether the script gets everything that it wants, as far as known.
    pub(super) fn is_satisfied(&self) -> bool {
        let lacks = self
            .findings
            .iter()
            .any(|finding| finding.id == "field_not_exposed");
        matches!(self.result(), ProbeOutcome::Readable | ProbeOutcome::Unsent) && !lacks
    }

    pub(super) fn to_json(&self) -> Value {
        let request = &self.exchanged.exchange.request;
        let steps = self.exchanged.steps.iter().chain(&self.checks);
        let findings = self.findings.iter().map(|finding| {
            json!({ "id": finding.id, "severity": finding.severity.as_str(), "text": finding.text })
        });
        let is_known = matches!(
            self.result(),
            ProbeOutcome::Readable | ProbeOutcome::Blocked
        );
        json!({
            "url": redact::url(&request.url),
            "origin": request.origin,
            "method": request.method,
            "outcome": self.result().as_str(),
            "satisfied": self.is_satisfied(),
            "verdict": is_known.then(|| verdict_to_json(&redact::verdict(&self.exchanged.verdict))),
            "exchange": steps.map(step_json).collect::<Vec<_>>(),
            "server": {
                "kind": self.server.kind.as_str(),
                "name": self.server.kind.name(),
                "evidence": self.server.evidence,
                "front": self.server.front,
            },
            "findings": findings.collect::<Vec<_>>(),
            "fix": self.fix.as_ref().map(|fix| json!({ "text": fix.text, "code": fix.code })),
        })
    }

    pub(super) fn to_text(&self, has_colours: bool) -> String {
        let mut text = Text::new(has_colours);
        let request = &self.exchanged.exchange.request;
        let subject = format!(
            "{} {} from {}",
            request.method,
            redact::url(&request.url),
            request.origin
        );
        let (colour, title) = match self.result() {
            ProbeOutcome::Readable if !self.is_satisfied() => (AnsiColor::Red, "NOT ALL READABLE"),
            ProbeOutcome::Readable => (AnsiColor::Green, "READABLE"),
            ProbeOutcome::Blocked => (AnsiColor::Red, "BLOCKED"),
            ProbeOutcome::Unsent => (AnsiColor::Yellow, "PREFLIGHT PASSES"),
            ProbeOutcome::Unreached => (AnsiColor::Red, "NOT REACHED"),
        };
        text.styled(colour.on_default().bold(), 0, format!("{title}: {subject}"));
        match self.result() {
            ProbeOutcome::Readable => {
                let readable = self.exchanged.verdict.readable_headers.join(", ");
                text.line(1, format!("readable fields: {readable}"));
            }
            ProbeOutcome::Unsent => text.line(
                1,
                "the request itself was not sent: --send sends it, without a body",
            ),
            ProbeOutcome::Blocked | ProbeOutcome::Unreached => {}
        }
        if let Some(error) = redact::verdict(&self.exchanged.verdict).error
            && self.result() == ProbeOutcome::Blocked
        {
            text.line(1, format!("reason: {} {}", error.name, error.parameter));
        }
        for step in &self.exchanged.steps {
            text.blank();
            show(&mut text, step);
        }
        self.consoles(&mut text);
        if !self.findings.is_empty() {
            text.blank();
            text.title("Found:");
        }
        for finding in &self.findings {
            let colour = match finding.severity {
                Severity::Error => AnsiColor::Red,
                Severity::Warning => AnsiColor::Yellow,
                Severity::Note => AnsiColor::Cyan,
            };
            let line = format!("{}: {}", finding.severity.as_str(), finding.text);
            text.styled(colour.on_default(), 1, line);
        }
        text.blank();
        let evidence = match &*self.server.evidence {
            "" => String::new(),
            evidence => format!(" ({evidence})"),
        };
        let front = self
            .server
            .front
            .map_or_else(String::new, |front| format!(", behind {front}"));
        text.line(
            0,
            format!(
                "The server looks like {}{evidence}{front}.",
                self.server.kind.name()
            ),
        );
        if let Some(fix) = &self.fix {
            text.blank();
            text.title(format!("To allow it: {}", fix.text));
            text.styled(AnsiColor::Green.on_default(), 1, &fix.code);
        }
        text.into_string()
    }

    /// The console message of each browser.
    fn consoles(&self, text: &mut Text) {
        let messages = redact::verdict(&self.exchanged.verdict).messages;
        if messages.is_empty() || self.result() != ProbeOutcome::Blocked {
            return;
        }
        text.blank();
        text.title("The browser's console says:");
        for (engine, message) in messages {
            text.line(1, format!("{engine}: {message}"));
        }
        for (engine, difference) in &self.exchanged.verdict.differs {
            text.line(
                1,
                format!("{engine} differs: {}", difference.outcome.as_str()),
            );
        }
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// Fields with their values, redacted.
fn pairs(fields: &HeaderMap) -> impl Iterator<Item = (&str, String)> {
    fields.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (
            name.as_str(),
            redact::field(name.as_str(), &value).into_owned(),
        )
    })
}

fn step_json(step: &Step) -> Value {
    let fields = |fields| {
        pairs(fields)
            .map(|(name, value)| json!([name, value]))
            .collect::<Vec<_>>()
    };
    let mut document = json!({
        "kind": step.kind.as_str(),
        "method": step.sent.method.as_str(),
        "url": redact::url(&step.sent.url),
        "headers": fields(&step.sent.fields),
        "response": null,
        "error": null,
    });
    let (member, value) = match &step.answer {
        Ok(answer) => (
            "response",
            json!({
                "version": version(answer.version),
                "status": answer.status.as_u16(),
                "headers": fields(&answer.fields),
            }),
        ),
        Err(error) => ("error", error.to_string().into()),
    };
    if let Some(members) = document.as_object_mut() {
        members.insert(member.to_owned(), value);
    }
    document
}

/// Whether a request or response field matters to CORS.
fn is_shown(name: &str) -> bool {
    const SHOWN: [&str; 12] = [
        "age",
        "authorization",
        "cache-control",
        "content-type",
        "cookie",
        "location",
        "origin",
        "range",
        "server",
        "set-cookie",
        "vary",
        "via",
    ];
    SHOWN.contains(&name)
        || name.starts_with("access-control-")
        || name.starts_with("x-cache")
        || name.starts_with("x-amz-")
}

fn show(text: &mut Text, step: &Step) {
    let name = match step.kind {
        StepKind::Preflight => "preflight",
        StepKind::Request => "request",
        StepKind::Check => "check",
    };
    text.title(format!(
        "{name}: {} {}",
        step.sent.method,
        redact::url(&step.sent.url)
    ));
    for (name, value) in pairs(&step.sent.fields).filter(|(name, _)| is_shown(name)) {
        text.line(1, format!("> {}: {value}", title_case(name)));
    }
    match &step.answer {
        Ok(answer) => {
            text.line(
                1,
                format!("< {} {}", version(answer.version), answer.status),
            );
            for (name, value) in pairs(&answer.fields).filter(|(name, _)| is_shown(name)) {
                text.line(1, format!("< {}: {value}", title_case(name)));
            }
        }
        Err(error) => text.line(1, format!("< no answer: {error}")),
    }
}
