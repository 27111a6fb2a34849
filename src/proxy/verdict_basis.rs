//! What a browser will do with the response to a CORS request, as far as the request shows.
//!
//! If a policy decides, the verdict follows from the decision; on a transparent route, the
//! upstream's own CORS fields are judged. A server does not see the credentials mode, so a request
//! with a `Cookie` counts as one with credentials, any other as one without.

use std::ops::Range;

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::cors::fetch::{
    AnswerVerdict, AnsweredRequest, BlockedReason, RequestedPermission, applies_cors,
};
use crate::cors::{Allowance, Decision, Kind, Reason};
use crate::http1::fields::Field;

use super::received::ReceivedRequest;
use super::state::FoundRoute;

/// What the verdict on an exchange's response is based on.
#[derive(Clone, Debug, Default)]
pub(crate) enum VerdictBasis {
    /// The request is not subject to CORS.
    #[default]
    NotCors,
    /// A policy's decision.
    Decided(AnswerVerdict),
    /// The upstream's CORS fields.
    Upstream(UpstreamVerdict),
}

/// A request, for comparison with the upstream's CORS fields.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamVerdict {
    /// Where `Origin` is in the exchange's buffer.
    origin: Range<usize>,
    has_credentials: bool,
    is_preflight: bool,
}

impl VerdictBasis {
    /// The basis for a forwarded request; if `Origin` is needed, it is added to `head_buf`.
    pub(crate) fn of(
        request: &ReceivedRequest<'_, '_>,
        found: &FoundRoute<'_>,
        decided: Option<AnswerVerdict>,
        head_buf: &mut Vec<u8>,
    ) -> Self {
        if found.policy.is_some() {
            return decided.map_or(Self::NotCors, Self::Decided);
        }
        let Some(origin) = request.cors_origin() else {
            return Self::NotCors;
        };
        let start = head_buf.len();
        head_buf.extend_from_slice(origin);
        Self::Upstream(UpstreamVerdict {
            origin: start..head_buf.len(),
            has_credentials: request.head.has_cookie,
            is_preflight: request.is_preflight(),
        })
    }
}

/// The verdict on the response to a request that a policy decided.
pub(crate) fn decided(
    request: &ReceivedRequest<'_, '_>,
    kind: Kind,
    outcome: Result<AnyOrigin, Reason>,
) -> Option<AnswerVerdict> {
    request.cors_origin()?;
    Some(match (kind, outcome) {
        (Kind::Preflight, Ok(_)) => AnswerVerdict::Passed,
        (Kind::Actual, Ok(AnyOrigin(true))) if request.head.has_cookie => {
            AnswerVerdict::Blocked(BlockedReason::WildcardOriginNotAllowed)
        }
        (Kind::Actual, Ok(_)) => AnswerVerdict::Readable,
        (kind, Err(_)) => without_cors_fields(kind == Kind::Preflight),
    })
}

/// Like [`decided`], for a decision on a header map.
pub(crate) fn of_decision(
    request: &ReceivedRequest<'_, '_>,
    decision: &Decision<'_>,
) -> Option<AnswerVerdict> {
    let (kind, outcome) = decision.outcome()?;
    let is_any = decision.allowance().is_some_and(Allowance::is_any_origin);
    decided(request, kind, outcome.map(|()| AnyOrigin(is_any)))
}

/// Whether `Access-Control-Allow-Origin` is `*`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnyOrigin(pub(crate) bool);

/// The verdict on a response without CORS fields.
pub(crate) fn without_cors_fields(is_preflight: bool) -> AnswerVerdict {
    AnswerVerdict::Blocked(match is_preflight {
        true => BlockedReason::PreflightMissingAllowOriginHeader,
        false => BlockedReason::MissingAllowOriginHeader,
    })
}

impl ReceivedRequest<'_, '_> {
    /// The origin of a request that browsers apply CORS to.
    pub(crate) fn cors_origin(&self) -> Option<&[u8]> {
        let head = self.head;
        let Field::One(origin) = head.origin else {
            return None;
        };
        let applies = !origin.is_empty()
            && applies_cors(origin, self.authority, head.fetch_mode, head.fetch_site);
        applies.then_some(origin)
    }

    /// What a preflight asks for; `None`: it is not a preflight.
    pub(crate) fn requested_permission(&self) -> Option<RequestedPermission<'_>> {
        let field = |name: HeaderName| self.head.field(name.as_str());
        self.is_preflight().then(|| RequestedPermission {
            method: field(ACCESS_CONTROL_REQUEST_METHOD).unwrap_or_default(),
            headers: field(ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default(),
        })
    }

    pub(crate) fn is_preflight(&self) -> bool {
        self.method == Method::OPTIONS && self.head.requested_method != Field::Absent
    }
}

impl UpstreamVerdict {
    /// The verdict on a response without CORS fields.
    pub(crate) fn without_cors_fields(&self) -> AnswerVerdict {
        without_cors_fields(self.is_preflight)
    }

    /// The verdict on the upstream's response; `sent` is the head that was sent to it.
    pub(crate) fn judge<'f, I>(
        &self,
        sent: &[u8],
        head_buf: &[u8],
        status: StatusCode,
        fields: impl Fn() -> I,
    ) -> Option<AnswerVerdict>
    where
        I: Iterator<Item = (&'f str, &'f [u8])>,
    {
        let line = |name| line(sent, name).unwrap_or_default();
        let request = AnsweredRequest {
            origin: head_buf.get(self.origin.clone()).unwrap_or_default(),
            has_credentials: self.has_credentials,
            preflight: self.is_preflight.then(|| RequestedPermission {
                method: line(&ACCESS_CONTROL_REQUEST_METHOD),
                headers: line(&ACCESS_CONTROL_REQUEST_HEADERS),
            }),
        };
        request.judge(status, fields)
    }
}

/// The value of a field's first line in a head.
fn line<'h>(head: &'h [u8], name: &HeaderName) -> Option<&'h [u8]> {
    head.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
        let (start, value) = line.split_at_checked(name.as_str().len())?;
        let value = value.strip_prefix(b":")?;
        let is_it = start.eq_ignore_ascii_case(name.as_str().as_bytes());
        is_it.then(|| value.trim_ascii())
    })
}

/// The method and headers that a preflight asks for; `None`: the request is not a preflight.
pub(crate) fn requested_permission(
    method: &Method,
    fields: &HeaderMap,
) -> Option<(HeaderValue, Option<HeaderValue>)> {
    let asked = fields.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let headers = fields.get(ACCESS_CONTROL_REQUEST_HEADERS);
    (method == Method::OPTIONS).then(|| (asked.clone(), headers.cloned()))
}
