//! Prints the results of a recording, as JSON and for people.

use clap::builder::styling::AnsiColor;
use serde_json::{Map, Value, json};

use crate::cors::fetch::Credentials;

use super::super::explain_text::Text;
use super::super::json_text::{items, string};
use super::super::output::count;
use super::advice::Advisor;
use super::blocked::Groups;
use super::file::{Contents, Recording};

/// The report as JSON.
pub(super) fn to_json(recording: &Recording, advisor: Option<&Advisor>) -> Value {
    let (format, seen, forgotten, groups) = match &recording.contents {
        Contents::NetLog(requests) => (
            "netlog",
            requests.seen,
            requests.forgotten,
            &requests.groups,
        ),
        Contents::Har(har) => ("har", har.seen, har.forgotten, &har.groups),
    };
    let failed: Map<String, Value> = match &recording.contents {
        Contents::NetLog(requests) => requests
            .failed
            .iter()
            .map(|(name, count)| (name.clone(), (*count).into()))
            .collect(),
        Contents::Har(_) => Map::new(),
    };
    json!({
        "format": format,
        "broken_off": recording.broken,
        "cross_origin_requests": seen,
        "forgotten": forgotten,
        "failed": failed,
        "blocked": blocked(groups, advisor),
        "blocked_beyond": groups.others,
    })
}

fn blocked(groups: &Groups, advisor: Option<&Advisor>) -> Vec<Value> {
    let groups = groups.groups.iter().map(|(key, group)| {
        let (name, parameter) = key
            .error
            .as_ref()
            .map_or((None, ""), |(name, parameter)| (Some(name), parameter));
        let messages: Map<String, Value> = group
            .messages
            .iter()
            .map(|(engine, text)| (engine.as_str().to_owned(), text.as_str().into()))
            .collect();
        json!({
            "origin": key.origin,
            "server": key.server,
            "method": key.method,
            "headers": group.headers,
            "credentials": match group.credentials {
                Credentials::Omit => "omit",
                Credentials::SameOrigin => "same-origin",
                Credentials::Include => "include",
            },
            "error": name,
            "parameter": parameter,
            "count": group.count,
            "urls": group.urls,
            "messages": messages,
            "policy": advisor.map(|advisor| advisor.advise(key, group)),
        })
    });
    groups.collect()
}

/// The report for people, made from the JSON.
pub(super) fn to_text(document: &Value, has_colours: bool) -> String {
    let mut text = Text::new(has_colours);
    let blocked = items(&document["blocked"]).count();
    let total: u64 = items(&document["blocked"])
        .filter_map(|group| group["count"].as_u64())
        .sum();
    let seen = document["cross_origin_requests"]
        .as_u64()
        .unwrap_or_default();
    let summary = format!(
        "{} of {seen} cross-origin requests blocked, for {}",
        total,
        count(blocked, "reason")
    );
    match blocked {
        0 => text.styled(
            AnsiColor::Green.on_default().bold(),
            0,
            format!("none of {seen} cross-origin requests is blocked by CORS"),
        ),
        _ => text.styled(AnsiColor::Red.on_default().bold(), 0, summary),
    }
    if let Some(broken) = document["broken_off"].as_str() {
        text.line(
            0,
            format!("note: the file breaks off ({broken}); everything before that was read"),
        );
    }
    if document["forgotten"] != 0 {
        text.line(
            0,
            format!(
                "note: {} more requests exceed the memory limit",
                document["forgotten"]
            ),
        );
    }
    for group in items(&document["blocked"]) {
        show(&mut text, group);
    }
    if document["blocked_beyond"] != 0 {
        text.blank();
        text.line(
            0,
            format!(
                "{} more requests are blocked for other reasons",
                document["blocked_beyond"]
            ),
        );
    }
    if let Some(failed) = document["failed"]
        .as_object()
        .filter(|failed| !failed.is_empty())
    {
        text.blank();
        text.title("Failed for other reasons than CORS:");
        for (name, count) in failed {
            text.line(1, format!("{count} × {name}"));
        }
    }
    text.into_string()
}

fn show(text: &mut Text, group: &Value) {
    text.blank();
    let [origin, server, method] = ["origin", "server", "method"].map(|name| string(&group[name]));
    text.title(format!(
        "{} × {method} {server} from {origin}",
        group["count"]
    ));
    match group["error"].as_str() {
        Some(name) => text.styled(
            AnsiColor::Red.on_default(),
            1,
            format!("reason: {name} {}", string(&group["parameter"])),
        ),
        None => text.line(
            1,
            "reason: unknown, because a HAR has no responses of blocked requests; record a NetLog (chrome://net-export)",
        ),
    }
    for url in items(&group["urls"]) {
        text.line(1, string(url));
    }
    if let Some(messages) = group["messages"].as_object() {
        for (engine, message) in messages {
            text.line(1, format!("{engine}: {}", string(message)));
        }
    }
    let policy = &group["policy"];
    if let Some(what) = policy["text"].as_str() {
        text.line(1, format!("policy: {what}"));
        text.advice(&policy["advice"]);
    }
}
