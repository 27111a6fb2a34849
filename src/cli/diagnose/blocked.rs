//! Requests that a browser blocked, grouped.

use std::collections::BTreeMap;

use crate::cors::fetch::{Credentials, Engine, Exchange, Verdict, origin_of};

use super::super::redact;

/// The most groups that are kept.
const MAX_GROUPS: usize = 1000;

/// How many URLs of a group are shown.
const MAX_URLS: usize = 3;

/// The longest value that is kept.
const MAX_VALUE: usize = 2048;

/// A blocked request.
#[derive(Clone, Debug)]
pub(super) struct Blocked {
    pub(super) exchange: Exchange,
    /// The reason, as Chrome names it; `None`: the file does not say.
    pub(super) error: Option<(String, String)>,
    /// What browsers do with the recorded answers, where that gives the same reason.
    pub(super) verdict: Option<Verdict>,
}

/// What a group's requests have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) origin: String,
    pub(super) server: String,
    pub(super) method: String,
    /// Name and parameter.
    pub(super) error: Option<(String, String)>,
}

/// Requests that are blocked for one reason.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) count: u64,
    /// Some of their URLs, as they may be shown.
    pub(super) urls: Vec<String>,
    /// The URL of the first one, without its query. It may hold secrets.
    pub(super) first_url: String,
    pub(super) headers: Vec<String>,
    pub(super) credentials: Credentials,
    /// What the browsers' consoles print of the first one.
    pub(super) messages: Vec<(Engine, String)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) groups: BTreeMap<Key, Group>,
    /// Requests of groups that are not kept.
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

/// A text that is not longer than is useful.
fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        None => text.to_owned(),
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "…",
    }
}
