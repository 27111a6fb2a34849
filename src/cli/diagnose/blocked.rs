//! Requests that a browser blocked, grouped.

use std::collections::BTreeMap;

use crate::cors::fetch::{Credentials, Engine, Exchange, Verdict, origin_of};

use super::super::redact;

/// The maximum number of groups.
const MAX_GROUPS: usize = 1000;

/// How many URLs of a group are shown.
const MAX_URLS: usize = 3;

/// The longest value that is kept.
const MAX_VALUE: usize = 2048;

/// A blocked request.
#[derive(Clone, Debug)]
pub(super) struct Blocked {
    pub(super) exchange: Exchange,
    /// The reason, as Chrome names it; `None` if the file does not record it.
    pub(super) error: Option<(String, String)>,
    /// The verdict on the recorded answers, if it has the same reason.
    pub(super) verdict: Option<Verdict>,
}

/// The common properties of a group's requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) origin: String,
    pub(super) server: String,
    pub(super) method: String,
    /// The error's name and parameter.
    pub(super) error: Option<(String, String)>,
}

/// Requests that are blocked for the same reason.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) count: u64,
    /// Some of their URLs, redacted.
    pub(super) urls: Vec<String>,
    /// The URL of the first request, without its query. The path may contain secrets.
    pub(super) first_url: String,
    pub(super) headers: Vec<String>,
    pub(super) credentials: Credentials,
    /// The console messages of the browsers for the first request.
    pub(super) messages: Vec<(Engine, String)>,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) groups: BTreeMap<Key, Group>,
    /// The number of requests in groups beyond the limit.
    pub(super) others: u64,
}

impl Groups {
    pub(super) fn add(&mut self, blocked: Blocked) {
        let request = &blocked.exchange.request;
        let key = Key {
            origin: short(&request.origin),
            server: short(&origin_of(&request.url).unwrap_or_default()),
            method: short(&request.method),
            error: blocked
                .error
                .as_ref()
                .map(|(name, parameter)| (short(name), short(&redact::text(parameter)))),
        };
        if !self.groups.contains_key(&key) && self.groups.len() >= MAX_GROUPS {
            self.others += 1;
            return;
        }
        let shown = short(&redact::url(&request.url));
        let group = self.groups.entry(key).or_insert_with(|| Group {
            count: 0,
            urls: Vec::new(),
            first_url: short(request.url.split(['?', '#']).next().unwrap_or_default()),
            headers: request
                .headers
                .iter()
                .map(|(name, _)| name.as_str().to_owned())
                .collect(),
            credentials: request.credentials,
            messages: blocked.verdict.as_ref().map_or_else(Vec::new, |verdict| {
                let messages = redact::verdict(verdict).messages;
                messages
                    .into_iter()
                    .map(|(engine, text)| (engine, short(&text)))
                    .collect()
            }),
        });
        group.count += 1;
        if group.urls.len() < MAX_URLS && !group.urls.contains(&shown) {
            group.urls.push(shown);
        }
    }
}

/// Cuts an overlong text.
fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        None => text.to_owned(),
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "…",
    }
}
