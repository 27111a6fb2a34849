//! What a browser does with an exchange: the steps of Fetch, and the verdict.

use http::StatusCode;

use super::cors_check::cors_check;
use super::course::{Course, Outcome};
use super::engine::Engine;
use super::exchange::{Answers, Exchange, Mode, Response, ScriptRequest};
use super::exposed::{basic, exposed};
use super::failure::{CorsError, Failure, Reason, Step};
use super::max_age::preflight_cache_seconds;
use super::preflight::PreflightRequest;
use super::redirect::RedirectedRequest;
use super::request_headers::{
    SentHeaders, is_forbidden_method, is_safelisted_method, normalized_method,
};
use super::url::{is_address, is_cross_origin, is_trustworthy};
use super::{chromium, chromium_order, firefox, webkit};

/// What browsers do with an exchange.
///
/// The verdict follows the standard, unless all three engines agree on something else: then it
/// follows the engines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the browser sends a preflight.
    pub preflight_sent: bool,
    /// What the script gets.
    pub outcome: Outcome,
    /// Why it is blocked.
    pub failure: Option<Failure>,
    /// The reason with Chrome's name; `None`: it is not about CORS.
    pub error: Option<CorsError>,
    /// The fields that the script may read, lower case, sorted.
    pub readable_headers: Vec<String>,
    /// For how many seconds each engine sends no preflight for the same request again, after its
    /// preflights passed. After redirects, the cached response that expires first decides.
    pub cache_seconds: Vec<(Engine, u64)>,
    /// What each engine prints to its console, if anything.
    pub messages: Vec<(Engine, String)>,
    /// The engines that differ, and how.
    pub differs: Vec<(Engine, Difference)>,
    /// The standard's result, if no engine follows it.
    pub standard: Option<Difference>,
}

/// An outcome other than the verdict's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What the script gets.
    pub outcome: Outcome,
    /// Whether a preflight is sent.
    pub preflight_sent: bool,
    /// Why it is blocked, with Chrome's name.
    pub error: Option<CorsError>,
}

/// Judges an exchange: what a script gets in each browser.
#[must_use]
pub fn judge(exchange: &Exchange) -> Verdict {
    let standard = course(None, exchange);
    let engines = Engine::ALL.map(|engine| (engine, course(Some(engine), exchange)));
    let [(_, first), rest @ ..] = &engines;
    let agreed = rest
        .iter()
        .all(|(_, other)| other.result() == first.result());
    let base = if agreed { first } else { &standard };
    // Chrome's own reason, if it blocks too, because it may check in another order.
    let reason = if base.outcome == first.outcome {
        first
    } else {
        base
    };
    let differs = engines
        .iter()
        .filter(|(_, course)| course.result() != base.result())
        .map(|(engine, course)| (*engine, course.difference()));
    let messages = engines.iter().filter_map(|(engine, course)| {
        let failure = course.failure.as_ref()?;
        let message = match engine {
            Engine::Chromium => chromium::message(exchange, course, &course.error()?),
            Engine::Firefox => firefox::message(course, failure),
            Engine::Webkit => webkit::message(course, failure),
        };
        Some((*engine, message?))
    });
    let passed = engines
        .iter()
        .filter(|(_, course)| course.has_passed_preflight());
    let cache_seconds =
        passed.filter_map(|(engine, course)| Some((*engine, course.cache_seconds?)));
    Verdict {
        cache_seconds: cache_seconds.collect(),
        preflight_sent: base.preflight_sent,
        outcome: base.outcome,
        failure: reason.failure.clone(),
        error: reason.error(),
        readable_headers: base.readable.clone(),
        messages: messages.collect(),
        differs: differs.collect(),
        standard: (standard.result() != base.result()).then(|| standard.difference()),
    }
}

impl Course {
    fn has_passed_preflight(&self) -> bool {
        let failed = self
            .failure
            .as_ref()
            .is_some_and(|failure| failure.step == Step::Preflight);
        self.preflight_sent && !failed
    }

    pub(crate) fn error(&self) -> Option<CorsError> {
        let failure = self
            .failure
            .as_ref()
            .filter(|_| self.request.mode == Mode::Cors);
        failure.and_then(chromium::cors_error)
    }

    pub(crate) fn difference(&self) -> Difference {
        Difference {
            outcome: self.outcome,
            preflight_sent: self.preflight_sent,
            error: self.error(),
        }
    }
}

/// Whether an engine's network layer drops a response before its fields are checked. Chromium
/// treats a 407 from a server that is not a proxy as a failed connection
/// (`ERR_UNEXPECTED_PROXY_AUTH`).
fn is_lost(engine: Option<Engine>, answer: Option<&Response>) -> bool {
    let is_unexpected =
        |answer: &Response| answer.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
    engine == Some(Engine::Chromium) && answer.is_some_and(is_unexpected)
}

/// How long an engine caches the response to a preflight.
fn cache_seconds(engine: Engine, request: &RedirectedRequest, answer: &Response) -> u64 {
    let is_cached = match engine {
        // Not for servers that are addressed by IP.
        Engine::Firefox => !is_address(&request.url),
        // Not for `Origin: null`, which a redirect to a third origin causes.
        Engine::Chromium | Engine::Webkit => !request.is_tainted,
    };
    if is_cached {
        preflight_cache_seconds(engine, &answer.headers)
    } else {
        0
    }
}

