//! Entry points for the fuzz targets only; not part of the API.

use http::{HeaderMap, HeaderValue};

use super::decision::Denial;
use super::policy::Policy;
use super::request::{CorsRequest, Kind, RequestedHeaders};

/// An allowed request's response fields, from the path that builds no map of the request's fields.
#[derive(Debug)]
pub struct Allowed {
    /// The pattern that matched, as [`Allowance::pattern`](super::Allowance::pattern).
    pub pattern: usize,
    /// The field lines, without `Vary`.
    pub lines: Vec<u8>,
    /// What the response's `Vary` has to name.
    pub vary: Option<&'static HeaderValue>,
}

/// Decides on a request whose `Origin` and `Access-Control-Request-Method` stand once.
///
/// # Errors
///
/// As [`Policy::decide`].
pub fn answer(
    policy: &Policy,
    kind: Kind,
    origin: &[u8],
    method: &[u8],
    fields: &HeaderMap,
) -> Result<Allowed, Denial> {
    let request = CorsRequest {
        kind,
        origin,
        method,
        headers: RequestedHeaders::from_fields(fields),
    };
    let allowed = policy.answer(&request)?;
    let mut lines = Vec::new();
    allowed.write(&mut lines);
    if kind == Kind::Actual {
        let _ = allowed.write_extension(&mut lines);
    }
    Ok(Allowed {
        pattern: allowed.pattern(),
        lines,
        vary: policy.vary(kind, true),
    })
}
