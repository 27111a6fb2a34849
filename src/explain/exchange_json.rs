//! Exchanges and verdicts as JSON, as `s3cors verdict` reads and writes them.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::cors::as_browsers_write;
use crate::cors::fetch::{
    Answers, CorsError, Credentials, Difference, Exchange, Mode, Response, ScriptRequest, Verdict,
    origin_of,
};

/// Why a JSON value is not an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {reason}")]
pub struct InvalidExchange {
    /// The member, such as `request.headers[2]`.
    place: String,
    reason: String,
}

impl InvalidExchange {
    fn new(place: &str, reason: impl Into<String>) -> Self {
        Self {
            place: place.to_owned(),
            reason: reason.into(),
        }
    }
}

/// Reads an exchange.
///
/// # Errors
///
/// [`InvalidExchange`] names the first member that is missing, unknown or invalid.
pub fn exchange_from_json(value: &Value) -> Result<Exchange, InvalidExchange> {
    const MEMBERS: [&str; 4] = ["request", "preflight", "response", "redirected"];
    let members = object(value, "exchange", &MEMBERS)?;
    let request = members
        .get("request")
        .ok_or_else(|| InvalidExchange::new("request", "is missing"))?;
    let redirected = match members.get("redirected") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let place = format!("redirected[{index}]");
                answers(
                    object(item, &place, &["preflight", "response"])?,
                    &format!("{place}."),
                )
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(InvalidExchange::new("redirected", "is not an array")),
    };
    Ok(Exchange {
        request: script_request(request)?,
        answers: answers(members, "")?,
        redirected,
    })
}

fn script_request(value: &Value) -> Result<ScriptRequest, InvalidExchange> {
    const MEMBERS: [&str; 6] = ["origin", "url", "method", "headers", "credentials", "mode"];
    let members = object(value, "request", &MEMBERS)?;
    let required = |name: &str| {
        let place = format!("request.{name}");
        let value = members
            .get(name)
            .ok_or_else(|| InvalidExchange::new(&place, "is missing"))?;
        text(value, &place)
    };
    let written = required("origin")?;
    let origin = as_browsers_write(written).unwrap_or_else(|| written.to_owned());
    if origin != "null" && origin_of(&origin).as_deref() != Some(&*origin) {
        let reason = format!(
            "`{written}` isn't an origin; write scheme://host, with the port if it isn't the scheme's default"
        );
        return Err(InvalidExchange::new("request.origin", reason));
    }
    let url = required("url")?;
    let is_http = origin_of(url)
        .is_some_and(|origin| origin.starts_with("http://") || origin.starts_with("https://"));
    if !is_http || url.contains(char::is_whitespace) {
        let reason = format!("`{url}` isn't an absolute http or https URL");
        return Err(InvalidExchange::new("request.url", reason));
    }
    let method = match members.get("method") {
        None => "GET",
        Some(value) => text(value, "request.method")?,
    };
    if Method::from_bytes(method.as_bytes()).is_err() {
        return Err(InvalidExchange::new(
            "request.method",
            format!("`{method}` isn't a valid method"),
        ));
    }
    let named = |name: &str, values: &str| match members.get(name) {
        None => Ok(None),
        Some(value) => {
            let place = format!("request.{name}");
            let text = text(value, &place)?;
            Ok(Some((
                text.to_owned(),
                InvalidExchange::new(&place, format!("`{text}` is not one of {values}")),
            )))
        }
    };
    let credentials = match named("credentials", "omit, same-origin and include")? {
        None => Credentials::default(),
        Some((name, error)) => Credentials::from_name(&name).ok_or(error)?,
    };
    let mode = match named("mode", "cors and no-cors")? {
        None => Mode::default(),
        Some((name, error)) => Mode::from_name(&name).ok_or(error)?,
    };
    let headers = fields(members.get("headers"), "request.headers")?;
    Ok(ScriptRequest {
        origin,
        url: url.to_owned(),
        method: method.to_owned(),
        headers,
        credentials,
        mode,
    })
}

fn answers(members: &Map<String, Value>, place: &str) -> Result<Answers, InvalidExchange> {
    let answer = |name: &str| match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => response(value, &format!("{place}{name}")).map(Some),
    };
    Ok(Answers {
        preflight: answer("preflight")?,
        response: answer("response")?,
    })
}

