//! Further remarks about a decision.

use std::fmt;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, Method};

use super::options::Semantics;
use super::origin::as_browsers_write;
use super::origin_form::is_plain_http;
use super::outcome::Outcome;
use super::policy::Policy;
use super::request::Kind;
use super::rule::Rule;

/// A remark about a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Note {
    /// The response allows any origin with `*`.
    NoCredentials,
    /// The origin is `null`.
    NullOrigin,
    /// A page over plain HTTP gets credentials.
    PlainHttp,
    /// Allows uploads, but does not expose `ETag`.
    ETagNotExposed,
    /// No `MaxAgeSeconds`.
    NoMaxAge,
    /// The origin is not in the form that browsers send.
    OriginNotAsSent,
    /// An actual request has `Access-Control-Request-Method`.
    JudgedByRequestMethod,
    /// `OPTIONS`, but not a preflight.
    NoPreflight,
    /// The request is forwarded to the upstream although it is refused.
    ForwardedAllTheSame,
}

impl Note {
    /// A stable name.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NoCredentials => "no-credentials",
            Self::NullOrigin => "null-origin",
            Self::PlainHttp => "plain-http",
            Self::ETagNotExposed => "etag-not-exposed",
            Self::NoMaxAge => "no-max-age",
            Self::OriginNotAsSent => "origin-not-as-sent",
            Self::JudgedByRequestMethod => "judged-by-request-method",
            Self::NoPreflight => "no-preflight",
            Self::ForwardedAllTheSame => "forwarded-all-the-same",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCredentials => {
                "the response allows any origin with `*`: browsers hide it from scripts that use credentials \
                 (cookies, HTTP authentication)"
            }
            Self::NullOrigin => {
                "`null` is the origin of sandboxed frames and of data: and file: URLs: any site can \
                 create such a page"
            }
            Self::PlainHttp => {
                "the origin uses plain HTTP: anyone who controls the network can act as it, with \
                 credentials"
            }
            Self::ETagNotExposed => {
                "ETag is not in ExposeHeader: scripts that upload in parts cannot read it"
            }
            Self::NoMaxAge => {
                "the rule has no MaxAgeSeconds: browsers cache this response for only 5 seconds"
            }
            Self::OriginNotAsSent => {
                "browsers do not send an origin like this: they send scheme, host and port in lower case, \
                 and nothing after them"
            }
            Self::JudgedByRequestMethod => {
                "the request has Access-Control-Request-Method, so S3 checks that method"
            }
            Self::NoPreflight => {
                "OPTIONS without Access-Control-Request-Method is not a preflight: it is forwarded"
            }
            Self::ForwardedAllTheSame => {
                "the request is still forwarded; only the script cannot read the \
                 response"
            }
        })
    }
}

impl Policy {
    /// The remarks about the `outcome` of a request.
    pub(super) fn notes(
        &self,
        kind: Option<Kind>,
        outcome: &Outcome,
        method: &Method,
        fields: &HeaderMap,
    ) -> Vec<Note> {
        let mut notes = Vec::new();
        let requested = fields.get(ACCESS_CONTROL_REQUEST_METHOD);
        if kind == Some(Kind::Actual) && requested.is_some() {
            notes.push(Note::JudgedByRequestMethod);
        }
        if method == Method::OPTIONS
            && kind != Some(Kind::Preflight)
            && self.semantics() == Semantics::Safe
        {
            notes.push(Note::NoPreflight);
        }
        let origin = fields.get(ORIGIN).map(|value| value.as_bytes());
        let origin = origin.unwrap_or_default();
        let as_sent = std::str::from_utf8(origin).ok().and_then(as_browsers_write);
        let has_scheme = origin.windows(3).any(|part| part == b"://");
        let is_odd = as_sent.is_some() || !(has_scheme || origin.is_empty() || origin == b"null");
        let matched = match outcome {
            Outcome::NotCors => return notes,
            Outcome::Refused(_) => {
                // The advice already covers it.
                if is_odd && as_sent.is_none() {
                    notes.push(Note::OriginNotAsSent);
                }
                if kind == Some(Kind::Actual) {
                    notes.push(Note::ForwardedAllTheSame);
                }
                return notes;
            }
            Outcome::Allowed(matched) => matched,
        };
        let Some(rule) = self.rules().get(matched.rule).map(Rule::written) else {
            return notes;
        };
        if is_odd {
            notes.push(Note::OriginNotAsSent);
        }
        if matched.any_origin {
            notes.push(Note::NoCredentials);
        } else if origin == b"null" {
            notes.push(Note::NullOrigin);
        } else if let Ok(origin) = std::str::from_utf8(origin)
            && is_plain_http(origin)
        {
            notes.push(Note::PlainHttp);
        }
        let asked = requested.map_or(method.as_str().as_bytes(), |method| method.as_bytes());
        let exposed = |name: &String| name.eq_ignore_ascii_case("etag");
        if asked == b"PUT" && !rule.expose_headers.iter().any(exposed) {
            notes.push(Note::ETagNotExposed);
        }
        if kind == Some(Kind::Preflight) && rule.max_age_seconds.is_none() {
            notes.push(Note::NoMaxAge);
        }
        notes
    }
}
