//! Finds faults in the exchange itself that the verdict shows only indirectly or not at all.

use http::HeaderName;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, SET_COOKIE,
};

use crate::cors::fetch::{Credentials, Engine, Outcome, Step, preflight_cache_seconds};

use super::checks::combined;
use super::exchange::{ProbeExchange, StepKind};
use super::finding::Finding;
use super::reason::why;

/// CORS fields of a response.
const CORS_FIELDS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// The findings, the reason of a refusal first.
pub(super) fn look(exchanged: &ProbeExchange, read: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(failure) = &exchanged.verdict.failure
        && !exchanged.is_unsent
    {
        let id = match failure.step {
            Step::Preflight => "preflight_blocked",
            Step::Request | Step::Response => "response_blocked",
        };
        found.push(Finding::error(id, why(exchanged, failure)));
    }
    unreadable(exchanged, read, &mut found);
    doubled(exchanged, &mut found);
    mixed_content(exchanged, &mut found);
    preflight_age(exchanged, &mut found);
    credentials(exchanged, &mut found);
    authorization(exchanged, &mut found);
    error_status(exchanged, &mut found);
    found
}

/// The fields that the script wants to read but cannot.
pub(super) fn not_readable<'r>(exchanged: &ProbeExchange, read: &'r [String]) -> Vec<&'r String> {
    let is_readable = exchanged.verdict.outcome == Outcome::Readable && !exchanged.is_unsent;
    let readable = &exchanged.verdict.readable_headers;
    read.iter()
        .filter(|name| is_readable && !readable.contains(name))
        .collect()
}

fn unreadable(exchanged: &ProbeExchange, read: &[String], found: &mut Vec<Finding>) {
    for name in not_readable(exchanged, read) {
        let is_sent = exchanged
            .response()
            .is_some_and(|answer| answer.fields.contains_key(&**name));
        let list = exchanged
            .response()
            .and_then(|answer| combined(&answer.fields, &ACCESS_CONTROL_EXPOSE_HEADERS));
        let is_star = list
            .as_deref()
            .is_some_and(|list| list.split(',').any(|one| one.trim() == "*"));
        found.push(Finding::error(
            "field_not_exposed",
            match (&**name, is_sent) {
                ("set-cookie" | "set-cookie2", _) => format!("no script can read {name}"),
                (_, false) => format!("the response has no field {name}"),
                (_, true) if is_star => format!(
                    "the script cannot read {name}: with credentials, `*` in Access-Control-Expose-Headers is not a wildcard; list {name}"
                ),
                (_, true) => format!("the script cannot read {name}; add it to Access-Control-Expose-Headers"),
            },
        ));
    }
}

fn doubled(exchanged: &ProbeExchange, found: &mut Vec<Finding>) {
    for name in CORS_FIELDS {
        let count = exchanged
            .answers()
            .map(|(_, answer)| answer.fields.get_all(&name).iter().count())
            .max()
            .unwrap_or_default();
        let is_single =
            name == ACCESS_CONTROL_ALLOW_ORIGIN || name == ACCESS_CONTROL_ALLOW_CREDENTIALS;
        let text = format!(
            "{name} is sent {count} times: two layers add CORS fields; let only one of them do so"
        );
        match count {
            0 | 1 => {}
            _ if is_single => found.push(Finding::error("doubled_field", text)),
            _ => found.push(Finding::note("doubled_field", text)),
        }
    }
}

fn mixed_content(exchanged: &ProbeExchange, found: &mut Vec<Finding>) {
    if !exchanged.exchange.request.origin.starts_with("https://") {
        return;
    }
    let insecure = exchanged
        .steps
        .iter()
        .map(|step| &*step.sent.url)
        .find(|url| url.starts_with("http://") && !is_local(url));
    if let Some(url) = insecure {
        found.push(Finding::error(
            "mixed_content",
            format!(
                "browsers block {} as mixed content, because the page's origin is https; serve it over https",
                super::super::redact::url(url)
            ),
        ));
    }
}

/// Whether a URL is on this machine, which counts as secure.
fn is_local(url: &str) -> bool {
    let host = super::target::uri(url).and_then(|uri| uri.host().map(str::to_ascii_lowercase));
    host.is_some_and(|host| {
        host == "localhost"
            || host.ends_with(".localhost")
            || host.starts_with("127.")
            || host == "[::1]"
    })
}

fn preflight_age(exchanged: &ProbeExchange, found: &mut Vec<Finding>) {
    let cache = &exchanged.verdict.cache_seconds;
    // With redirects, the preflight answer with the shortest lifetime decides.
    let preflights = exchanged
        .answers()
        .filter(|(step, _)| step.kind == StepKind::Preflight);
    let shortest = preflights
        .map(|(_, answer)| answer)
        .min_by_key(|answer| preflight_cache_seconds(Engine::Chromium, &answer.fields));
    let Some(preflight) = shortest.filter(|_| !cache.is_empty()) else {
        return;
    };
    let text = match combined(&preflight.fields, &ACCESS_CONTROL_MAX_AGE) {
        None => "the preflight's answer has no Access-Control-Max-Age: browsers repeat the preflight after 5 seconds".to_owned(),
        Some(age) if cache.iter().all(|(_, seconds)| *seconds == 0) => {
            format!("Access-Control-Max-Age is `{age}`: browsers send a preflight before every request")
        }
        Some(age) if age.parse::<u64>().is_err() => {
            format!("Access-Control-Max-Age is `{age}`, which is not a number of seconds")
        }
        Some(_) => return,
    };
    found.push(Finding::note("preflight_not_cached", text));
}

fn credentials(exchanged: &ProbeExchange, found: &mut Vec<Finding>) {
    let request = &exchanged.exchange.request;
    if request.credentials != Credentials::Include {
        return;
    }
    let Some(response) = exchanged.response() else {
        return;
    };
    let cookies = response.fields.get_all(SET_COOKIE).iter();
    let is_lax = cookies.into_iter().any(|cookie| {
        let text = String::from_utf8_lossy(cookie.as_bytes()).to_ascii_lowercase();
        let attributes: String = text.split_whitespace().collect();
        !attributes.contains(";samesite=none") || !attributes.contains(";secure")
    });
    if is_lax {
        found.push(Finding::warning(
            "cookie_same_site",
            "the response sets a cookie without `SameSite=None; Secure`: browsers neither store nor send it for pages of other sites",
        ));
    }
}

fn authorization(exchanged: &ProbeExchange, found: &mut Vec<Finding>) {
    let asks = exchanged
        .last
        .iter()
        .flat_map(|hop| hop.preflight.iter().flatten())
        .any(|name| name == "authorization");
    if asks && exchanged.verdict.standard.is_some() {
        found.push(Finding::note(
            "wildcard_authorization",
            "Access-Control-Allow-Headers allows Authorization only with `*`: today's browsers accept that, the standard does not. List it explicitly",
        ));
    }
}

fn error_status(exchanged: &ProbeExchange, found: &mut Vec<Finding>) {
    let status = exchanged.response().map(|answer| answer.status);
    let is_readable = exchanged.verdict.outcome == Outcome::Readable;
    if let Some(status) = status.filter(|status| is_readable && status.as_u16() >= 400) {
        found.push(Finding::note(
            "error_status",
            format!(
                "the script can read the response, but it is an error: {}",
                status.as_u16()
            ),
        ));
    }
}

/// Whether any request of a browser was answered.
pub(super) fn is_reached(exchanged: &ProbeExchange) -> bool {
    exchanged
        .answers()
        .any(|(step, _)| step.kind != StepKind::Check)
}