/// The course of an exchange in an engine, or by the standard.
fn course(engine: Option<Engine>, exchange: &Exchange) -> Course {
    let mut course = start(&exchange.request);
    if course.failure.is_some() {
        return course;
    }
    let nothing = Answers::default();
    let mut answers = [&exchange.answers].into_iter().chain(&exchange.redirected);
    loop {
        let here = answers.next().unwrap_or(&nothing);
        match step(engine, exchange, here, &mut course) {
            Ok(true) => {}
            Ok(false) => return course,
            Err((at, reason)) => return course.blocked(at, reason),
        }
    }
}

/// The request that leaves the script; blocked if scripts cannot make it.
pub(super) fn start(script: &ScriptRequest) -> Course {
    let course = Course {
        preflight_sent: false,
        cache_seconds: None,
        outcome: Outcome::Readable,
        readable: Vec::new(),
        failure: None,
        request: RedirectedRequest {
            page: script.origin.clone(),
            mode: script.mode,
            url: script.url.clone(),
            method: normalized_method(&script.method),
            headers: SentHeaders::of(script),
            has_been_cross_origin: false,
            is_tainted: false,
            redirects: 0,
            leads_to: None,
        },
    };
    // The constructor of `Request`, steps 25 and 31.
    if is_forbidden_method(&script.method) {
        return course.blocked(Step::Request, Reason::ForbiddenMethod);
    }
    if script.mode == Mode::NoCors && !is_safelisted_method(&course.request.method) {
        return course.blocked(Step::Request, Reason::NoCorsMethod);
    }
    course
}

/// One URL: preflight, request, check ([«main
/// fetch»](https://fetch.spec.whatwg.org/#concept-main-fetch), step 12, and [«HTTP
/// fetch»](https://fetch.spec.whatwg.org/#concept-http-fetch)). Returns whether a redirect must be
/// followed.
pub(super) fn step(
    engine: Option<Engine>,
    exchange: &Exchange,
    answers: &Answers,
    course: &mut Course,
) -> Result<bool, (Step, Reason)> {
    let credentials = exchange.request.credentials;
    let request = &mut course.request;
    request.has_been_cross_origin |= is_cross_origin(&request.page, &request.url);
    let is_cors = request.has_been_cross_origin && request.mode == Mode::Cors;
    if is_cors {
        let asked = request.headers.unsafe_names(engine);
        // After a redirect, Firefox and WebKit still send a preflight although the method may have
        // become GET.
        let goes_on = matches!(engine, Some(Engine::Firefox | Engine::Webkit));
        let has_asked = goes_on && course.preflight_sent;
        if has_asked || !is_safelisted_method(&request.method) || !asked.is_empty() {
            course.preflight_sent = true;
            let headers = match engine {
                Some(Engine::Webkit) => {
                    webkit::in_order(request.headers.names().filter(|name| asked.contains(name)))
                }
                Some(Engine::Chromium) => chromium_order::in_order(
                    request.headers.names(),
                    &asked,
                    is_trustworthy(&request.url),
                ),
                Some(Engine::Firefox) | None => asked,
            };
            // Firefox does not taint the origin of a preflight.
            let asked = PreflightRequest {
                origin: if engine == Some(Engine::Firefox) {
                    &request.page
                } else {
                    request.origin()
                },
                credentials,
                method: &request.method,
                headers,
            };
            if is_lost(engine, answers.preflight.as_ref()) {
                return Err((Step::Preflight, Reason::NoAnswer));
            }
            asked
                .check(engine, answers.preflight.as_ref())
                .map_err(|reason| (Step::Preflight, reason))?;
            if let Some((engine, answer)) = engine.zip(answers.preflight.as_ref()) {
                let seconds = cache_seconds(engine, request, answer);
                let earlier = course.cache_seconds.unwrap_or(u64::MAX);
                course.cache_seconds = Some(earlier.min(seconds));
            }
        }
    }
    let failed = |reason| (Step::Response, reason);
    let response = answers.response.as_ref();
    let response = response
        .filter(|_| !is_lost(engine, response))
        .ok_or(failed(Reason::NoAnswer))?;
    let location = request.location(response);
    request.leads_to = location.as_ref().map(|location| location.url.clone());
    if let Some(location) = &location {
        // If the network layer refuses to follow, the redirect is not checked.
        let refuses = match engine {
            Some(Engine::Chromium) => !location.is_valid,
            Some(Engine::Firefox) => !location.is_valid || location.url.starts_with("data:"),
            Some(Engine::Webkit) => location.url.starts_with("ftp:"),
            None => false,
        };
        if let Some(reason) = location.refusal().filter(|_| refuses) {
            return Err(failed(reason));
        }
    }
    if is_cors {
        cors_check(response, request.origin(), credentials).map_err(failed)?;
    }
    if let Some(location) = location {
        request.follow(engine, location, response).map_err(failed)?;
        return Ok(true);
    }
    (course.outcome, course.readable) = match (request.has_been_cross_origin, request.mode) {
        (false, _) => (Outcome::Readable, basic(&response.headers)),
        (true, Mode::NoCors) => (Outcome::Opaque, Vec::new()),
        (true, Mode::Cors) => (Outcome::Readable, exposed(&response.headers, credentials)),
    };
    Ok(false)
}
