//! Authorizes requests that read or change a bucket's CORS configuration.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::routing::cors_api::{ApiRequest, ApiStatus, AuthorizingUpstream};

use super::body;
use super::bucket_name::check_name;
use super::error::{ApiError, method_not_allowed, unclear};
use super::keys::Keys;
use super::minio::MinioCheck;
use super::query::Query;
use super::sigv4::{Claims, SignedHead, Verified, verify};

const EXPECTED_OWNER: &str = "x-amz-expected-bucket-owner";

/// How the API authorizes requests.
#[derive(Debug)]
pub enum Authorize {
    /// By a signature that s3cors verifies.
    Keys {
        /// The keys, each with its buckets.
        keys: Arc<Keys>,
        /// The region that signatures must be for.
        region: Box<str>,
    },
    /// By the answer of the upstream, which must be MinIO.
    Minio(MinioCheck),
}

/// A request that is allowed, as far as its head shows.
pub(super) struct Authorized {
    pub(super) claims: Claims,
    pub(super) bucket: String,
    pub(super) body: Bytes,
}

impl Authorize {
    /// Authorizes the request; `owner` is the account that owns the buckets.
    pub(super) async fn allow(
        &self,
        request: ApiRequest<'_>,
        owner: Option<&str>,
    ) -> Result<Authorized, ApiError> {
        let bucket = request.bucket.clone().map_err(unclear)?;
        let query = Query::parse(request.query);
        if request.query.contains(';') {
            return Err(unclear("some stores split its query at `;`"));
        }
        if !query.has("cors") {
            return Err(unclear("only some stores find `cors` in its query"));
        }
        if !matches!(*request.method, Method::GET | Method::PUT | Method::DELETE) {
            return Err(method_not_allowed(request.method, "BUCKET"));
        }
        let service = || method_not_allowed(request.method, "SERVICE");
        let now = SystemTime::now();
        match self {
            Self::Keys { keys, region } => {
                let head = SignedHead {
                    method: request.method.as_str(),
                    path: request.path,
                    query: request.query,
                    host: request.host,
                    headers: request.headers,
                };
                let Verified { claims, key } = verify(&head, keys, region, now)?;
                let bucket = bucket.ok_or_else(service)?;
                check_name(&bucket)?;
                if !key.may_configure(&bucket) {
                    return Err(ApiError::access_denied("Access Denied"));
                }
                check_owner(owner, request.headers)?;
                // Refused before the body, so that the client does not send its document in vain.
                let body = body::read(request.body).await?;
                Ok(Authorized {
                    claims,
                    bucket,
                    body,
                })
            }
            Self::Minio(minio) => {
                // Only fields that the upstream also receives and verifies.
                let claims = Claims::of(request.forwarded, &query, now)?;
                let bucket = bucket.ok_or_else(service)?;
                check_name(&bucket)?;
                let body = body::read(request.body).await?;
                minio.check(&request, &bucket, body.clone()).await?;
                check_owner(owner, request.headers)?;
                Ok(Authorized {
                    claims,
                    bucket,
                    body,
                })
            }
        }
    }

    /// Background work.
    pub(super) async fn run(&self) {
        match self {
            Self::Keys { .. } => {}
            Self::Minio(minio) => minio.keep_probing().await,
        }
    }

    pub(super) fn status(&self) -> ApiStatus {
        let (authorize, minio) = match self {
            Self::Keys { .. } => ("keys", None),
            Self::Minio(minio) => ("upstream", Some(minio)),
        };
        let states = minio.into_iter().flat_map(MinioCheck::states);
        let upstreams = states.map(|(upstream, state)| {
            let problem = state.as_ref().and_then(|state| state.problem.as_ref());
            AuthorizingUpstream {
                upstream,
                is_on: state.as_ref().map(|state| state.problem.is_none()),
                reason: problem.map(ToString::to_string),
                since: state.as_ref().map(|state| state.since),
            }
        });
        ApiStatus {
            authorize,
            upstreams: upstreams.collect(),
            store: None,
        }
    }
}

fn check_owner(owner: Option<&str>, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(expected) = headers.get(EXPECTED_OWNER) else {
        return Ok(());
    };
    let expected = expected.as_bytes();
    if expected.len() != 12 || !expected.iter().all(u8::is_ascii_digit) {
        let message = "The value of the expected bucket owner parameter must be an AWS account ID.";
        let error = ApiError::bad_request("InvalidBucketOwnerAWSAccountID", message);
        return Err(error.with("AWSAccountID", String::from_utf8_lossy(expected)));
    }
    match owner {
        Some(owner) if owner.as_bytes() == expected => Ok(()),
        _ => Err(ApiError::access_denied("Access Denied")),
    }
}
