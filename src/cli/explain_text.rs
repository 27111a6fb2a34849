//! Prints the result of `s3cors explain` for people.

use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Style};
use serde_json::Value;

use crate::cors::fetch::Engine;
use crate::text::visible::visible;

use super::json_text::{items, string, title_case};

/// Prints the explanation for people. It is made from the JSON, so that both say the same.
pub(crate) fn human(document: &Value, has_url: bool, has_colours: bool) -> String {
    let mut text = Text {
        has_colours,
        ..Text::default()
    };
    let verdict = string(&document["verdict"]);
    let colour = match verdict {
        "allowed" => AnsiColor::Green,
        "refused" => AnsiColor::Red,
        _ => AnsiColor::Yellow,
    };
    let verdict = verdict.replace('_', " ").to_uppercase();
    text.styled(
        colour.on_default().bold(),
        0,
        format!("{verdict}: {}", string(&document["summary"])),
    );
    text.served(document);
    let known: Vec<_> = items(&document["known_hosts"]).map(string).collect();
    if !known.is_empty() {
        text.line(0, format!("hosts    {}", known.join(", ")));
    }
    let (preflight, actual) = (&document["preflight"], &document["actual"]);
    let needed = preflight["needed"] == true;
    if needed {
        let reasons: Vec<_> = items(&preflight["reasons"]).map(string).collect();
        text.blank();
        text.title(format!(
            "The browser first sends a preflight, because {}:",
            reasons.join("; ")
        ));
        text.decision(preflight);
    }
    let is_sent = !needed || preflight["outcome"] != "refused";
    if !actual.is_null() && is_sent {
        text.blank();
        let method = string(&actual["method"]);
        text.title(if document["same_origin"] == true {
            format!(
                "The policy's decision about the {method}, which does not matter for a page of the same \
                 origin:"
            )
        } else if needed {
            format!("Then it sends the {method} itself:")
        } else {
            format!("Without a preflight, the browser sends the {method} itself:")
        });
        text.decision(actual);
    }
    text.consoles(document);
    let forbidden: Vec<_> = items(&preflight["forbidden_headers"]).map(string).collect();
    if !forbidden.is_empty() {
        text.blank();
        text.line(
            0,
            format!("note: no script can set {}", forbidden.join(", ")),
        );
    }
    let deciding = if is_sent { actual } else { preflight };
    text.advice(&deciding["advice"]);
    let curl = deciding["curl"].as_str().filter(|_| has_url);
    if let Some(curl) = curl {
        text.blank();
        text.title("See for yourself:");
        text.line(1, curl);
    }
    text.written
}

/// Lines of text. Control and bidirectional characters are escaped; the only styles are those
/// given here.
#[derive(Default)]
pub(crate) struct Text {
    written: String,
    has_colours: bool,
}

impl Text {
    pub(super) fn new(has_colours: bool) -> Self {
        Self {
            has_colours,
            ..Self::default()
        }
    }

    pub(super) fn into_string(self) -> String {
        self.written
    }

    pub(super) fn blank(&mut self) {
        self.written.push('\n');
    }

    pub(super) fn line(&mut self, depth: usize, line: impl AsRef<str>) {
        self.styled(Style::new(), depth, line);
    }

    pub(super) fn title(&mut self, line: impl AsRef<str>) {
        self.styled(Style::new().bold(), 0, line);
    }

    pub(super) fn styled(&mut self, style: Style, depth: usize, line: impl AsRef<str>) {
        let style = if self.has_colours {
            style
        } else {
            Style::new()
        };
        for line in line.as_ref().lines() {
            let line = visible(line);
            let indent = 2 * depth;
            let written = writeln!(self.written, "{:indent$}{style}{line}{style:#}", "");
            written.expect("a string takes every text");
        }
    }

    /// What each browser's console prints.
    fn consoles(&mut self, document: &Value) {
        let messages = document["browser"].get("messages").unwrap_or(&Value::Null);
        if document["verdict"] != "refused" || document["same_origin"] == true {
            return;
        }
        let engines = Engine::ALL.into_iter();
        let printed =
            engines.filter_map(|engine| Some((engine, messages[engine.as_str()].as_str()?)));
        let printed: Vec<_> = printed.collect();
        if printed.is_empty() {
            return;
        }
        self.blank();
        self.title("The browser's console says:");
        for (engine, message) in printed {
            self.line(1, format!("{engine}: {message}"));
        }
    }

