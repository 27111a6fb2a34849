//! Finds problems that no single request shows: responses that depend on `Origin` without `Vary`,
//! caches that give one site's response to another, errors without CORS fields.

use std::hash::{BuildHasher as _, RandomState};

use http::Method;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, AGE, CACHE_CONTROL, HeaderMap,
    HeaderName, VARY,
};

use crate::cors::fetch::is_cross_origin;

use super::client::{Answer, Client};
use super::exchange::{ProbeExchange, Step, StepKind, ask, reading};
use super::finding::Finding;

/// An origin that no policy names.
const OTHER_ORIGIN: &str = "https://s3cors-probe.example";

/// The results of the additional requests.
pub(super) struct Checked {
    pub(super) findings: Vec<Finding>,
    pub(super) steps: Vec<Step>,
}

/// The requests sent besides the browser's.
struct Checks<'c> {
    client: &'c mut Client,
    url: String,
    page: String,
    method: Method,
    /// The fields that the script sets, if its request has this method.
    headers: HeaderMap,
    steps: Vec<Step>,
}

/// Sends up to seven more GETs, or HEADs where the script makes a HEAD.
pub(super) async fn check(client: &mut Client, exchanged: &ProbeExchange) -> Checked {
    let none = Checked {
        findings: Vec::new(),
        steps: Vec::new(),
    };
    let request = &exchanged.exchange.request;
    let Some(hop) = exchanged
        .last
        .as_ref()
        .filter(|hop| is_cross_origin(&request.origin, &hop.url))
    else {
        return none;
    };
    let method = if hop.method == "HEAD" {
        Method::HEAD
    } else {
        Method::GET
    };
    let is_same = hop.method == method.as_str();
    let mut checks = Checks {
        client,
        url: hop.url.split('#').next().unwrap_or_default().to_owned(),
        page: hop.origin.clone().unwrap_or_else(|| request.origin.clone()),
        method,
        headers: match is_same {
            true => hop.headers.iter().cloned().collect(),
            false => HeaderMap::new(),
        },
        steps: Vec::new(),
    };
    let findings = checks.run(exchanged.response().filter(|_| is_same)).await;
    Checked {
        findings,
        steps: checks.steps,
    }
}

impl Checks<'_> {
    async fn run(&mut self, response: Option<&Answer>) -> Vec<Finding> {
        let mut found = Vec::new();
        let (url, page) = (self.url.clone(), self.page.clone());
        let first = match response {
            Some(response) => response.clone(),
            None => match self.ask(&url, Some(&page)).await {
                Some(answer) => answer,
                None => return found,
            },
        };
        let Some(other) = self.ask(&url, Some(OTHER_ORIGIN)).await else {
            return found;
        };
        let Some(plain) = self.ask(&url, None).await else {
            return found;
        };
        self.cache(&first, &other, &mut found).await;
        vary(&page, &first, &other, &plain, &mut found);
        any_origin(&other, &mut found);
        self.errors(&first, &mut found).await;
        found
    }

    async fn ask(&mut self, url: &str, origin: Option<&str>) -> Option<Answer> {
        let page = origin.unwrap_or(&self.page);
        let mut sent = reading(url, self.method.clone(), page, origin);
        sent.fields.extend(self.headers.clone());
        let step = ask(self.client, StepKind::Check, sent).await;
        let answer = step.answer.as_ref().ok().cloned();
        self.steps.push(step);
        answer
    }

    /// Compares with URLs that no cache can know.
    async fn cache(&mut self, first: &Answer, other: &Answer, found: &mut Vec<Finding>) {
        if is_signed(&self.url) {
            return;
        }
        let page = self.page.clone();
        if allow_origin(other).is_some_and(|value| value == page) {
            let fresh = fresh(&self.url);
            let Some(fresh) = self.ask(&fresh, Some(OTHER_ORIGIN)).await else {
                return;
            };
            if fresh.status == other.status && allow_origin(&fresh) != allow_origin(other) {
                found.push(Finding::error(
                    "cache_mixes_origins",
                    format!(
                        "a cache gives the response for {page} to {OTHER_ORIGIN}{}: include Origin in its key, and send `Vary: Origin`",
                        evidence(other)
                    ),
                ));
            }
        }
        if allow_origin(first).is_none_or(|value| value != page && value != "*") {
            let fresh = fresh(&self.url);
            let Some(fresh) = self.ask(&fresh, Some(&page)).await else {
                return;
            };
            if fresh.status == first.status
                && allow_origin(&fresh).is_some_and(|value| value == page || value == "*")
            {
                found.push(Finding::error(
                    "cache_without_cors",
                    format!(
                        "a cache answers {page} with a response stored for another request{}: the server itself allows this origin. \
                         Include Origin in the cache's key, send `Vary: Origin`, and purge the cache",
                        evidence(first)
                    ),
                ));
            }
        }
    }

    /// Requests a URL that most likely does not exist.
    async fn errors(&mut self, first: &Answer, found: &mut Vec<Finding>) {
        let page = self.page.clone();
        let passes = |answer: &Answer| {
            allow_origin(answer).is_some_and(|value| value == page || value == "*")
        };
        if !passes(first) {
            return;
        }
        let missing = missing(&self.url);
        let Some(answer) = self.ask(&missing, Some(&page)).await else {
            return;
        };
        if answer.status.as_u16() >= 400 && !passes(&answer) {
            found.push(Finding::warning(
                "error_without_cors",
                format!(
                    "errors have no CORS fields: a missing URL answers {} without Access-Control-Allow-Origin, so a script \
                     sees a network error instead of the status. Add the fields to errors too (nginx: `add_header … always`)",
                    answer.status.as_u16()
                ),
            ));
        }
    }
}

