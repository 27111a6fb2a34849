//! What an HTTP/1.1 request asks a policy, read from its head.

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, HeaderValue, Method};

use crate::cors::{CorsRequest, Kind, RequestedHeaders, Semantics};
use crate::http1::fields::Fields as _;

use super::received::ReceivedRequest;

/// What a request asks a policy.
pub(crate) enum Question<'r> {
    /// Nothing: it is not a CORS request.
    NotCors,
    /// A preflight in the form that browsers send.
    Preflight(CorsRequest<'r>),
    /// Any other CORS request with at most one line for each CORS field.
    Actual(CorsRequest<'r>),
    /// A request that browsers do not send; these fields decide it.
    Unusual(HeaderMap),
}

impl<'r> Question<'r> {
    pub(crate) fn of(request: &'r ReceivedRequest<'_, '_>, semantics: Semantics) -> Self {
        let head = request.head;
        let is_options = request.method == Method::OPTIONS;
        let once = (
            head.origin.at_most_one(),
            head.requested_method.at_most_one(),
            head.requested_headers.at_most_one(),
        );
        let (Ok(origin), Ok(method), Ok(headers)) = once else {
            return Self::unusual(request);
        };
        // An empty origin counts as none.
        let origin = origin.filter(|origin| !origin.is_empty());
        let asks_as_s3 = is_options && semantics == Semantics::S3Exact;
        let Some(origin) = origin else {
            return match asks_as_s3 {
                true => Self::unusual(request),
                false => Self::NotCors,
            };
        };
        let kind = match (is_options, method) {
            (true, Some(_)) => Kind::Preflight,
            (true, None) if asks_as_s3 => return Self::unusual(request),
            _ => Kind::Actual,
        };
        let asked = CorsRequest {
            kind,
            origin,
            // S3 judges an actual request that carries Access-Control-Request-Method by that
            // method, as if it were the preflight (ceph/s3-tests, test_cors_origin_response).
            method: method.unwrap_or(head.method.as_bytes()),
            headers: headers.map_or(RequestedHeaders::NONE, RequestedHeaders::from_value),
        };
        match kind {
            Kind::Preflight => Self::Preflight(asked),
            Kind::Actual => Self::Actual(asked),
        }
    }

    #[cold]
    fn unusual(request: &ReceivedRequest<'_, '_>) -> Self {
        let mut fields = HeaderMap::new();
        for name in [
            ORIGIN,
            ACCESS_CONTROL_REQUEST_METHOD,
            ACCESS_CONTROL_REQUEST_HEADERS,
        ] {
            for value in request.head.fields.field_values(&name) {
                // The parser lets only valid values through.
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    fields.append(name.clone(), value);
                }
            }
        }
        Self::Unusual(fields)
    }
}