    /// Which route, bucket and policy.
    fn served(&mut self, document: &Value) {
        let (route, bucket, policy) =
            (&document["route"], &document["bucket"], &document["policy"]);
        if route.is_null() {
            return;
        }
        self.blank();
        let (name, pattern) = (string(&route["name"]), string(&route["host_pattern"]));
        self.line(0, format!("route    {name} (host {pattern})"));
        let upstreams: Vec<_> = items(&route["upstreams"]).map(string).collect();
        self.line(0, format!("upstream {}", upstreams.join(", ")));
        if bucket["ambiguous"].is_string() {
            self.line(0, "bucket   ambiguous");
        } else if !bucket.is_null() {
            let name = bucket["name"]
                .as_str()
                .unwrap_or("none: the request is for the service root");
            let own = if bucket["has_policy"] == true {
                ""
            } else {
                ", without a policy of its own"
            };
            self.line(0, format!("bucket   {name}{own}"));
        }
        if !policy.is_null() {
            let file = policy["file"]
                .as_str()
                .unwrap_or("none: CORS is not enabled");
            self.line(
                0,
                format!("policy   {file} ({})", string(&policy["semantics"])),
            );
        }
    }

    /// Prints each rule's result and the response's fields.
    fn decision(&mut self, decision: &Value) {
        let matched = &decision["matched"];
        for rule in items(&decision["rules"]) {
            let id = rule["id"].as_str().map(|id| format!(" ({id})"));
            let title = format!("rule {}{}", rule["rule"], id.unwrap_or_default());
            if rule["matches"] == true {
                let is_first = matched["rule"] == rule["rule"];
                if is_first {
                    let green = AnsiColor::Green.on_default();
                    self.styled(green, 1, format!("{title} matches"));
                } else {
                    self.line(1, format!("{title} would match, but an earlier one did"));
                }
                continue;
            }
            let is_nearest = decision["nearest_rule"] == rule["rule"];
            let nearest = if is_nearest {
                ", but comes nearest"
            } else {
                ""
            };
            self.line(1, format!("{title} does not match{nearest}:"));
            for failure in items(&rule["failures"]) {
                self.line(2, string(&failure["text"]));
            }
        }
        if items(&decision["rules"]).next().is_none()
            && let Some(message) = decision["message"].as_str()
        {
            self.line(1, message);
        }
        if let Some(status) = decision["status"].as_u64() {
            let error = &decision["error"];
            let code = error["code"].as_str();
            let code = code.map(|code| format!(" {code}: {}", string(&error["message"])));
            self.line(1, format!("answer: {status}{}", code.unwrap_or_default()));
        }
        let fields = items(&decision["fields"]);
        let fields: Vec<_> = fields
            .map(|field| (title_case(string(&field["name"])), string(&field["value"])))
            .collect();
        if fields.is_empty() {
            self.line(1, "response fields: none");
        } else {
            self.line(1, "response fields:");
        }
        for (name, value) in fields {
            self.line(2, format!("{name}: {value}"));
        }
        for note in items(&decision["notes"]) {
            self.line(1, format!("note: {}", string(&note["text"])));
        }
    }

    /// Prints the change that would allow the request, and what else it would allow.
    pub(super) fn advice(&mut self, advice: &Value) {
        let Some(what) = advice["text"].as_str() else {
            return;
        };
        self.blank();
        self.title(format!("To allow it: {what}"));
        let green = AnsiColor::Green.on_default();
        if let Some(whole) = advice["configuration"].as_str() {
            self.styled(green, 1, whole);
        } else {
            for edit in items(&advice["edits"]) {
                self.line(1, format!("{}:", string(&edit["text"])));
                self.styled(green, 2, string(&edit["xml"]));
            }
        }
        let lets_in: Vec<_> = items(&advice["lets_in"]).map(string).collect();
        if !lets_in.is_empty() {
            self.title("That lets in:");
            for one in lets_in {
                self.line(1, one);
            }
        }
        let places: Vec<_> = items(&advice["applies_to"]).collect();
        if !places.is_empty() {
            self.title("It applies to:");
            for place in places {
                self.line(1, string(&place["text"]));
            }
        }
    }
}
