//! What a browser sends at each URL, for a client that queries a live server instead.

use http::{HeaderName, HeaderValue};

use super::engine::Engine;
use super::exchange::{Answers, Exchange, Mode};
use super::failure::Step;
use super::request_headers::is_safelisted_method;
use super::verdict::{start, step};

/// What a browser sends at one URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The URL: the request's own, or where a redirect leads.
    pub url: String,
    /// The value of `Origin`; `None`: the field is not sent.
    pub origin: Option<String>,
    /// The method, as it is sent.
    pub method: String,
    /// The fields that the script sets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The names that a preflight asks for, sorted; `None`: no engine sends a preflight.
    pub preflight: Option<Vec<String>>,
}

impl Exchange {
    /// What a browser sends after the responses of `answered` URLs; `None`: nothing more.
    ///
    /// Engines differ in a few cases. If any engine sends a preflight or follows a redirect, this
    /// does so too, so that [`judge`](super::judge) has enough data for all engines.
    #[must_use]
    pub fn hop(&self, answered: usize) -> Option<Hop> {
        let hops = Engine::ALL.map(|engine| self.hop_of(engine, answered));
        let mut hops = hops.into_iter().flatten();
        let mut hop = hops.next()?;
        if hop.preflight.is_none() {
            hop.preflight = hops.find_map(|other| other.preflight);
        }
        Some(hop)
    }

    /// Whether a browser sends the request to the URL after `answered` others, given the response
    /// to the preflight.
    #[must_use]
    pub fn passes_preflight(&self, answered: usize) -> bool {
        Engine::ALL.into_iter().any(|engine| {
            let Some(mut course) = self.course_of(engine, answered) else {
                return false;
            };
            let answers = Answers {
                preflight: self.at(answered).and_then(|here| here.preflight.clone()),
                response: None,
            };
            let stopped = step(Some(engine), self, &answers, &mut course);
            matches!(stopped, Err((Step::Response, _)))
        })
    }

    fn at(&self, hop: usize) -> Option<&Answers> {
        match hop.checked_sub(1) {
            None => Some(&self.answers),
            Some(index) => self.redirected.get(index),
        }
    }

    /// The state of a request after `answered` URLs; `None`: it has ended.
    fn course_of(&self, engine: Engine, answered: usize) -> Option<super::course::Course> {
        let mut course = start(&self.request);
        if course.failure.is_some() {
            return None;
        }
        for hop in 0..answered {
            let follows = step(Some(engine), self, self.at(hop)?, &mut course);
            if !matches!(follows, Ok(true)) {
                return None;
            }
        }
        Some(course)
    }

    fn hop_of(&self, engine: Engine, answered: usize) -> Option<Hop> {
        let course = self.course_of(engine, answered)?;
        let request = &course.request;
        let is_cross_origin = request.has_been_cross_origin
            || super::url::is_cross_origin(&request.page, &request.url);
        let is_cors = is_cross_origin && request.mode == Mode::Cors;
        let names = request.headers.unsafe_names(Some(engine));
        let needs_preflight = course.preflight_sent && engine != Engine::Chromium
            || !is_safelisted_method(&request.method)
            || !names.is_empty();
        let headers = request.headers.fields().filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
        });
        // «Append a request `Origin` header» (https://fetch.spec.whatwg.org/#append-a-request-origin-header).
        let is_sent = is_cors || !matches!(&*request.method, "GET" | "HEAD");
        Some(Hop {
            url: request.url.clone(),
            origin: is_sent.then(|| request.origin().to_owned()),
            method: request.method.clone(),
            headers: headers.collect(),
            preflight: (is_cors && needs_preflight)
                .then(|| names.into_iter().map(str::to_owned).collect()),
        })
    }
}
