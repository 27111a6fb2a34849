//! Sends the requests that a browser would send: preflights, the request, and those after
//! redirects.

use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, ORIGIN,
};
use http::{HeaderName, HeaderValue, Method};

use crate::cors::fetch::{
    Answers, Exchange, Hop, Response, ScriptRequest, Verdict, is_cross_origin, judge,
};

use super::client::{Answer, Client, NoAnswer, Sent, browser_fields};

/// A request that was sent, and its answer.
pub(super) struct Step {
    pub(super) kind: StepKind,
    pub(super) sent: Sent,
    pub(super) answer: Result<Answer, NoAnswer>,
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepKind {
    Preflight,
    Request,
    /// A request that no browser sends: it finds what the others do not show.
    Check,
}

impl StepKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Request => "request",
            Self::Check => "check",
        }
    }
}

/// An exchange with a server, as a browser would have it.
pub(super) struct ProbeExchange {
    pub(super) steps: Vec<Step>,
    pub(super) exchange: Exchange,
    pub(super) verdict: Verdict,
    /// The request itself was not sent, because it might change something.
    pub(super) is_unsent: bool,
    /// The last requested URL, and the request that a browser sends there.
    pub(super) last: Option<Hop>,
}

impl ProbeExchange {
    /// The answer to the request, after redirects.
    pub(super) fn response(&self) -> Option<&Answer> {
        let last = self
            .steps
            .iter()
            .rfind(|step| step.kind == StepKind::Request)?;
        last.answer.as_ref().ok()
    }

    /// The last preflight and its answer.
    pub(super) fn preflight(&self) -> Option<&Answer> {
        let last = self
            .steps
            .iter()
            .rfind(|step| step.kind == StepKind::Preflight)?;
        last.answer.as_ref().ok()
    }

    pub(super) fn answers(&self) -> impl Iterator<Item = (&Step, &Answer)> {
        self.steps
            .iter()
            .filter_map(|step| Some((step, step.answer.as_ref().ok()?)))
    }
}

/// Sends what a browser would send. `may_send`: methods other than GET and HEAD too.
pub(super) async fn conduct(
    client: &mut Client,
    request: ScriptRequest,
    may_send: bool,
) -> ProbeExchange {
    let mut exchange = Exchange {
        request,
        answers: Answers::default(),
        redirected: Vec::new(),
    };
    let (mut steps, mut is_unsent, mut last) = (Vec::new(), false, None);
    let mut answered = 0;
    while let Some(hop) = exchange.hop(answered) {
        let page = exchange.request.origin.clone();
        last = Some(hop.clone());
        let mut answers = Answers::default();
        if let Some(names) = &hop.preflight {
            let step = ask(client, StepKind::Preflight, preflight(&page, &hop, names)).await;
            answers.preflight = response(&step);
            steps.push(step);
        }
        put(&mut exchange, answered, answers.clone());
        if hop.preflight.is_some() && !exchange.passes_preflight(answered) {
            break;
        }
        if !may_send && !matches!(&*hop.method, "GET" | "HEAD") {
            is_unsent = true;
            break;
        }
        let Some(sent) = actual(&page, &hop) else {
            break;
        };
        let step = ask(client, StepKind::Request, sent).await;
        answers.response = response(&step);
        let is_answered = answers.response.is_some();
        steps.push(step);
        put(&mut exchange, answered, answers);
        if !is_answered {
            break;
        }
        answered += 1;
    }
    let verdict = judge(&exchange);
    ProbeExchange {
        steps,
        verdict,
        exchange,
        is_unsent,
        last,
    }
}

pub(super) async fn ask(client: &mut Client, kind: StepKind, sent: Sent) -> Step {
    let answer = client.send(&sent).await;
    Step { kind, sent, answer }
}

fn put(exchange: &mut Exchange, hop: usize, answers: Answers) {
    match hop.checked_sub(1) {
        None => exchange.answers = answers,
        Some(index) => match exchange.redirected.get_mut(index) {
            Some(place) => *place = answers,
            None => exchange.redirected.push(answers),
        },
    }
}

fn response(step: &Step) -> Option<Response> {
    let answer = step.answer.as_ref().ok()?;
    Some(Response {
        status: answer.status,
        headers: answer.fields.clone(),
    })
}

/// The fields of a request from a page to a URL.
fn fields(page: &str, url: &str, origin: Option<&str>) -> HeaderMap {
    let mut fields = browser_fields(page);
    let site = if is_cross_origin(page, url) {
        "cross-site"
    } else {
        "same-origin"
    };
    fields.insert(
        HeaderName::from_static("sec-fetch-site"),
        HeaderValue::from_static(site),
    );
    if let Some(origin) = origin.and_then(|origin| HeaderValue::from_str(origin).ok()) {
        fields.insert(ORIGIN, origin);
    }
    fields
}

fn preflight(page: &str, hop: &Hop, names: &[String]) -> Sent {
    let mut fields = fields(page, &hop.url, hop.origin.as_deref());
    if let Ok(method) = HeaderValue::from_str(&hop.method) {
        fields.insert(ACCESS_CONTROL_REQUEST_METHOD, method);
    }
    if let (false, Ok(names)) = (names.is_empty(), HeaderValue::from_str(&names.join(","))) {
        fields.insert(ACCESS_CONTROL_REQUEST_HEADERS, names);
    }
    Sent {
        url: hop.url.clone(),
        method: Method::OPTIONS,
        fields,
    }
}

fn actual(page: &str, hop: &Hop) -> Option<Sent> {
    let mut fields = fields(page, &hop.url, hop.origin.as_deref());
    for (name, value) in &hop.headers {
        fields.insert(name.clone(), value.clone());
    }
    Some(Sent {
        url: hop.url.clone(),
        method: Method::from_bytes(hop.method.as_bytes()).ok()?,
        fields,
    })
}

/// A GET from a page of `origin` that needs no preflight; without an origin: like a link or an
/// image.
pub(super) fn reading(url: &str, method: Method, page: &str, origin: Option<&str>) -> Sent {
    Sent {
        url: url.to_owned(),
        method,
        fields: fields(page, url, origin),
    }
}
