//! GetBucketCors, PutBucketCors and DeleteBucketCors for a route's buckets, with S3's responses.
//!
//! Signature V4 is verified here with the keys of a file, or the upstream authorizes the request
//! (`minio`); nothing else is forwarded. Policies are in the route's directory of buckets, or in
//! a bucket of the object store with a copy in a directory: an uploaded document is a file like
//! any other, which a reload applies.

mod authorization;
mod authorize;
mod body;
mod bucket_name;
mod bucket_store;
mod checksums;
mod directory;
mod error;
mod keys;
mod listing;
mod minio;
mod minio_answer;
mod policy_mirror;
mod policy_sync;
mod query;
mod s3_client;
mod sigv4;
mod store;
mod supervisor;
mod time;
mod upstream_error;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::cors::{CorsConfiguration, Options, Severity, check_document};
use crate::metrics::{BucketCorsOperation, BucketCorsRequests};
use crate::routing::cors_api::{ApiRequest, ApiResponse, ApiStatus, BucketCorsApi, Preparing};
use crate::telemetry::LogLimiter;
use crate::tls::digest::sha256;

use authorize::Authorized;
use directory::StoreError;
use error::internal_error;

pub use authorize::Authorize;
pub use bucket_store::{BucketStore, BucketStoreSettings};
pub use directory::PolicyDirectory;
pub use error::ApiError;
pub use keys::{Key, Keys};
pub use minio::MinioCheck;
pub use s3_client::{S3Client, StoreKey};
pub use sigv4::{Claims, SignedHead, Verified, verify};
pub use store::Store;
pub use supervisor::supervise;

thread_local! {
    /// Limits the log lines about refused requests, per worker.
    static LOG: LogLimiter<1> = LogLimiter::default();
}

/// The API of a route.
#[derive(Debug)]
pub struct BucketApi {
    /// The `route` label of metrics and log.
    pub route: Box<str>,
    /// How requests are authorized.
    pub authorize: Authorize,
    /// The account that owns the buckets; `None` if unknown.
    pub owner: Option<Box<str>>,
    /// The store of the documents.
    pub store: Store,
    /// The options for checking documents.
    pub options: Options,
    /// Counts requests.
    pub requests: BucketCorsRequests,
}

impl BucketCorsApi for BucketApi {
    fn respond<'r>(
        &'r self,
        request: ApiRequest<'r>,
    ) -> Pin<Box<dyn Future<Output = ApiResponse> + 'r>> {
        Box::pin(self.answer(request))
    }

    fn run(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            tokio::join!(self.authorize.run(), self.store.run());
        })
    }

    fn status(&self) -> ApiStatus {
        ApiStatus {
            store: self.store.status(),
            ..self.authorize.status()
        }
    }

    fn prepare(&self) -> Option<Preparing<'_>> {
        Some(Box::pin(self.store.bucket()?.prepare()))
    }
}

/// The result of a successful request.
enum Done {
    Document(String),
    Stored,
    Removed,
}

impl BucketApi {
    async fn answer(&self, request: ApiRequest<'_>) -> ApiResponse {
        let operation = match *request.method {
            Method::PUT => BucketCorsOperation::Put,
            Method::DELETE => BucketCorsOperation::Delete,
            _ => BucketCorsOperation::Get,
        };
        let (request_id, host_id) = (request.request_id, request.host_id);
        match self.carry_out(operation, request).await {
            Ok(done) => {
                self.requests.count(operation, "OK");
                let (status, document) = match done {
                    Done::Document(document) => (StatusCode::OK, Some(document)),
                    Done::Stored => (StatusCode::OK, None),
                    Done::Removed => (StatusCode::NO_CONTENT, None),
                };
                ApiResponse { status, document }
            }
            Err(error) => {
                self.requests.count(operation, error.code);
                self.log_refusal(operation, request_id, error.code);
                ApiResponse {
                    status: error.status,
                    document: Some(error.to_xml(request_id, host_id)),
                }
            }
        }
    }

