//! Answers HTTP/1.1 requests that are not forwarded.

use http::Method;

use crate::cors::fetch::AnswerVerdict;
use crate::cors::{Decision, Kind, Reason};
use crate::http1::client_head::{ends, write_line};
use crate::routing::snapshot::RoutePolicy;
use crate::telemetry::live::LiveNote;

use super::access_note::Answered;
use super::action::Action;
use super::exchange::Marks;
use super::received::ReceivedRequest;
use super::request_id::REQUEST_ID;
use super::response_body::Body;
use super::state::FoundRoute;
use super::{Proxy, own_response, verdict_basis};

impl Proxy {
    /// Answers an OPTIONS request for the proxy itself.
    pub(super) fn answer_own_options(
        &self,
        request: &ReceivedRequest<'_, '_>,
        found: &FoundRoute<'_>,
        marking: Marking,
        out: &mut Vec<u8>,
    ) -> Action {
        self.answer_own(request, found, marking, own_response::own_options(), out)
    }

    /// Writes one of the proxy's own responses, and counts and logs it.
    pub(super) fn answer_own(
        &self,
        request: &ReceivedRequest<'_, '_>,
        found: &FoundRoute<'_>,
        marking: Marking,
        response: http::Response<Body>,
        out: &mut Vec<u8>,
    ) -> Action {
        let close = request.closes_unread();
        let verdict = self.judge_own_answer(request, found, &marking);
        let mut lines = marking.head_buf;
        if let Some(names) = marking.marks.and_then(|marks| marks.vary) {
            write_line(b"vary", names.as_bytes(), &mut lines);
        }
        lines.extend_from_slice(ends(close, request.head.is_http10));
        let status = response.status();
        let id = response.headers().get(REQUEST_ID).cloned();
        let (start, to_head) = (request.start, request.method == Method::HEAD);
        let bytes = own_response::write(response, &lines, to_head, &self.date, start, out);
        self.buffers.give_back(lines);
        let asked = (&request.method, start);
        self.count_own_answer(&found.route.metrics, asked, status, bytes);
        let answered = Answered {
            status,
            decision: marking.decision,
            verdict,
            live: marking.live.as_deref(),
            request_id: id
                .as_ref()
                .and_then(|id| id.to_str().ok())
                .unwrap_or_default(),
            bytes,
        };
        self.log_own_answer(request, found.route, &answered);
        Action::Answered {
            consumed: request.head.bytes.len(),
            close,
        }
    }

    /// Answers a preflight with missing or repeated CORS fields.
    pub(super) fn answer_unusual_preflight(
        &self,
        request: &ReceivedRequest<'_, '_>,
        found: &FoundRoute<'_>,
        policy: &RoutePolicy,
        decision: Decision<'_>,
        out: &mut Vec<u8>,
    ) -> Action {
        let decided = decision.outcome();
        let verdict = verdict_basis::of_decision(request, &decision);
        let (mut notes, mut live) = (None, None);
        let mut response = match &decision {
            Decision::Preflight(Err(denial)) => {
                let id = self.ids.next();
                let denied = request.denied_request(Kind::Preflight);
                notes = Some(self.count_denied(found, policy, denial, denied, id.as_str()));
                own_response::denial(denial, found.resource, id)
            }
            decision => {
                if let Some(allowance) = decision.allowance() {
                    self.count_allowed(found, policy, Kind::Preflight, allowance.pattern());
                    live =
                        self.note_allowed(found, policy, allowance.pattern(), || request.named());
                }
                own_response::preflight()
            }
        };
        policy.policy.mark(decision, response.headers_mut());
        if let Some(notes) = &mut notes {
            notes.insert_into(response.headers_mut());
            live = notes.live.take();
        }
        // S3 closes the connection after some denials. One line states it for all reasons.
        let ends = response
            .headers_mut()
            .remove(http::header::CONNECTION)
            .is_some();
        let request = &ReceivedRequest {
            closes: request.closes || ends,
            target: request.target.clone(),
            method: request.method.clone(),
            ..*request
        };
        let marking = Marking {
            decision: decided,
            verdict,
            live,
            ..Marking::default()
        };
        self.answer_own(request, found, marking, response, out)
    }
}

/// What the policy sets on a response.
#[derive(Default)]
pub(crate) struct Marking {
    /// `None`: the upstream decides about CORS.
    pub(crate) marks: Option<Marks>,
    /// The CORS fields that grant access, as lines.
    pub(crate) head_buf: Vec<u8>,
    pub(crate) decision: Option<(Kind, Result<(), Reason>)>,
    /// What browsers will do with it.
    pub(crate) verdict: Option<AnswerVerdict>,
    /// What the console shows about the decision.
    pub(crate) live: Option<Box<LiveNote>>,
}
