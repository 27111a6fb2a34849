//! Assembles the events of a NetLog into requests with their preflights, redirects and responses.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::cors::fetch::{
    Answers, Credentials, Exchange, Mode, Outcome, ScriptRequest, Step, Verdict, is_cross_origin,
    judge,
};

use super::blocked::{Blocked, Groups};
use super::head::{self, Recorded};
use super::netlog::{Constants, Event, Kind, Params, Sink};
use super::pending::{BEGIN, Pending, Preflight, id};
use super::synthetic::passing;

/// The maximum size of requests in progress, in bytes; beyond that, the oldest are dropped.
const MAX_PENDING: usize = 16 << 20;

/// The names of `Network.CorsError` by their numbers in NetLogs
/// (`services/network/public/mojom/cors.mojom`).
const CORS_ERRORS: [&str; 22] = [
    "DisallowedByMode",
    "InvalidResponse",
    "WildcardOriginNotAllowed",
    "MissingAllowOriginHeader",
    "MultipleAllowOriginValues",
    "InvalidAllowOriginValue",
    "AllowOriginMismatch",
    "InvalidAllowCredentials",
    "CorsDisabledScheme",
    "PreflightInvalidStatus",
    "PreflightDisallowedRedirect",
    "PreflightWildcardOriginNotAllowed",
    "PreflightMissingAllowOriginHeader",
    "PreflightMultipleAllowOriginValues",
    "PreflightInvalidAllowOriginValue",
    "PreflightAllowOriginMismatch",
    "PreflightInvalidAllowCredentials",
    "InvalidAllowMethodsPreflightResponse",
    "InvalidAllowHeadersPreflightResponse",
    "MethodDisallowedByPreflightResponse",
    "HeaderDisallowedByPreflightResponse",
    "RedirectContainsCredentials",
];

/// All requests of a NetLog.
#[derive(Debug, Default)]
pub(super) struct Requests {
    constants: Constants,
    kinds: HashMap<i64, Kind>,
    pending: HashMap<u64, Pending>,
    /// Their sources, the oldest first.
    order: VecDeque<u64>,
    size: usize,
    pub(super) groups: Groups,
    /// The number of scripts' cross-origin requests.
    pub(super) seen: u64,
    /// Requests that failed for other reasons, counted by error name.
    pub(super) failed: BTreeMap<String, u64>,
    /// The number of requests dropped before they ended.
    pub(super) forgotten: u64,
}

impl Sink for Requests {
    fn constants(&mut self, constants: Constants) {
        self.kinds = constants.kinds();
        self.constants = constants;
    }

    fn event(&mut self, event: Event) {
        let kind = event.kind.number().and_then(|kind| self.kinds.get(&kind));
        let source = event.source.as_ref().and_then(|source| id(&source.id));
        if let (Some(kind), Some(source)) = (kind.copied(), source) {
            let phase = event.phase.number().unwrap_or_default();
            self.note(kind, source, phase, event.params.unwrap_or_default());
        }
    }
}

impl Requests {
    fn note(&mut self, kind: Kind, source: u64, phase: i64, params: Params) {
        let is_new = !self.pending.contains_key(&source);
        if is_new {
            let begins = matches!(kind, Kind::CorsRequest | Kind::Alive) && phase == BEGIN;
            if !begins {
                return;
            }
            self.order.push_back(source);
        }
        let pending = self.pending.entry(source).or_default();
        pending.apply(kind, phase, params);
        if pending.is_main && pending.is_over && pending.alive <= 0 {
            self.finish(source, true);
            return;
        }
        let size = pending.measure();
        self.size = self.size + size - std::mem::replace(&mut pending.size, size);
        while self.size > MAX_PENDING {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if self.remove(oldest).is_some_and(|pending| pending.is_main) {
                self.forgotten += 1;
            }
        }
    }

    fn remove(&mut self, source: u64) -> Option<Pending> {
        let pending = self.pending.remove(&source)?;
        self.size -= pending.size;
        Some(pending)
    }

    /// Judges the answered requests at the end of the file.
    pub(super) fn end(&mut self) {
        let mut left: Vec<u64> = self.pending.keys().copied().collect();
        left.sort_unstable();
        for source in left {
            if self
                .pending
                .get(&source)
                .is_some_and(|pending| pending.is_main)
            {
                self.finish(source, false);
            }
        }
    }

