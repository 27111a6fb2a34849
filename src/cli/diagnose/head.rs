//! Heads of requests and responses in logs: lines, or names and values.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::cors::fetch::{Response, origin_of};

/// Fields that the page sends without any script.
const OF_PAGE: [&str; 6] = [
    "origin",
    "purpose",
    "referer",
    "upgrade-insecure-requests",
    "user-agent",
    "x-client-data",
];

/// Fields that the network adds.
const OF_NETWORK: [&str; 11] = [
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-length",
    "cookie",
    "dnt",
    "host",
    "pragma",
    "priority",
    "te",
];

/// Where a request's fields were recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Before the network added its own.
    InPage,
    /// As they were sent.
    OnWire,
}

/// A name, in lower case, and its value.
pub(super) type Field = (String, String);

/// The field of a line.
pub(super) fn field(line: &str) -> Option<Field> {
    // Skips HTTP/2 pseudo-headers such as `:method`.
    let from = usize::from(line.starts_with(':'));
    let colon = from + line.get(from..)?.find(':')?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default().trim();
    Some((name.trim().to_ascii_lowercase(), value.to_owned()))
}

/// The value of a field.
pub(super) fn value<'f>(fields: &'f [Field], name: &str) -> Option<&'f str> {
    let mut found = fields.iter().filter(|(other, _)| other == name);
    found.next().map(|(_, value)| value.as_str())
}

/// The fields that a script has set, as far as this can be known.
pub(super) fn of_script(fields: &[Field], recorded: Recorded) -> Vec<(HeaderName, HeaderValue)> {
    let set = fields.iter().filter(|(name, value)| {
        let is_added = name.starts_with(':')
            || name.starts_with("sec-")
            || (name == "accept" && value == "*/*")
            || OF_PAGE.contains(&&**name)
            || (recorded == Recorded::OnWire && OF_NETWORK.contains(&&**name));
        !is_added
    });
    let parsed = set.filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    parsed.collect()
}

/// Builds a response's head from its CORS fields and its location.
pub(super) fn response(status: u16, fields: impl Iterator<Item = Field>) -> Option<Response> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        if !name.starts_with("access-control-") && name != "location" {
            continue;
        }
        let parsed = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value.as_bytes()),
        );
        if let (Ok(name), Ok(value)) = parsed {
            // No server sends more fields than this.
            if headers.len() < 100 {
                headers.append(name, value);
            }
        }
    }
    Some(Response {
        status: StatusCode::from_u16(status).ok()?,
        headers,
    })
}

/// The status in a line such as `HTTP/1.1 200 OK`.
pub(super) fn status(line: &str) -> Option<u16> {
    let mut words = line.split_whitespace();
    words
        .next()
        .filter(|version| version.to_ascii_uppercase().starts_with("HTTP"))?;
    words.next()?.parse().ok()
}

/// Whether the text is an origin as browsers write it; `None` if not.
pub(super) fn origin(text: &str) -> Option<String> {
    if text == "null" {
        return Some(text.to_owned());
    }
    origin_of(text).filter(|origin| origin == text)
}
