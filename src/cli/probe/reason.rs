//! Explains in a sentence why a browser blocks a server's response, and what to change.

use http::StatusCode;
use http::header::LOCATION;

use crate::cors::fetch::{Failure, OriginValue, Reason, Step};

use super::client::Answer;
use super::exchange::ProbeExchange;

/// The problem and its remedy, in a sentence.
pub(super) fn why(exchanged: &ProbeExchange, failure: &Failure) -> String {
    super::super::redact::text(&sentence(exchanged, failure))
}

fn sentence(exchanged: &ProbeExchange, failure: &Failure) -> String {
    let request = &exchanged.exchange.request;
    let origin = exchanged
        .last
        .as_ref()
        .and_then(|hop| hop.origin.as_deref())
        .unwrap_or(&request.origin);
    let answer = match failure.step {
        Step::Preflight => exchanged.preflight(),
        Step::Request | Step::Response => exchanged.response(),
    };
    let what = match failure.step {
        Step::Preflight => "the preflight's answer",
        Step::Request | Step::Response => "the response",
    };
    match &failure.reason {
        Reason::ForbiddenMethod | Reason::NoCorsMethod => {
            "no script can use this method".to_owned()
        }
        Reason::UrlCredentials => "browsers refuse URLs with a user name or a password".to_owned(),
        Reason::NoAnswer => no_answer(exchanged),
        Reason::Status(status) => status_text(*status, answer),
        Reason::PreflightRedirect(status) => {
            let location = answer.and_then(|answer| answer.fields.get(LOCATION));
            let location =
                location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let url = exchanged
                .last
                .as_ref()
                .map_or(&*request.url, |hop| &*hop.url);
            let hint = location.map_or_else(String::new, |location| {
                format!(
                    " to {}{}",
                    super::super::redact::url(&location),
                    redirect_hint(url, &location)
                )
            });
            format!(
                "the preflight is answered with a redirect ({}){hint}, which browsers do not follow. Request the final URL, or answer OPTIONS \
                 before the redirect",
                status.as_u16()
            )
        }
        Reason::MissingAllowOrigin(status) => missing(exchanged, failure.step, *status, answer),
        Reason::WildcardWithCredentials => format!(
            "Access-Control-Allow-Origin is `*`, which never allows credentials: send `{origin}` and Access-Control-Allow-Credentials: \
             true, or omit the credentials (`credentials: \"omit\"`)"
        ),
        Reason::Origin(value) => mismatch(origin, value),
        Reason::Credentials(value) if value.is_empty() => format!(
            "{what} has no Access-Control-Allow-Credentials, which a request with credentials needs; send `true`"
        ),
        Reason::Credentials(value) => format!(
            "Access-Control-Allow-Credentials is `{value}`: only `true`, in lower case and sent once, allows credentials"
        ),
        Reason::InvalidMethods(list) => format!(
            "Access-Control-Allow-Methods is not a list: `{}` is not a token. Separate methods with commas",
            list.token
        ),
        Reason::InvalidHeaders(list) => format!(
            "Access-Control-Allow-Headers is not a list: `{}` is not a token. Separate names with commas",
            list.token
        ),
        Reason::Method(method) => method_text(method, exchanged),
        Reason::Header(name) => header_text(name, exchanged),
        Reason::RedirectCredentials(_) => {
            "a redirect leads to a URL with a user name or a password, which browsers refuse"
                .to_owned()
        }
        Reason::RedirectUrl(_) => "a redirect has an invalid URL; correct its Location".to_owned(),
        Reason::RedirectScheme(_) => {
            "a redirect leads to a URL that is not http or https; correct its Location".to_owned()
        }
        Reason::TooManyRedirects => "more than 20 redirects, probably a loop".to_owned(),
    }
}

fn no_answer(exchanged: &ProbeExchange) -> String {
    let failed = exchanged.steps.iter().rev().find_map(|step| {
        let error = step.answer.as_ref().err()?;
        Some((step, error))
    });
    match failed {
        Some((step, error)) => format!(
            "the {} to {} got no answer: {error}",
            step.kind.as_str(),
            super::super::redact::url(&step.sent.url)
        ),
        None => "there is no answer".to_owned(),
    }
}

/// The message in S3's error document, if there is one.
fn s3_message(answer: Option<&Answer>) -> Option<String> {
    let text = String::from_utf8_lossy(&answer?.body);
    let (_, rest) = text.split_once("<Message>")?;
    let (message, _) = rest.split_once("</Message>")?;
    (message.len() < 300).then(|| message.to_owned())
}

fn status_text(status: StatusCode, answer: Option<&Answer>) -> String {
    let code = status.as_u16();
    let hint = match code {
        401 | 407 => {
            "the server requires authentication, but a preflight never carries credentials; answer OPTIONS before authentication"
        }
        403 => {
            "the server refuses the preflight: its CORS settings do not allow this origin, method or header, or a firewall stops OPTIONS"
        }
        404 => "nothing answers OPTIONS at this URL; route OPTIONS to the component that adds CORS",
        405 | 501 => {
            "the server does not support OPTIONS at this URL; answer preflights in front of it"
        }
        429 => "the server limits the request rate; exempt preflights from the limit",
        500..=599 => "the server fails on the preflight",
        _ => "only 200 to 299 let a preflight pass",
    };
    let message =
        s3_message(answer).map_or_else(String::new, |message| format!(" It says: {message}"));
    format!("the preflight is answered with {code}: {hint}.{message}")
}

