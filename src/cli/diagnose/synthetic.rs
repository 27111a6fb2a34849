//! Substitutes for missing parts of a recording.

use http::StatusCode;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, HeaderMap, HeaderValue,
};

use crate::cors::fetch::{Response, ScriptRequest};

/// The answer to a preflight that must have passed, because its request was sent.
pub(super) fn passing(request: &ScriptRequest) -> Response {
    let names: Vec<&str> = request
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let fields = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, request.origin.clone()),
        (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".to_owned()),
        (ACCESS_CONTROL_ALLOW_METHODS, request.method.clone()),
        (ACCESS_CONTROL_ALLOW_HEADERS, names.join(",")),
    ];
    let fields = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?)));
    Response {
        status: StatusCode::OK,
        headers: HeaderMap::from_iter(fields),
    }
}
