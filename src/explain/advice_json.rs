//! The JSON of the change that would allow a refused request.

use serde_json::{Value, json};

use crate::cors::{Advice, CorsConfiguration, Edit, LetsIn, SuggestedChange};

use super::browser::Remedy;
use super::home::Home;
use super::reach::{Effect, Place, is_narrow};

pub(crate) fn advice(advice: &Advice, home: Option<&Home>, places: &[Place]) -> Value {
    let how = home.map_or_else(
        || "change the CORS configuration".to_owned(),
        Home::to_string,
    );
    match advice {
        Advice::Change(change) => suggested("change", &how, change, home, places),
        Advice::ExtraMethod {
            method,
            change: Some(change),
        } => {
            let text = format!("{}, and {how}", extra_method(method));
            suggested("extra_method", &text, change, home, places)
        }
        Advice::ExtraMethod {
            method,
            change: None,
        } => json!({ "kind": "extra_method", "text": extra_method(method) }),
        Advice::Request(fix) => json!({ "kind": "request", "text": fix.to_string() }),
        Advice::Nothing => json!({
            "kind": "nothing",
            "text": "no change of the CORS configuration would allow this request",
        }),
    }
}

/// The change that gives a script what an allowing policy withholds.
pub(crate) fn remedy_json(remedy: &Remedy, places: &[Place]) -> Value {
    let applies_to: Vec<_> = places.iter().map(place).collect();
    match remedy {
        Remedy::Expose(edits) => json!({
            "kind": "change",
            "text": "change the CORS configuration",
            "edits": edits.iter().map(edit).collect::<Vec<_>>(),
            "xml": edits.iter().map(Edit::xml).collect::<Vec<_>>().join("\n"),
            "configuration": null,
            "file": null,
            "lets_in": ["the origins of this rule read these fields"],
            "applies_to": applies_to,
        }),
        Remedy::NameOrigin { before, rule } => {
            let number = before + 1;
            let origins = rule.allowed_origins.join(", ");
            let xml = Edit::AddRule((**rule).clone()).xml();
            json!({
                "kind": "change",
                "text": format!("add a rule for {origins} before rule {number}, because `*` never allows credentials"),
                "edits": [{ "text": format!("add a rule before rule {number}"), "rule": null, "xml": xml }],
                "xml": xml,
                "configuration": null,
                "file": null,
                "lets_in": [format!("{origins} with credentials, for everything that rule {number} allows")],
                "applies_to": applies_to,
            })
        }
        Remedy::Never => json!({ "kind": "nothing", "text": "no script can read Set-Cookie" }),
    }
}

pub(crate) fn extra_method(method: &str) -> String {
    format!("S3's rules cannot allow {method}; add it to the route's extra_methods")
}

pub(crate) fn suggested(
    kind: &str,
    text: &str,
    change: &SuggestedChange,
    home: Option<&Home>,
    places: &[Place],
) -> Value {
    if let Some(Home::Broken { .. }) = home {
        return json!({ "kind": "file", "text": text, "file": home.and_then(Home::file) });
    }
    let edits: Vec<_> = change.edits.iter().map(edit).collect();
    // Without an existing document, the advice has a whole one.
    let complete = || change.apply(&CorsConfiguration::default()).to_xml();
    let complete = home.map(|_| complete());
    let lets_in = change.lets_in.iter();
    let lets_in: Vec<_> = match is_narrow(places) {
        true => lets_in.map(ToString::to_string).collect(),
        false => lets_in.map(LetsIn::in_many_places).collect(),
    };
    let applies_to: Vec<_> = places.iter().map(place).collect();
    json!({
        "kind": kind,
        "text": text,
        "edits": edits,
        "xml": change.xml(),
        "configuration": complete,
        "file": home.and_then(Home::file),
        "lets_in": lets_in,
        "applies_to": applies_to,
    })
}

pub(crate) fn place(place: &Place) -> Value {
    json!({
        "route": place.route.name,
        "bucket": place.bucket,
        "effect": match place.effect {
            Effect::Decides => "decides",
            Effect::Replaces(_) => "replaces",
            Effect::Refused(_) => "refused",
        },
        "text": place.to_string(),
    })
}

pub(crate) fn edit(edit: &Edit) -> Value {
    let xml = edit.xml();
    match edit {
        Edit::Add {
            rule,
            element,
            value: _,
        } => json!({
            "text": format!("add to rule {}, as {}", rule + 1, element),
            "rule": rule + 1,
            "xml": xml,
        }),
        Edit::ReplaceOrigin { rule, from, .. } => json!({
            "text": format!("in rule {}, instead of {from}", rule + 1),
            "rule": rule + 1,
            "replaces": from,
            "xml": xml,
        }),
        Edit::AddRule(_) => json!({
            "text": "add a rule, after all others",
            "rule": null,
            "xml": xml,
        }),
    }
}