    /// Rate-limited: anyone can send requests that are refused.
    fn log_refusal(&self, operation: BucketCorsOperation, id: &str, code: &str) {
        let shows = LOG.with(|log| {
            log.take(0, Instant::now(), |suppressed| {
                tracing::info!(suppressed, "more requests for CORS configurations refused");
            })
        });
        if shows {
            tracing::info!(
                route = &*self.route,
                operation = operation.as_str(),
                id,
                code,
                "request for a bucket's CORS configuration refused"
            );
        }
    }

    async fn carry_out(
        &self,
        operation: BucketCorsOperation,
        request: ApiRequest<'_>,
    ) -> Result<Done, ApiError> {
        let headers = request.headers;
        let owner = self.owner.as_deref();
        let authorized = self.authorize.allow(request, owner).await?;
        let Authorized {
            claims,
            bucket,
            body,
        } = authorized;
        let bucket = &*bucket;
        checksums::check_signed(&claims, &body)?;
        match operation {
            BucketCorsOperation::Get => self.get(bucket).await,
            BucketCorsOperation::Put => {
                checksums::check_document(&claims, headers, &body)?;
                self.check_document(&body)?;
                let before = self.replace(bucket, Some(body.clone())).await?;
                self.audit(
                    operation,
                    &claims.key_id,
                    bucket,
                    before.as_deref(),
                    Some(&body),
                );
                Ok(Done::Stored)
            }
            BucketCorsOperation::Delete => {
                let before = self.replace(bucket, None).await?;
                self.audit(operation, &claims.key_id, bucket, before.as_deref(), None);
                Ok(Done::Removed)
            }
        }
    }

    /// Rejects a document that S3 rejects, with S3's code and message.
    fn check_document(&self, body: &[u8]) -> Result<(), ApiError> {
        let checked = check_document(body, self.options.clone());
        let errors = checked.problems.into_iter();
        let error = errors
            .filter(|problem| problem.severity == Severity::Error)
            .map(|problem| (problem.code, problem.message))
            .next();
        match error {
            Some((code, message)) => Err(ApiError::bad_request(code, message)),
            None => Ok(()),
        }
    }

    async fn get(&self, bucket: &str) -> Result<Done, ApiError> {
        let document = self.store.read(bucket).await;
        let document = document.map_err(|error| self.store_failed(&error))?;
        let document = document.ok_or_else(|| {
            let message = "The CORS configuration does not exist";
            ApiError::new(StatusCode::NOT_FOUND, "NoSuchCORSConfiguration", message)
                .with("BucketName", bucket)
        })?;
        let configuration = CorsConfiguration::from_xml(&document).map_err(|error| {
            tracing::warn!(route = &*self.route, bucket, %error, "a bucket's policy file is invalid");
            internal_error()
        })?;
        Ok(Done::Document(configuration.to_xml()))
    }

    async fn replace(
        &self,
        bucket: &str,
        document: Option<Bytes>,
    ) -> Result<Option<Vec<u8>>, ApiError> {
        let replaced = self.store.replace(bucket, document).await;
        replaced.map_err(|error| self.store_failed(&error))
    }

    fn store_failed(&self, error: &StoreError) -> ApiError {
        let route = &*self.route;
        match error {
            StoreError::Busy(_) | StoreError::Full => {
                tracing::warn!(route, %error, "CORS configuration not changed");
                let message = "Please reduce your request rate.";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", message)
            }
            StoreError::Store(_) => {
                tracing::error!(route, %error, "the store of CORS configurations failed");
                let message = "Service is unable to handle request.";
                ApiError::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "ServiceUnavailable",
                    message,
                )
            }
            _ => {
                tracing::error!(route, %error, "the store of CORS configurations failed");
                internal_error()
            }
        }
    }

    /// Logs a change: the key, the bucket, and the old and new documents.
    fn audit(
        &self,
        operation: BucketCorsOperation,
        key_id: &str,
        bucket: &str,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) {
        let hash = |document: Option<&[u8]>| match document {
            Some(document) => sha256(document).to_string(),
            None => "none".to_owned(),
        };
        tracing::info!(
            route = &*self.route,
            operation = operation.as_str(),
            key_id,
            bucket,
            before = hash(before),
            after = hash(after),
            "bucket's CORS configuration changed"
        );
    }
}
