//! Chromium's names for failures, and its console messages.

use super::chromium_url::is_valid_url;
use super::course::Course;
use super::exchange::Exchange;
use super::failure::{CorsError, Failure, OriginValue, Reason, Step};

/// The name of a failure in the DevTools protocol; `None`: it is not about CORS.
pub(super) fn cors_error(failure: &Failure) -> Option<CorsError> {
    let at_preflight = failure.step == Step::Preflight;
    let named = |plain, preflight, parameter: &str| {
        Some(CorsError {
            name: if at_preflight { preflight } else { plain },
            parameter: parameter.to_owned(),
        })
    };
    let only = |name, parameter: &str| named(name, name, parameter);
    match &failure.reason {
        Reason::ForbiddenMethod
        | Reason::NoCorsMethod
        | Reason::NoAnswer
        | Reason::UrlCredentials
        | Reason::RedirectUrl(_)
        | Reason::TooManyRedirects => None,
        Reason::Status(_) => only("PreflightInvalidStatus", ""),
        Reason::PreflightRedirect(_) => only("PreflightDisallowedRedirect", ""),
        Reason::MissingAllowOrigin(_) => named(
            "MissingAllowOriginHeader",
            "PreflightMissingAllowOriginHeader",
            "",
        ),
        Reason::WildcardWithCredentials => named(
            "WildcardOriginNotAllowed",
            "PreflightWildcardOriginNotAllowed",
            "",
        ),
        Reason::Origin(OriginValue { value, .. }) => {
            let (plain, preflight) = match origin_error(value) {
                plain @ "MultipleAllowOriginValues" => {
                    (plain, "PreflightMultipleAllowOriginValues")
                }
                plain @ "AllowOriginMismatch" => (plain, "PreflightAllowOriginMismatch"),
                plain => (plain, "PreflightInvalidAllowOriginValue"),
            };
            named(plain, preflight, value)
        }
        Reason::Credentials(value) => named(
            "InvalidAllowCredentials",
            "PreflightInvalidAllowCredentials",
            value,
        ),
        Reason::InvalidMethods(_) => only("InvalidAllowMethodsPreflightResponse", ""),
        Reason::InvalidHeaders(_) => only("InvalidAllowHeadersPreflightResponse", ""),
        Reason::Method(method) => only("MethodDisallowedByPreflightResponse", method),
        Reason::Header(name) => only("HeaderDisallowedByPreflightResponse", name),
        // The network layer does not load such a URL.
        Reason::RedirectScheme(url) if url.starts_with("data:") => None,
        Reason::RedirectScheme(_) => only("CorsDisabledScheme", ""),
        Reason::RedirectCredentials(_) => only("RedirectContainsCredentials", ""),
    }
}

/// The name of an `Access-Control-Allow-Origin` that is not the origin.
pub(super) fn origin_error(value: &str) -> &'static str {
    match value {
        _ if value.contains([' ', ',']) => "MultipleAllowOriginValues",
        _ if value == "null" || is_valid_url(value) => "AllowOriginMismatch",
        _ => "InvalidAllowOriginValue",
    }
}

/// What the console prints.
pub(super) fn message(exchange: &Exchange, course: &Course, error: &CorsError) -> Option<String> {
    let failure = course.failure.as_ref()?;
    let (first, last) = (&exchange.request.url, &course.request.url);
    let url = match &failure.reason {
        Reason::RedirectScheme(url) => url,
        _ => last,
    };
    let redirected = if url == first {
        String::new()
    } else {
        format!("(redirected from '{first}') ")
    };
    let preflight = if error.name.starts_with("Preflight") {
        "Response to preflight request doesn't pass access control check: "
    } else {
        ""
    };
    let why = why(error, &encoded(&error.parameter));
    let origin = &exchange.request.origin;
    Some(format!(
        "Access to fetch at '{url}' {redirected}from origin '{origin}' has been blocked by CORS policy: {preflight}{why}"
    ))
}

fn why(error: &CorsError, parameter: &str) -> String {
    const ADVICE: &str = "Have the server send the header with a valid value.";
    match error.name.trim_start_matches("Preflight") {
        "InvalidStatus" => "It does not have HTTP ok status.".to_owned(),
        "DisallowedRedirect" => "Redirect is not allowed for a preflight request.".to_owned(),
        "MissingAllowOriginHeader" => {
            "No 'Access-Control-Allow-Origin' header is present on the requested resource.".to_owned()
        }
        "WildcardOriginNotAllowed" => "The value of the 'Access-Control-Allow-Origin' header in the response must not \
                                       be the wildcard '*' when the request's credentials mode is 'include'."
            .to_owned(),
        "MultipleAllowOriginValues" => format!(
            "The 'Access-Control-Allow-Origin' header contains multiple values '{parameter}', but only one is \
             allowed. {ADVICE}"
        ),
        "InvalidAllowOriginValue" => format!(
            "The 'Access-Control-Allow-Origin' header contains the invalid value '{parameter}'. {ADVICE}"
        ),
        "AllowOriginMismatch" => format!(
            "The 'Access-Control-Allow-Origin' header has a value '{parameter}' that is not equal to the supplied \
             origin. {ADVICE}"
        ),
        "InvalidAllowCredentials" => format!(
            "The value of the 'Access-Control-Allow-Credentials' header in the response is '{parameter}' which must \
             be 'true' when the request's credentials mode is 'include'."
        ),
        "InvalidAllowMethodsPreflightResponse" => {
            "Cannot parse Access-Control-Allow-Methods response header field in preflight response.".to_owned()
        }
        "InvalidAllowHeadersPreflightResponse" => {
            "Cannot parse Access-Control-Allow-Headers response header field in preflight response.".to_owned()
        }
        "MethodDisallowedByPreflightResponse" => {
            format!("Method {parameter} is not allowed by Access-Control-Allow-Methods in preflight response.")
        }
        "HeaderDisallowedByPreflightResponse" => format!(
            "Request header field {parameter} is not allowed by Access-Control-Allow-Headers in preflight response."
        ),
        "CorsDisabledScheme" => "Cross origin requests are only supported for protocol schemes: chrome, \
             chrome-experimental-site-token-provider, chrome-extension, chrome-untrusted, data, http, https, isolated-app."
            .to_owned(),
        _ => format!(
            "Redirect location '{parameter}' contains a username and password, which is disallowed for cross-origin \
             requests."
        ),
    }
}

/// A value in the console's format: characters outside printable ASCII as `\uXXXX`.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for unit in value.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ b' '..=b'~') => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\u{unit:04X}")),
        }
    }
    text
}
