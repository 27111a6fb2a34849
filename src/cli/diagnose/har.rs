//! Reads a HAR as a stream: one entry at a time (<http://www.softwareishard.com/blog/har-12-spec/>).
//!
//! A HAR has less than a NetLog: requests that Chrome blocks have neither a response nor a
//! reason.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::cors::fetch::{
    Answers, Credentials, Exchange, Mode, Outcome, Response, ScriptRequest, is_cross_origin, judge,
    origin_of,
};

use super::blocked::{Blocked, Groups};
use super::bounded::Budget;
use super::head::{self, Field, Recorded};
use super::loose::Loose;
use super::synthetic::passing;

/// The maximum size of requests and preflight answers kept until the end of the file, in bytes.
const MAX_KEPT: usize = 16 << 20;

/// The size of an entry besides its texts, in bytes.
const OVERHEAD: usize = 512;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    request: Option<Request>,
    response: Option<Answer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Request {
    method: Loose,
    url: Loose,
    headers: Option<Vec<Header>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    status: Loose,
    headers: Option<Vec<Header>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    name: Loose,
    value: Loose,
}

/// The requests of a HAR.
#[derive(Debug, Default)]
pub(super) struct Har {
    /// The answers to preflights, by page and URL.
    preflights: HashMap<(String, String), Option<Response>>,
    /// Cross-origin requests, and their responses.
    requests: Vec<(ScriptRequest, Option<Response>)>,
    size: usize,
    pub(super) entries: u64,
    /// The number of requests beyond the memory limit.
    pub(super) forgotten: u64,
    pub(super) seen: u64,
    pub(super) groups: Groups,
}

fn fields(headers: Option<Vec<Header>>) -> Vec<Field> {
    let headers = headers.unwrap_or_default().into_iter();
    let fields = headers.filter_map(|header| {
        let name = header.name.text()?.to_ascii_lowercase();
        Some((name, header.value.text()?.to_owned()))
    });
    fields.collect()
}

impl Har {
    fn add(&mut self, entry: Entry) {
        self.entries += 1;
        let (request, answer) = (
            entry.request.unwrap_or_default(),
            entry.response.unwrap_or_default(),
        );
        let (Some(url), Some(method)) = (request.url.text(), request.method.text()) else {
            return;
        };
        let sent = fields(request.headers);
        let Some(page) = page(&sent).filter(|page| is_cross_origin(page, url)) else {
            return;
        };
        let status = answer
            .status
            .number()
            .and_then(|status| u16::try_from(status).ok());
        // Browsers write 0 or -1 where they show no response.
        let status = status.filter(|status| (100..600).contains(status));
        let response =
            status.and_then(|status| head::response(status, fields(answer.headers).into_iter()));
        let size = OVERHEAD
            + url.len()
            + sent
                .iter()
                .map(|(name, value)| name.len() + value.len() + 64)
                .sum::<usize>()
            + response
                .iter()
                .flat_map(|one| &one.headers)
                .map(|(_, value)| value.len() + 128)
                .sum::<usize>();
        if self.size + size > MAX_KEPT {
            self.forgotten += 1;
            return;
        }
        if method == "OPTIONS" && head::value(&sent, "access-control-request-method").is_some() {
            self.size += size;
            self.preflights.insert((page, url.to_owned()), response);
            return;
        }
        let is_cors = match head::value(&sent, "sec-fetch-mode") {
            Some(mode) => mode == "cors",
            None => head::value(&sent, "origin").is_some(),
        };
        if !is_cors {
            return;
        }
        self.size += size;
        let has_cookies = head::value(&sent, "cookie").is_some();
        let request = ScriptRequest {
            origin: page,
            url: url.to_owned(),
            method: method.to_owned(),
            headers: head::of_script(&sent, Recorded::OnWire),
            credentials: if has_cookies {
                Credentials::Include
            } else {
                Credentials::SameOrigin
            },
            mode: Mode::Cors,
        };
        self.requests.push((request, response));
    }

    /// Judges the requests at the end of the file: preflights may come after their requests.
    pub(super) fn end(&mut self) {
        let mut asked = HashSet::new();
        for (request, response) in std::mem::take(&mut self.requests) {
            self.seen += 1;
            let key = (request.origin.clone(), request.url.clone());
            let preflight = self.preflights.get(&key).cloned();
            asked.insert(key);
            self.judge(request, preflight, response);
        }
        // Some browsers leave out the requests whose preflights failed.
        for ((origin, url), preflight) in std::mem::take(&mut self.preflights) {
            if asked.contains(&(origin.clone(), url.clone())) {
                continue;
            }
            self.seen += 1;
            let request = ScriptRequest {
                origin,
                url,
                method: "GET".to_owned(),
                headers: vec![(
                    http::HeaderName::from_static("x-unknown"),
                    http::HeaderValue::from_static("x"),
                )],
                credentials: Credentials::SameOrigin,
                mode: Mode::Cors,
            };
            let is_refused = preflight.as_ref().is_some_and(|answer| {
                !answer.status.is_success()
                    || !answer
                        .headers
                        .contains_key(http::header::ACCESS_CONTROL_ALLOW_ORIGIN)
            });
            if is_refused {
                self.judge(request, Some(preflight), None);
            }
        }
    }

    fn judge(
        &mut self,
        request: ScriptRequest,
        preflight: Option<Option<Response>>,
        response: Option<Response>,
    ) {
        let is_known = response.is_some();
        let exchange = Exchange {
            answers: Answers {
                // Without an entry of its own, the preflight was cached or passed.
                preflight: preflight.unwrap_or_else(|| Some(passing(&request))),
                response,
            },
            redirected: Vec::new(),
            request,
        };
        let verdict = judge(&exchange);
        if verdict.outcome != Outcome::Blocked {
            return;
        }
        match verdict.error.clone() {
            Some(error) => self.groups.add(Blocked {
                error: Some((error.name.to_owned(), error.parameter)),
                verdict: Some(verdict),
                exchange,
            }),
            None if !is_known => self.groups.add(Blocked {
                error: None,
                verdict: None,
                exchange,
            }),
            // The target of a redirect has its own entry.
            None => {}
        }
    }
}

/// The origin of the page that sent a request.
fn page(sent: &[Field]) -> Option<String> {
    if let Some(origin) = head::value(sent, "origin") {
        return head::origin(origin);
    }
    let referer = head::value(sent, "referer")?;
    origin_of(referer)
}

/// Reads the member `log` of a HAR.
pub(super) struct Log<'h> {
    pub(super) har: &'h mut Har,
    pub(super) budget: &'h Budget,
}

impl<'de> DeserializeSeed<'de> for Log<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Log<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the log of a HAR")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            if name == "entries" {
                members.next_value_seed(Entries {
                    har: &mut *self.har,
                    budget: self.budget,
                })?;
            } else {
                self.budget.lift();
                members.next_value::<IgnoredAny>()?;
            }
            self.budget.renew();
        }
        Ok(())
    }
}

struct Entries<'h> {
    har: &'h mut Har,
    budget: &'h Budget,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.budget.renew();
        while let Some(entry) = entries.next_element()? {
            self.har.add(entry);
            self.budget.renew();
        }
        Ok(())
    }
}
