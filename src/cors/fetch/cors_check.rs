//! The [CORS check](https://fetch.spec.whatwg.org/#concept-cors-check), which every response must
//! pass.

use http::header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN};

use super::exchange::{Credentials, Response};
use super::failure::{OriginValue, Reason};
use super::field::combined;

/// Checks that `response` allows a page of `origin` to read it.
pub(super) fn cors_check(
    response: &Response,
    origin: &str,
    credentials: Credentials,
) -> Result<(), Reason> {
    let headers = &response.headers;
    // Steps 1 and 2.
    let Some(value) = combined(headers, &ACCESS_CONTROL_ALLOW_ORIGIN) else {
        return Err(Reason::MissingAllowOrigin(response.status));
    };
    // Step 3.
    if value == "*" {
        return match credentials {
            Credentials::Omit | Credentials::SameOrigin => Ok(()),
            Credentials::Include => Err(Reason::WildcardWithCredentials),
        };
    }
    // Step 4.
    if value != origin {
        let fields = headers.get_all(ACCESS_CONTROL_ALLOW_ORIGIN).iter().count();
        return Err(Reason::Origin(OriginValue {
            value,
            fields,
            status: response.status,
        }));
    }
    // Steps 5 to 8.
    if credentials == Credentials::Include {
        let allowed = combined(headers, &ACCESS_CONTROL_ALLOW_CREDENTIALS).unwrap_or_default();
        if allowed != "true" {
            return Err(Reason::Credentials(allowed));
        }
    }
    Ok(())
}
