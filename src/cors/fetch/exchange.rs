//! What a verdict is about: a script's request, and what a server answers.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// A request as a script makes it with `fetch()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptRequest {
    /// The origin of the script's page, as its browser writes it; `null` for a sandboxed page.
    pub origin: String,
    /// The URL, absolute, as the browser resolves it.
    pub url: String,
    /// The method, as the script writes it.
    pub method: String,
    /// The fields that the script sets, in its order; a repeated name is appended to the earlier one.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The credentials mode.
    pub credentials: Credentials,
    /// The request mode.
    pub mode: Mode,
}

/// When cookies, HTTP authentication and client certificates travel with a request
/// ([credentials mode](https://fetch.spec.whatwg.org/#concept-request-credentials-mode)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// Never.
    Omit,
    /// To the page's own origin only; the default of `fetch()`.
    #[default]
    SameOrigin,
    /// Always.
    Include,
}

/// Whether a script asks to read a response
/// ([mode](https://fetch.spec.whatwg.org/#concept-request-mode)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It does; the default of `fetch()`.
    #[default]
    Cors,
    /// It does not: `fetch(…, { mode: "no-cors" })`.
    NoCors,
}

/// The head of a server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The fields, repeated ones in their order.
    pub headers: HeaderMap,
}

/// What a server answers at one URL; `None`: nothing, the connection fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The answer to a preflight, should one be sent.
    pub preflight: Option<Response>,
    /// The answer to the request itself.
    pub response: Option<Response>,
}

/// A request and everything that servers answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The request.
    pub request: ScriptRequest,
    /// The answers at the request's URL.
    pub answers: Answers,
    /// The answers at the URLs that redirects lead to, in their order.
    pub redirected: Vec<Answers>,
}

impl Credentials {
    /// The mode by its name in Fetch.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "omit" => Some(Self::Omit),
            "same-origin" => Some(Self::SameOrigin),
            "include" => Some(Self::Include),
            _ => None,
        }
    }
}

impl Mode {
    /// The mode by its name in Fetch.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "cors" => Some(Self::Cors),
            "no-cors" => Some(Self::NoCors),
            _ => None,
        }
    }
}
