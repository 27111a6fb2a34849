//! Answers a preflight directly from its bytes; it is never forwarded.

use http::StatusCode;

use crate::cors::{AllowedFields, Denial, Kind, ResourceType, S3Error, VARY};
use crate::http1::client_head::ends;
use crate::routing::snapshot::RoutePolicy;

use super::Proxy;
use super::access_note::Answered;
use super::action::Action;
use super::received::ReceivedRequest;
use super::request_id::{RequestId, host_id};
use super::state::FoundRoute;
use super::verdict_basis;
use super::verdict_basis::AnyOrigin;

impl Proxy {
    /// Answers a preflight in the form that browsers send, by appending to `out`.
    pub(crate) fn answer_preflight(
        &self,
        request: &ReceivedRequest<'_, '_>,
        found: &FoundRoute<'_>,
        policy: &RoutePolicy,
        decision: &Result<AllowedFields<'_>, Denial>,
        out: &mut Vec<u8>,
    ) -> Action {
        let vary = policy.policy.vary(Kind::Preflight, decision.is_ok());
        let (start, is_http10) = (request.start, request.head.is_http10);
        let close = request.closes_unread();
        let mut id = None;
        let live;
        let (status, close, bytes) = match decision {
            Ok(fields) => {
                self.count_allowed(found, policy, Kind::Preflight, fields.pattern());
                live = self.note_allowed(found, policy, fields.pattern(), || request.named());
                out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n");
                fields.write(out);
                write_end(ends(close, is_http10), vary.is_some(), out);
                self.date.write(start, out);
                (StatusCode::OK, close, 0)
            }
            Err(denial) => {
                let id = *id.insert(self.ids.next());
                let denied = request.denied_request(Kind::Preflight);
                let notes = self.count_denied(found, policy, denial, denied, id.as_str());
                // S3 does so, too.
                let close = close || denial.status() == StatusCode::BAD_REQUEST;
                let body = write_denial(denial, found.resource, id, out);
                notes.write(out);
                live = notes.live;
                write_end(ends(close, is_http10), vary.is_some(), out);
                self.date.write(start, out);
                out.extend_from_slice(body.as_bytes());
                (denial.status(), close, body.len())
            }
        };
        let asked = (&request.method, start);
        self.count_own_answer(&found.route.metrics, asked, status, bytes);
        let outcome = decision.as_ref().map(|_| ()).map_err(Denial::reason);
        let any_origin = |()| AnyOrigin(decision.as_ref().is_ok_and(AllowedFields::is_any_origin));
        let verdict = verdict_basis::decided(request, Kind::Preflight, outcome.map(any_origin));
        self.count_verdict(&found.route.metrics, verdict);
        let answered = Answered {
            status,
            decision: Some((Kind::Preflight, outcome)),
            verdict,
            live: live.as_deref(),
            request_id: id.as_ref().map_or("", RequestId::as_str),
            bytes,
        };
        self.log_own_answer(request, found.route, &answered);
        Action::Answered {
            consumed: request.head.bytes.len(),
            close,
        }
    }
}

/// Writes the last fields before `Date`.
fn write_end(ends: &[u8], vary: bool, out: &mut Vec<u8>) {
    if vary {
        for part in ["vary: ", VARY, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(ends);
}

/// Writes the head of a refusal without its last fields, and returns its body.
fn write_denial(
    denial: &Denial,
    resource: ResourceType,
    id: RequestId,
    out: &mut Vec<u8>,
) -> String {
    let host_id = host_id(id);
    let body = S3Error::of(denial, resource).to_xml(id.as_str(), &host_id);
    out.extend_from_slice(match denial.status() {
        StatusCode::BAD_REQUEST => b"HTTP/1.1 400 Bad Request\r\n",
        _ => b"HTTP/1.1 403 Forbidden\r\n".as_slice(),
    });
    let length = body.len().to_string();
    let fields = [
        ("content-type", "application/xml"),
        ("x-amz-request-id", id.as_str()),
        ("x-amz-id-2", &host_id),
        ("content-length", &length),
    ];
    for (name, value) in fields {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    body
}