/// Checks that `Vary` names the origin if the response depends on it.
fn vary(page: &str, first: &Answer, other: &Answer, plain: &Answer, found: &mut Vec<Finding>) {
    let is_kept = |answer: &Answer| !has_element(&answer.fields, &CACHE_CONTROL, "no-store");
    let depends =
        allow_origin(first) != allow_origin(plain) || allow_origin(first) != allow_origin(other);
    if !depends {
        return;
    }
    let varies = |answer: &Answer| {
        has_element(&answer.fields, &VARY, "origin") || has_element(&answer.fields, &VARY, "*")
    };
    let without = [
        (first, "the response with Origin"),
        (plain, "the response without Origin"),
    ];
    let without = without
        .iter()
        .filter(|(answer, _)| is_kept(answer) && !varies(answer))
        .map(|(_, what)| *what);
    let without: Vec<&str> = without.collect();
    if !without.is_empty() {
        found.push(Finding::warning(
            "no_vary_origin",
            format!(
                "the CORS fields depend on Origin, but {} has no `Vary: Origin`: a cache, even the browser's, may give {page} a response made for another site. Send `Vary: Origin` on every response, with and without Origin",
                without.join(" and ")
            ),
        ));
    }
}

fn any_origin(other: &Answer, found: &mut Vec<Finding>) {
    if allow_origin(other).is_none_or(|value| value != OTHER_ORIGIN) {
        return;
    }
    let credentials = combined(&other.fields, &ACCESS_CONTROL_ALLOW_CREDENTIALS);
    found.push(match credentials.as_deref() {
        Some("true") => Finding::warning(
            "any_origin_with_credentials",
            "the server allows any origin, with credentials: every web site can read with its visitors' cookies. List the allowed origins",
        ),
        _ => Finding::note(
            "any_origin",
            "the server reflects any origin in Access-Control-Allow-Origin: every web site can read; `*` has the same effect and can be cached",
        ),
    });
}

/// The values of a field, joined.
pub(super) fn combined(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values = fields.get_all(name).iter();
    let values: Vec<_> = values
        .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

pub(super) fn allow_origin(answer: &Answer) -> Option<String> {
    combined(&answer.fields, &ACCESS_CONTROL_ALLOW_ORIGIN)
}

fn has_element(fields: &HeaderMap, name: &HeaderName, element: &str) -> bool {
    let list = combined(fields, name).unwrap_or_default();
    list.split(',')
        .any(|one| one.trim().eq_ignore_ascii_case(element))
}

/// Evidence that a response comes from a cache.
fn evidence(answer: &Answer) -> String {
    let names = [
        AGE,
        HeaderName::from_static("x-cache"),
        HeaderName::from_static("cf-cache-status"),
        HeaderName::from_static("x-cache-status"),
        HeaderName::from_static("cache-status"),
    ];
    let found = names
        .iter()
        .find_map(|name| Some(format!(" ({name}: {})", combined(&answer.fields, name)?)));
    found.unwrap_or_default()
}

/// Whether a changed query would break a signature.
fn is_signed(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.to_ascii_lowercase();
    ["signature", "sig=", "x-amz-", "token", "hmac"]
        .iter()
        .any(|word| query.contains(word))
}

/// The URL with a new query.
fn fresh(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}s3cors-probe={}", nonce())
}

/// A URL that does not exist, next to this one.
fn missing(url: &str) -> String {
    let (path, query) = match url.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (url, String::new()),
    };
    // A host without a path: text appended to it would become part of the host name.
    let is_host = path
        .split_once("://")
        .is_some_and(|(_, rest)| !rest.contains('/'));
    let slash = if is_host { "/" } else { "" };
    format!("{path}{slash}s3cors-probe-{}{query}", nonce())
}

fn nonce() -> String {
    format!("{:016x}", RandomState::new().hash_one(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_url_differs_and_keeps_the_query() {
        assert!(fresh("http://a/k").starts_with("http://a/k?s3cors-probe="));
        assert!(fresh("http://a/k?x=1").starts_with("http://a/k?x=1&s3cors-probe="));
        assert!(missing("http://a/k?x=1").ends_with("?x=1"));
        assert!(missing("http://a").starts_with("http://a/s3cors-probe-"));
        assert!(missing("http://a?x").starts_with("http://a/s3cors-probe-"));
        assert_ne!(fresh("http://a/"), fresh("http://a/"));
        assert!(is_signed("http://a/k?X-Amz-Signature=x") && !is_signed("http://a/token/k?x=1"));
    }
}
