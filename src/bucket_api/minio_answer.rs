//! A request to MinIO, and the meaning of its answer.

use std::fmt;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use crate::routing::snapshot::HostHeader;
use crate::upstream::direct::DirectConn;
use crate::upstream::endpoint::Upstream;
use crate::upstream::error::Error;

use super::error::ApiError;
use super::upstream_error::UpstreamError;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Why the API is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The upstream cannot be reached.
    Unreachable(String),
    /// It answers 501 to an unsigned request.
    Unauthenticated,
    /// It does not answer like MinIO.
    NotMinio(StatusCode),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the upstream is unreachable: {why}"),
            Self::Unauthenticated => f.write_str(
                "the upstream answers 501 to requests without a signature, so its 501 does not prove a permission; upgrade MinIO to a release that checks ?cors requests first, or set authorize = \
                 \"keys\"",
            ),
            Self::NotMinio(status) => write!(
                f,
                "the upstream answered {} to PutBucketCors, but MinIO answers 403 or 501; if it is not MinIO, set \
                 authorize = \"keys\"",
                status.as_str()
            ),
        }
    }
}

/// The request, as sent in both steps.
pub(super) struct Asked<'r> {
    pub(super) method: Method,
    pub(super) target: String,
    /// The target without the signature's parameters.
    pub(super) unsigned_target: String,
    pub(super) fields: &'r HeaderMap,
    pub(super) body: Bytes,
}

/// A connection to one upstream.
pub(super) struct Asking<'a> {
    pub(super) conn: DirectConn<'a>,
    pub(super) upstream: &'a Upstream,
    pub(super) host_header: HostHeader,
}

impl Asking<'_> {
    /// Sends the request without its signature; returns the server that refused it, or the
    /// problem.
    pub(super) async fn unsigned(
        &mut self,
        asked: &Asked<'_>,
        method: Method,
    ) -> Result<Result<Option<HeaderValue>, Problem>, Error> {
        let mut request = self.request(method, &asked.unsigned_target, asked);
        request.headers_mut().remove(AUTHORIZATION);
        request.headers_mut().remove("x-amz-security-token");
        let response = self.conn.send(request, MAX_ANSWER).await?;
        let is_refused = response.status() == StatusCode::FORBIDDEN
            && UpstreamError::read(response.body()).is_some();
        Ok(match response.status() {
            _ if is_refused => Ok(server_of(&response)),
            StatusCode::NOT_IMPLEMENTED => Err(Problem::Unauthenticated),
            status => Err(Problem::NotMinio(status)),
        })
    }

    pub(super) async fn signed(&mut self, asked: &Asked<'_>) -> Result<Response<Bytes>, Error> {
        let request = self.request(asked.method.clone(), &asked.target, asked);
        self.conn.send(request, MAX_ANSWER).await
    }

    fn request(&self, method: Method, target: &str, asked: &Asked<'_>) -> Request<Bytes> {
        let mut request = Request::new(asked.body.clone());
        *request.method_mut() = method;
        // The target was parsed, so it can be written.
        *request.uri_mut() = target.parse().unwrap_or_default();
        *request.headers_mut() = asked.fields.clone();
        for name in [CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING] {
            request.headers_mut().remove(name);
        }
        if self.host_header == HostHeader::Upstream || !request.headers().contains_key(HOST) {
            let authority = self.upstream.authority.clone();
            request.headers_mut().insert(HOST, authority);
        }
        request
    }
}

/// The server that answered, as MinIO identifies it; `None` if it does not.
pub(super) fn server_of(response: &Response<Bytes>) -> Option<HeaderValue> {
    response.headers().get("x-amz-id-2").cloned()
}

/// The meaning of the answer to the signed request.
pub(super) enum Verdict {
    Allowed,
    Refused(ApiError),
    NotMinio(StatusCode),
}

impl Verdict {
    pub(super) fn of(response: &Response<Bytes>, asked: &Asked<'_>, bucket: &str) -> Self {
        let status = response.status();
        let error = UpstreamError::read(response.body());
        let Some(error) = error.filter(|_| status.is_client_error() || status.is_server_error())
        else {
            return Self::NotMinio(status);
        };
        let means_yes = match (status, &*error.code) {
            (StatusCode::NOT_IMPLEMENTED, "NotImplemented") => true,
            // MinIO authorizes this request, and has no configuration to return.
            (StatusCode::NOT_FOUND, "NoSuchCORSConfiguration") => asked.method == Method::GET,
            _ => false,
        };
        match means_yes {
            true if is_for(&error, asked, bucket) => Self::Allowed,
            true => Self::Refused(ApiError::access_denied(
                "The store reads another bucket from this request.",
            )),
            false => Self::Refused(error.passed_on()),
        }
    }
}

/// Whether the upstream read the same bucket from the request, as far as the answer shows.
fn is_for(error: &UpstreamError, asked: &Asked<'_>, bucket: &str) -> bool {
    let path = asked.target.split('?').next().unwrap_or_default();
    let resource = error
        .resource
        .as_deref()
        .filter(|resource| !resource.is_empty());
    let key = error.key.as_deref().unwrap_or_default();
    let named = error.bucket.as_deref().filter(|named| !named.is_empty());
    named.is_none_or(|named| named == bucket)
        && key.is_empty()
        && resource.is_none_or(|resource| {
            let own = resource.trim_matches('/');
            own == path.trim_matches('/') || own == bucket
        })
}