fn missing(
    exchanged: &ProbeExchange,
    step: Step,
    status: StatusCode,
    answer: Option<&Answer>,
) -> String {
    let code = status.as_u16();
    let message =
        s3_message(answer).map_or_else(String::new, |message| format!(" It says: {message}"));
    match step {
        Step::Preflight => format!(
            "the preflight's answer ({code}) has no Access-Control-Allow-Origin: the server does not support CORS at this URL, or does not allow this origin, method or header.{message}"
        ),
        _ if status.is_redirection() => format!(
            "the redirect itself ({code}) has no Access-Control-Allow-Origin: each redirect needs the CORS fields, not only the final response. Add them, or request the final URL"
        ),
        _ if code >= 400 => format!(
            "the server answers with the error {code}, without Access-Control-Allow-Origin, so the script sees a network error instead \
             of the status. Correct the request, and have the server send the CORS fields on errors too (nginx: `add_header … \
             always`).{message}"
        ),
        _ if exchanged.preflight().is_some() => format!(
            "the preflight passes, but the response itself ({code}) has no Access-Control-Allow-Origin: both need it"
        ),
        _ => format!(
            "the response ({code}) has no Access-Control-Allow-Origin: the server does not support CORS at this URL, or does not allow this \
             origin"
        ),
    }
}

fn mismatch(origin: &str, found: &OriginValue) -> String {
    let OriginValue { value, fields, .. } = found;
    let hint = match &**value {
        _ if *fields > 1 => {
            return format!(
                "Access-Control-Allow-Origin is sent {fields} times (`{value}`): two layers add CORS fields; let only one of them do so (nginx: \
                 `proxy_hide_header Access-Control-Allow-Origin`)"
            );
        }
        value if value.contains([',', ' ']) => {
            "it must be one origin or `*`; send the request's origin"
        }
        "" => "it is empty",
        "null" => "`null` allows sandboxed pages and files only; send the request's origin",
        value if value.trim_end_matches('/') == origin => "an origin has no slash at its end",
        value if value.eq_ignore_ascii_case(origin) => {
            "origins are case-sensitive; write it in lower case"
        }
        value if value.contains('*') => "browsers do not match patterns; send the request's origin",
        value if host(value) == host(origin) => "scheme and port must match too",
        value if !value.contains("://") => "an origin begins with its scheme",
        _ => "another origin is allowed",
    };
    format!("Access-Control-Allow-Origin is `{value}`, not `{origin}`: {hint}")
}

/// The host, without scheme and port.
fn host(origin: &str) -> &str {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    host.rsplit_once(':').map_or(host, |(host, _)| host)
}

fn allowed(exchanged: &ProbeExchange, name: &http::HeaderName) -> Option<String> {
    super::checks::combined(&exchanged.preflight()?.fields, name)
}

fn method_text(method: &str, exchanged: &ProbeExchange) -> String {
    let list = allowed(exchanged, &http::header::ACCESS_CONTROL_ALLOW_METHODS);
    let Some(list) = list else {
        return format!(
            "the preflight's answer has no Access-Control-Allow-Methods, which must list {method}"
        );
    };
    let elements = || list.split(',').map(str::trim);
    let hint = match () {
        () if elements().any(|one| one.eq_ignore_ascii_case(method)) => {
            ": methods are case-sensitive, and `fetch` writes only DELETE, GET, HEAD, OPTIONS, POST and PUT in capitals"
        }
        () if elements().any(|one| one == "*") => ": with credentials, `*` is not a wildcard",
        () => "",
    };
    format!("Access-Control-Allow-Methods is `{list}`, which does not allow {method}{hint}")
}

fn header_text(name: &str, exchanged: &ProbeExchange) -> String {
    let list = allowed(exchanged, &http::header::ACCESS_CONTROL_ALLOW_HEADERS);
    let Some(list) = list else {
        return format!(
            "the preflight's answer has no Access-Control-Allow-Headers, which must list {name}"
        );
    };
    let hint = match list.split(',').any(|one| one.trim() == "*") {
        true => ": with credentials, `*` is not a wildcard",
        false => "",
    };
    format!("Access-Control-Allow-Headers is `{list}`, which does not allow {name}{hint}")
}

/// The likely cause of an unintended redirect.
fn redirect_hint(url: &str, location: &str) -> &'static str {
    let rest = |url: &str| url.split_once("://").map(|(_, rest)| rest.to_owned());
    match () {
        () if url.starts_with("http://")
            && location.starts_with("https://")
            && rest(url) == rest(location) =>
        {
            " (https instead of http)"
        }
        () if location.trim_end_matches('/') == url.trim_end_matches('/')
            || rest(location).is_none()
                && location.ends_with('/')
                && url.ends_with(location.trim_end_matches('/')) =>
        {
            " (a slash at the end)"
        }
        () => "",
    }
}
