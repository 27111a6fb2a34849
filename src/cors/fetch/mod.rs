//! The browser's side of CORS: what a browser does with a script's request and a server's
//! responses.
//!
//! [`judge`] runs the [Fetch standard]'s CORS protocol over an [`Exchange`] and returns a
//! [`Verdict`]: whether the script may read the response, which fields, and otherwise the reason, under
//! the name that the Chrome DevTools Protocol has for it and in the sentence that each browser
//! prints. Where Chromium, Firefox or WebKit deviates from the standard, the verdict says so.
//!
//! Pure, like the rest of [`cors`](super): no clock, file or socket. The behaviour of the three
//! engines was measured against Chromium 156, Firefox ESR 153 and WebKitGTK 2.50;
//! `tests/clients/browser` compares them with this module again.
//!
//! [Fetch standard]: https://fetch.spec.whatwg.org/

mod answer;
mod chromium;
mod chromium_order;
mod chromium_url;
mod cors_check;
mod course;
mod engine;
mod exchange;
mod exposed;
pub(crate) mod failure;
mod field;
mod firefox;
mod hop;
mod max_age;
mod preflight;
mod redirect;
mod request_headers;
mod safelist;
mod url;
mod verdict;
mod webkit;

pub use answer::{
    AnswerVerdict, AnsweredRequest, BlockedReason, RequestedPermission, applies_cors,
};
pub use course::Outcome;
pub use engine::Engine;
pub use exchange::{Answers, Credentials, Exchange, Mode, Response, ScriptRequest};
pub use failure::{CorsError, Failure, InvalidList, OriginValue, Reason, Step};
pub use hop::Hop;
pub use max_age::preflight_cache_seconds;
#[cfg(feature = "proxy")]
pub(crate) use preflight::is_redirect_status;
pub use request_headers::{
    RequestHeader, is_forbidden_method, is_safelisted_method, normalized_method,
};
pub use url::{is_cross_origin, origin_of};
pub use verdict::{Difference, Verdict, judge};

#[cfg(test)]
mod tests;
