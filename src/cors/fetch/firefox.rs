//! Firefox's console messages.

use super::course::Course;
use super::exchange::Mode;
use super::failure::{Failure, OriginValue, Reason, Step};

/// The first message in the console; «CORS request did not succeed» often follows.
pub(super) fn message(course: &Course, failure: &Failure) -> Option<String> {
    // Without CORS, nothing is printed.
    if course.request.mode == Mode::NoCors {
        return None;
    }
    let url = &course.request.url;
    let quoted = format!("‘{url}’");
    let mut place: &str = url;
    let mut status = None;
    let reason = match &failure.reason {
        Reason::ForbiddenMethod | Reason::NoCorsMethod | Reason::UrlCredentials => return None,
        Reason::NoAnswer
        | Reason::RedirectUrl(_)
        | Reason::RedirectScheme(_)
        | Reason::TooManyRedirects
        | Reason::RedirectCredentials(_) => {
            status = Some("(null)".to_owned());
            "CORS request did not succeed".to_owned()
        }
        Reason::Status(code) => {
            status = Some(code.as_str().to_owned());
            "CORS preflight response did not succeed".to_owned()
        }
        Reason::PreflightRedirect(_) => "CORS request external redirect not allowed".to_owned(),
        Reason::MissingAllowOrigin(code) => {
            status = Some(code.as_str().to_owned());
            "CORS header ‘Access-Control-Allow-Origin’ missing".to_owned()
        }
        Reason::WildcardWithCredentials => {
            place = &quoted;
            "Credential is not supported if the CORS header ‘Access-Control-Allow-Origin’ is ‘*’"
                .to_owned()
        }
        Reason::Origin(OriginValue { fields: 2.., .. }) => {
            "Multiple CORS header ‘Access-Control-Allow-Origin’ not allowed".to_owned()
        }
        Reason::Origin(OriginValue { value, .. }) => {
            format!("CORS header ‘Access-Control-Allow-Origin’ does not match ‘{value}’")
        }
        Reason::Credentials(_) => {
            "expected ‘true’ in CORS header ‘Access-Control-Allow-Credentials’".to_owned()
        }
        Reason::InvalidMethods(list) => {
            format!(
                "invalid token ‘{}’ in CORS header ‘Access-Control-Allow-Methods’",
                list.token
            )
        }
        Reason::InvalidHeaders(list) => {
            format!(
                "invalid token ‘{}’ in CORS header ‘Access-Control-Allow-Headers’",
                list.token
            )
        }
        Reason::Method(_) => {
            "Did not find method in CORS header ‘Access-Control-Allow-Methods’".to_owned()
        }
        Reason::Header(name) => format!(
            "header ‘{name}’ is not allowed according to header ‘Access-Control-Allow-Headers’ from CORS preflight \
             response"
        ),
    };
    debug_assert!(
        failure.step != Step::Request,
        "Firefox prints nothing before it sends a request"
    );
    let status = status.map(|status| format!(" Status code: {status}."));
    // The full stop after the reason is omitted if a status follows it within the sentence.
    Some(format!(
        "Cross-Origin Request Blocked: The Same Origin Policy disallows reading the remote resource at {place}. (Reason: \
         {reason}).{}",
        status.unwrap_or_default()
    ))
}
