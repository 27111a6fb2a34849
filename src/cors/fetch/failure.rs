//! Why a browser blocks a request.

use http::StatusCode;

/// Why a browser blocks a request, and at which step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The response that fails the check.
    pub step: Step,
    /// What is wrong with it.
    pub reason: Reason,
}

/// A step at which a browser checks something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Before the request is sent.
    Request,
    /// The response to the preflight.
    Preflight,
    /// The response, or a redirect.
    Response,
}

/// What is wrong with a request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Scripts cannot use the method.
    ForbiddenMethod,
    /// A `no-cors` request has a method that is not safelisted.
    NoCorsMethod,
    /// The server does not answer, or redirects to a URL without known responses.
    NoAnswer,
    /// A preflight's status is not 200 to 299.
    Status(StatusCode),
    /// A preflight is redirected.
    PreflightRedirect(StatusCode),
    /// There is no `Access-Control-Allow-Origin`.
    MissingAllowOrigin(StatusCode),
    /// `Access-Control-Allow-Origin` is `*`, but credentials are included.
    WildcardWithCredentials,
    /// `Access-Control-Allow-Origin` is not the origin; its value, and how many fields it is made
    /// of.
    Origin(OriginValue),
    /// `Access-Control-Allow-Credentials` is not `true`; its value.
    Credentials(String),
    /// `Access-Control-Allow-Methods` is not a list of tokens.
    InvalidMethods(InvalidList),
    /// `Access-Control-Allow-Headers` is not a list of tokens.
    InvalidHeaders(InvalidList),
    /// `Access-Control-Allow-Methods` does not allow the method.
    Method(String),
    /// `Access-Control-Allow-Headers` does not allow this field.
    Header(String),
    /// A redirect leads to a URL with a user name or a password; the URL.
    RedirectCredentials(String),
    /// The same for a `no-cors` request.
    UrlCredentials,
    /// A redirect leads to an invalid URL.
    RedirectUrl(String),
    /// A redirect leads to a URL whose scheme is not HTTP or HTTPS.
    RedirectScheme(String),
    /// There are more than twenty redirects.
    TooManyRedirects,
}

/// An `Access-Control-Allow-Origin` that does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginValue {
    /// The fields' values, joined.
    pub value: String,
    /// How many fields there are.
    pub fields: usize,
    /// The status of the response.
    pub status: StatusCode,
}

/// A list field that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidList {
    /// The whole value.
    pub value: String,
    /// The first element that is not a token.
    pub token: String,
}

/// Chrome's name for a reason: `Network.CorsError` of the
/// [DevTools Protocol](https://chromedevtools.github.io/devtools-protocol/tot/Network/#type-CorsError).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsError {
    /// The name.
    pub name: &'static str,
    /// The offending value; empty if the name is enough.
    pub parameter: String,
}