fn response(value: &Value, place: &str) -> Result<Response, InvalidExchange> {
    let members = object(value, place, &["status", "headers"])?;
    let status = members.get("status").and_then(Value::as_u64);
    let status = status
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (200..1000).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.ok_or_else(|| {
        InvalidExchange::new(&format!("{place}.status"), "is not a status of 200 to 999")
    })?;
    let headers = fields(members.get("headers"), &format!("{place}.headers"))?;
    let headers = headers
        .into_iter()
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        });
    Ok(Response { status, headers })
}

/// The maximum number of fields in a message: no browser or server accepts as many.
const MAX_FIELDS: usize = 1000;

/// Pairs of names and values.
fn fields(
    value: Option<&Value>,
    place: &str,
) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidExchange> {
    let pairs = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(pairs)) if pairs.len() > MAX_FIELDS => {
            let message = format!("has more than {MAX_FIELDS} fields");
            return Err(InvalidExchange::new(place, message));
        }
        Some(Value::Array(pairs)) => pairs,
        Some(_) => return Err(InvalidExchange::new(place, "is not an array")),
    };
    let field = |(index, pair): (usize, &Value)| {
        let place = format!("{place}[{index}]");
        let [name, value] = pair.as_array().map(Vec::as_slice).unwrap_or_default() else {
            return Err(InvalidExchange::new(
                &place,
                "is not a pair of name and value",
            ));
        };
        let (name, value) = (text(name, &place)?, text(value, &place)?);
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let name = parsed.map_err(|_| {
            InvalidExchange::new(&place, format!("`{name}` isn't a valid field name"))
        })?;
        let parsed = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes());
        let value = parsed.map_err(|_| {
            InvalidExchange::new(
                &place,
                format!("the value of {name} has control characters"),
            )
        })?;
        Ok((name, value))
    };
    pairs.iter().enumerate().map(field).collect()
}

fn object<'v>(
    value: &'v Value,
    place: &str,
    known: &[&str],
) -> Result<&'v Map<String, Value>, InvalidExchange> {
    let members = value
        .as_object()
        .ok_or_else(|| InvalidExchange::new(place, "is not an object"))?;
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(InvalidExchange::new(
            place,
            format!(
                "has an unknown member `{name}`; known members: {}",
                known.join(", ")
            ),
        )),
        None => Ok(members),
    }
}

fn text<'v>(value: &'v Value, place: &str) -> Result<&'v str, InvalidExchange> {
    value
        .as_str()
        .ok_or_else(|| InvalidExchange::new(place, "is not a string"))
}

/// A verdict as JSON.
#[must_use]
pub fn verdict_to_json(verdict: &Verdict) -> Value {
    let messages = verdict
        .messages
        .iter()
        .map(|(engine, text)| (engine.as_str(), text.as_str().into()));
    let differs = verdict
        .differs
        .iter()
        .map(|(engine, difference)| (engine.as_str(), describe(difference).into()));
    let mut document = json!({
        "preflight_sent": verdict.preflight_sent,
        "outcome": verdict.outcome.as_str(),
        "error": verdict.error.as_ref().map(|error| error.name),
        "parameter": verdict.error.as_ref().map_or("", |error| &error.parameter),
        "readable_headers": verdict.readable_headers,
        "messages": object_of(messages),
    });
    let cache = verdict
        .cache_seconds
        .iter()
        .map(|(engine, seconds)| (engine.as_str(), (*seconds).into()));
    let cache = object_of(cache);
    if let (Some(members), false) = (document.as_object_mut(), cache.is_empty()) {
        members.insert("cache_seconds".to_owned(), cache.into());
    }
    let standard = verdict
        .standard
        .iter()
        .map(|difference| ("standard", describe(difference).into()));
    let differs = object_of(differs.chain(standard));
    if let (Some(members), false) = (document.as_object_mut(), differs.is_empty()) {
        members.insert("differs".to_owned(), differs.into());
    }
    document
}

fn object_of<'v>(members: impl Iterator<Item = (&'v str, Value)>) -> Map<String, Value> {
    members
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Describes a difference; begins with the outcome.
fn describe(difference: &Difference) -> String {
    let preflight = if difference.preflight_sent {
        "with a preflight"
    } else {
        "without a preflight"
    };
    let outcome = difference.outcome.as_str();
    match &difference.error {
        None => format!("{outcome}, {preflight}"),
        Some(CorsError { name, parameter }) if parameter.is_empty() => {
            format!("{outcome}, {preflight}: {name}")
        }
        Some(CorsError { name, parameter }) => {
            format!("{outcome}, {preflight}: {name} {parameter}")
        }
    }
}
