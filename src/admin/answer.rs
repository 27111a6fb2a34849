//! The admin listener's responses, with the fields that keep browsers from doing more than
//! showing them.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{Either, Full};

use crate::text::timestamp::Timestamp;

use super::live::LiveBody;

pub(super) type AdminAnswer = Response<AdminBody>;

/// The body of an answer.
pub(super) type AdminBody = Either<Full<Bytes>, LiveBody>;

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const SCRIPT: &str = "text/javascript; charset=utf-8";
pub(crate) const STYLE: &str = "text/css; charset=utf-8";

/// The page may load its own script and style and send requests to this listener; nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A response with `body` and the fields that every response has.
pub(super) fn with(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> AdminAnswer {
    with_body(status, media_type, Either::Left(Full::new(body.into())))
}

/// The same for any kind of body.
pub(super) fn with_body(
    status: StatusCode,
    media_type: &'static str,
    body: AdminBody,
) -> AdminAnswer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    protect(&mut answer, media_type, HeaderValue::from_static(POLICY));
    answer
}

/// Sets the media type, and the fields that limit what a browser does with the response. `policy` says
/// what a page may load and ask.
pub(crate) fn protect<B>(answer: &mut Response<B>, media_type: &'static str, policy: HeaderValue) {
    let fields = [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        // No page of another site may load it either, as an image or a script.
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fields {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
}

/// A status and a line for people.
pub(super) fn text(status: StatusCode, line: &str) -> AdminAnswer {
    with(status, TEXT, format!("{line}\n"))
}

/// A JSON document.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> AdminAnswer {
    with(status, JSON, format!("{value:#}\n"))
}

/// Redirects to the page.
pub(super) fn see(path: &'static str) -> AdminAnswer {
    let mut answer = text(StatusCode::SEE_OTHER, path);
    answer
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_static(path));
    answer
}

/// Rejects a method: this listener only reads.
pub(super) fn method_not_allowed() -> AdminAnswer {
    let mut answer = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "this listener is read-only; use GET or HEAD",
    );
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

/// The maximum number of listed routes, buckets of a route, and problems; the totals are always
/// shown.
pub(crate) const MAX_LISTED: usize = 1000;

pub(crate) fn time(time: SystemTime) -> String {
    Timestamp::new(time).to_string()
}
