//! Entry points for the fuzz targets only; not part of the API.

use http::{HeaderMap, HeaderValue};

use super::decision::Denial;
use super::policy::Policy;
use super::request::{CorsRequest, Kind, RequestedHeaders};

/// The response fields of an allowed request, from the code path without a header map.
#[derive(Debug)]
pub struct Allowed {
    /// The pattern that matched, like [`Allowance::pattern`](super::Allowance::pattern).
    pub pattern: usize,
    /// The field lines, without `Vary`.
    pub lines: Vec<u8>,
    /// The field names that the response's `Vary` must list.
    pub vary: Option<&'static HeaderValue>,
}

/// Decides about a request with a single `Origin` and `Access-Control-Request-Method`.
///
/// # Errors
///
/// The denial, like [`Policy::decide`].
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
