//! The input of a verdict: a script's request, and the servers' responses.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// A request that a script makes with `fetch()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptRequest {
    /// The origin of the script's page in the form that browsers send; `null` for a sandboxed page.
    pub origin: String,
    /// The absolute URL after the browser resolved it.
    pub url: String,
    /// The method as written in the script.
    pub method: String,
    /// The fields that the script sets, in order. A repeated name is appended to the earlier one.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The credentials mode.
    pub credentials: Credentials,
    /// The request mode.
    pub mode: Mode,
}

/// When a request carries cookies, HTTP authentication and client certificates ([credentials
/// mode](https://fetch.spec.whatwg.org/#concept-request-credentials-mode)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// Never.
    Omit,
    /// Only to the page's own origin; the default of `fetch()`.
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

/// The head of a server's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The fields; repeated ones in order.
    pub headers: HeaderMap,
}

/// A server's responses at one URL; `None`: the connection fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The response to a preflight, if one is sent.
    pub preflight: Option<Response>,
    /// The response to the request itself.
    pub response: Option<Response>,
}

/// A request and all responses to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The request.
    pub request: ScriptRequest,
    /// The responses at the request's URL.
    pub answers: Answers,
    /// The responses at the URLs that redirects lead to, in order.
    pub redirected: Vec<Answers>,
}

impl Credentials {
    /// Parses Fetch's name of a mode.
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
    /// Parses Fetch's name of a mode.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "cors" => Some(Self::Cors),
            "no-cors" => Some(Self::NoCors),
            _ => None,
        }
    }
}