    fn finish(&mut self, source: u64, has_ended: bool) {
        // Ended sources leave the order once they reach its front.
        while self
            .order
            .front()
            .is_some_and(|oldest| !self.pending.contains_key(oldest))
        {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.pending.len() + 1024 {
            let pending = &self.pending;
            self.order.retain(|source| pending.contains_key(source));
        }
        let Some(mut request) = self.remove(source) else {
            return;
        };
        let preflights: Vec<Option<Preflight>> = request
            .hops
            .iter()
            .map(|hop| {
                hop.preflight
                    .and_then(|source| self.remove(source))
                    .map(Preflight::of)
            })
            .collect();
        for (hop, preflight) in request.hops.iter_mut().zip(&preflights) {
            if let Some(preflight) = preflight.as_ref().filter(|_| hop.url.is_empty()) {
                preflight.url.clone_into(&mut hop.url);
            }
        }
        let Some(exchange) = self.exchange(&request, &preflights) else {
            return;
        };
        self.seen += 1;
        match blocked(&request, exchange, has_ended) {
            Some(blocked) => self.groups.add(blocked),
            None => {
                let error = request.net_error.filter(|_| !request.is_cancelled);
                if let Some(number) = error.filter(|number| *number != 0) {
                    let name = self.constants.net_error(number);
                    let name = name.map_or_else(|| number.to_string(), str::to_owned);
                    *self.failed.entry(name).or_default() += 1;
                }
            }
        }
    }

    /// The exchange of a cross-origin request in `cors` mode; `None` for other requests.
    fn exchange(&self, request: &Pending, preflights: &[Option<Preflight>]) -> Option<Exchange> {
        let first = request.hops.first()?;
        let sent = preflights
            .iter()
            .flatten()
            .find_map(|preflight| preflight.origin.clone());
        let origin = request
            .initiator
            .clone()
            .or(sent)
            .or_else(|| request.hops.iter().find_map(|hop| hop.origin.clone()))?;
        let origin = head::origin(&origin)?;
        let is_elsewhere = request
            .hops
            .iter()
            .any(|hop| is_cross_origin(&origin, &hop.url));
        let mode = request.hops.iter().find_map(|hop| hop.mode.as_deref());
        let has_preflight = preflights.iter().any(Option::is_some);
        // `Sec-Fetch-Mode` is sent to secure URLs only.
        let is_cors = match mode {
            Some(mode) => mode == "cors",
            None => has_preflight || request.hops.iter().any(|hop| hop.origin.is_some()),
        };
        if !is_elsewhere || !(is_cors || has_preflight || request.cors_error.is_some()) {
            return None;
        }
        let no_credentials = self.constants.no_credentials();
        let include = request
            .load_flags
            .is_some_and(|flags| flags & no_credentials == 0);
        let script = ScriptRequest {
            origin,
            url: first.url.clone(),
            method: request.method.clone(),
            headers: head::of_script(&request.headers, Recorded::InPage),
            credentials: if include {
                Credentials::Include
            } else {
                Credentials::SameOrigin
            },
            mode: Mode::Cors,
        };
        let mut answers: VecDeque<Answers> = request
            .hops
            .iter()
            .zip(preflights)
            .map(|(hop, preflight)| Answers {
                preflight: match preflight {
                    Some(preflight) => preflight.response.clone(),
                    // The answer of an earlier, cached preflight.
                    None => hop.response.is_some().then(|| passing(&script)),
                },
                response: hop.response.clone(),
            })
            .collect();
        Some(Exchange {
            answers: answers.pop_front().unwrap_or_default(),
            redirected: answers.into(),
            request: script,
        })
    }
}

/// Whether a browser blocks an exchange, and why.
fn blocked(request: &Pending, exchange: Exchange, has_ended: bool) -> Option<Blocked> {
    if let Some((number, parameter)) = &request.cors_error {
        return Some(by_record(*number, parameter, exchange));
    }
    let verdict = judge(&exchange);
    let failure = verdict.failure.as_ref()?;
    let error = verdict.error.clone()?;
    // Chrome cancels a request whose response it blocks; a request that continues is not blocked.
    let is_stopped = request.is_cancelled || !has_ended;
    if verdict.outcome != Outcome::Blocked || failure.step != Step::Response || !is_stopped {
        return None;
    }
    Some(Blocked {
        error: Some((error.name.to_owned(), error.parameter)),
        verdict: Some(verdict),
        exchange,
    })
}

/// Chrome's recorded error decides; a verdict with the same reason adds the messages.
fn by_record(number: i64, parameter: &str, mut exchange: Exchange) -> Blocked {
    let name = usize::try_from(number)
        .ok()
        .and_then(|number| CORS_ERRORS.get(number));
    let name = name.map_or_else(|| format!("CorsError {number}"), |name| (*name).to_owned());
    let agrees = |verdict: &Verdict| {
        let error = verdict.error.as_ref();
        error.is_some_and(|error| error.name == name && error.parameter == parameter)
    };
    let mut verdict = judge(&exchange);
    if !agrees(&verdict) {
        // A request that was never sent does not show its credentials.
        exchange.request.credentials = Credentials::Include;
        verdict = judge(&exchange);
        if !agrees(&verdict) {
            exchange.request.credentials = Credentials::SameOrigin;
        }
    }
    Blocked {
        verdict: agrees(&verdict).then_some(verdict),
        error: Some((name, parameter.to_owned())),
        exchange,
    }
}
