//! Explanations as sentences.

use crate::cors::{Cause, Condition, Explanation, Failure, Outcome, Refusal};
use crate::routing::bucket::Ambiguity;
use crate::text::visible::visible;

use super::exchange::Exchange;
use super::{RouteExplanation, Verdict};

impl RouteExplanation {
    /// The verdict in a sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        match (self.verdict(), &self.exchange) {
            (Verdict::UnknownHost, _) => {
                "no route serves this host: preflights get 403, all other requests get \
                 421"
                .to_owned()
            }
            (Verdict::Allowed, _) if self.same_origin => {
                "page and URL have the same origin, so the browser does not use CORS and the script can read the response"
                    .to_owned()
            }
            (_, Some(exchange)) => exchange.summary(),
            (_, None) => "the route has no CORS policy: the upstream answers preflights and sets \
                          the CORS fields itself"
                .to_owned(),
        }
    }
}

impl Exchange {
    /// The verdict in a sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let asked = if std::ptr::eq(self.deciding(), &self.preflight) {
            "the preflight is refused"
        } else {
            "the script cannot read the response"
        };
        let summary = match &self.deciding().outcome {
            Outcome::Allowed(matched) if !self.is_allowed() => {
                let rule = matched.rule + 1;
                match &self.browser {
                    Some(browser) if !browser.unreadable.is_empty() => format!(
                        "rule {rule} allows the request, but the script cannot read {}",
                        browser.unreadable.join(", ")
                    ),
                    Some(browser) => format!(
                        "rule {rule} allows the request, but browsers block the response{}",
                        browser
                            .verdict
                            .error
                            .as_ref()
                            .map_or("", |error| match error.name {
                                "WildcardOriginNotAllowed"
                                | "PreflightWildcardOriginNotAllowed" => {
                                    ": with credentials, `*` is not enough"
                                }
                                _ => "",
                            })
                    ),
                    None => format!("rule {rule} allows the request"),
                }
            }
            Outcome::Allowed(matched) => format!(
                "rule {} allows it: AllowedOrigin {} matches",
                matched.rule + 1,
                matched.pattern
            ),
            Outcome::Refused(refusal) => {
                format!("{asked}: {}", why(self.deciding(), refusal, self.ambiguity))
            }
            Outcome::NotCors => "this is not a CORS request".to_owned(),
        };
        let sent = String::from_utf8_lossy(self.origin.as_bytes());
        visible(&match &self.written_origin {
            Some(written) => format!("{summary} (a browser sends the origin {written} as {sent})"),
            None => summary,
        })
    }
}

/// Why a request is refused.
pub(crate) fn why(
    explanation: &Explanation,
    refusal: &Refusal,
    ambiguity: Option<Ambiguity>,
) -> String {
    if let Some(ambiguity) = ambiguity {
        return format!(
            "no policy applies, because storage servers can read different buckets from this request: \
             {ambiguity}"
        );
    }
    match refusal.denial.cause() {
        Cause::MissingOrigin => "it has no Origin".to_owned(),
        Cause::MalformedOrigin => {
            "its Origin header is not an origin, or is there more than once".to_owned()
        }
        Cause::BucketNotFound => "no route serves the host".to_owned(),
        Cause::NotEnabled => "there is no CORS configuration".to_owned(),
        Cause::InvalidMethod => "its method is not one that a rule can list".to_owned(),
        Cause::InvalidHeaders(Some(name)) => format!(
            "`{}` in Access-Control-Request-Headers is not a valid field name",
            String::from_utf8_lossy(name.as_bytes())
        ),
        Cause::InvalidHeaders(None) => {
            "Access-Control-Request-Headers has too many names".to_owned()
        }
        Cause::NoRule(_) => {
            let nearest = refusal
                .nearest
                .and_then(|index| Some((index + 1, explanation.rules.get(index)?)));
            match nearest {
                None => "no rule allows it".to_owned(),
                Some((number, answer)) => {
                    let missed: Vec<_> = answer.failures.iter().map(failure_text).collect();
                    format!("rule {number} comes nearest, but {}", missed.join("; "))
                }
            }
        }
    }
}

/// How to change a request so that a policy applies to it.
pub(crate) fn unambiguous(ambiguity: Ambiguity) -> &'static str {
    match ambiguity {
        Ambiguity::Host => {
            "write the host in lower case, without a trailing dot, and its port, if any, without \
             leading zeros"
        }
        Ambiguity::EmptySegment => "begin the path with one slash only",
        Ambiguity::DotSegment | Ambiguity::ParentSegment => {
            "write the path without `.` and `..` segments, encoded or not"
        }
        Ambiguity::BucketName => {
            "begin the path with the bucket's name as it is, followed by a slash that is not encoded"
        }
        Ambiguity::PathOrHost => {
            "name the bucket in the host, or set the route's buckets.address to \"both\""
        }
    }
}

pub(crate) fn failure_text(failure: &Failure) -> String {
    let actual = failure.actual.join(", ");
    visible(&match failure.condition {
        Condition::Origin => {
            let mut text = format!("no AllowedOrigin matches {actual}");
            if let Some(closest) = &failure.closest {
                let differences = closest.differences.iter();
                let differences: Vec<_> = differences.map(ToString::to_string).collect();
                let differences = differences.join(", ");
                text += &format!(" (closest: {}; {differences})", closest.pattern);
            }
            text
        }
        Condition::Method => format!("AllowedMethod does not list {actual}"),
        Condition::Header if failure.actual.is_empty() => {
            "its requested headers are malformed".to_owned()
        }
        Condition::Header => format!("no AllowedHeader matches {actual}"),
    })
}
