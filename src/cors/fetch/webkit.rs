//! WebKit's console messages, and the order in which it checks fields.

use super::course::Course;
use super::exchange::Mode;
use super::failure::{Failure, OriginValue, Reason, Step};
use super::url::Url;

/// Names that WebKit knows and prints in this spelling, limited to those that a script may set
/// (`Source/WebCore/platform/network/HTTPHeaderNames.in`).
const KNOWN: [&str; 30] = [
    "Accept",
    "Accept-Language",
    "Accept-Ranges",
    "Age",
    "Authorization",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Range",
    "Content-Type",
    "ETag",
    "Expires",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Last-Event-ID",
    "Last-Modified",
    "Location",
    "Pragma",
    "Purpose",
    "Range",
    "Refresh",
    "Server",
    "User-Agent",
    "Vary",
    "X-Content-Type-Options",
    "X-Frame-Options",
];

/// The order in which the response to a preflight is checked for these names: known ones first.
pub(super) fn in_order<'n>(names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let (mut known, unknown): (Vec<&str>, Vec<&str>) =
        names.partition(|name| spelling(name).is_some());
    known.extend(unknown);
    known
}

fn spelling(name: &str) -> Option<&'static str> {
    KNOWN
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(name))
}

/// The first message in the console; «Fetch API cannot load … due to access control checks.»
/// follows.
pub(super) fn message(course: &Course, failure: &Failure) -> Option<String> {
    let is_cors = course.request.mode == Mode::Cors;
    let why = why(course, failure)?;
    Some(match &course.request.leads_to {
        Some(url) if failure.step == Step::Response && is_cors && !why.starts_with("FTP") => {
            let url = without_userinfo(url);
            format!(
                "Cross-origin redirection to {url} denied by Cross-Origin Resource Sharing policy: {why}"
            )
        }
        _ => why,
    })
}

fn why(course: &Course, failure: &Failure) -> Option<String> {
    let is_cors = course.request.mode == Mode::Cors;
    Some(match &failure.reason {
        Reason::ForbiddenMethod
        | Reason::NoCorsMethod
        | Reason::UrlCredentials
        | Reason::TooManyRedirects => return None,
        Reason::NoAnswer if failure.step == Step::Response => return None,
        Reason::NoAnswer => "Connection terminated unexpectedly".to_owned(),
        Reason::RedirectScheme(url) if url.starts_with("ftp:") => {
            "FTP URLs are disabled".to_owned()
        }
        // An invalid URL ends such a load without a message.
        Reason::RedirectUrl(_) if !is_cors => return None,
        Reason::RedirectScheme(_) if !is_cors => {
            "Redirection to URL with a scheme that is not HTTP(S).".to_owned()
        }
        Reason::RedirectUrl(_) | Reason::RedirectScheme(_) => {
            "not allowed to follow a cross-origin CORS redirection with non CORS scheme".to_owned()
        }
        Reason::Status(status) | Reason::PreflightRedirect(status) => {
            format!(
                "Preflight response is not successful. Status code: {}",
                status.as_u16()
            )
        }
        Reason::WildcardWithCredentials => {
            "Cannot use wildcard in Access-Control-Allow-Origin when credentials flag is true."
                .to_owned()
        }
        Reason::Origin(OriginValue { value, .. }) if value.contains(',') => {
            "Access-Control-Allow-Origin cannot contain more than one origin.".to_owned()
        }
        Reason::Origin(OriginValue { status, .. }) | Reason::MissingAllowOrigin(status) => {
            let origin = course.request.origin();
            format!(
                "Origin {origin} is not allowed by Access-Control-Allow-Origin. Status code: {}",
                status.as_u16()
            )
        }
        Reason::Credentials(_) => {
            "Credentials flag is true, but Access-Control-Allow-Credentials is not \"true\"."
                .to_owned()
        }
        Reason::InvalidMethods(list) => format!(
            "Header Access-Control-Allow-Methods has an invalid value: {}",
            list.value
        ),
        Reason::InvalidHeaders(list) => format!(
            "Header Access-Control-Allow-Headers has an invalid value: {}",
            list.value
        ),
        Reason::Method(method) => {
            format!("Method {method} is not allowed by Access-Control-Allow-Methods.")
        }
        Reason::Header(name) => {
            let name = spelling(name).unwrap_or(name);
            format!("Request header field {name} is not allowed by Access-Control-Allow-Headers.")
        }
        Reason::RedirectCredentials(url) => format!("redirection URL {url} has credentials"),
    })
}

/// A URL in the form that WebKit prints after following a redirect.
fn without_userinfo(url: &str) -> String {
    let userinfo = Url::parse(url).and_then(|url| url.userinfo);
    match userinfo {
        Some(userinfo) => url.replacen(&format!("{userinfo}@"), "", 1),
        None => url.to_owned(),
    }
}
