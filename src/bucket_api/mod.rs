//! GetBucketCors, PutBucketCors and DeleteBucketCors for the buckets of a route, as S3 answers them.
//!
//! Signature V4 is checked here, and nothing is forwarded. Policies live in the route's directory of
//! buckets: a document that was put is a file like any other, which the reload puts in force.

mod authorization;
mod checksums;
mod directory;
mod error;
mod keys;
mod query;
mod sigv4;
mod time;

use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::cors::{CorsConfiguration, MAX_DOCUMENT, Options, Severity, check_document};
use crate::metrics::{BucketCorsOperation, BucketCorsRequests};
use crate::routing::cors_api::{ApiRequest, ApiResponse, BucketCorsApi};
use crate::telemetry::LogLimiter;
use crate::tls::digest::sha256;
use crate::upstream::request_body::RequestBody;

use directory::StoreError;

pub use directory::PolicyDirectory;
pub use error::ApiError;
pub use keys::{Key, Keys};
pub use sigv4::{SignedHead, Verified, verify};

/// How long a client may take to send a document.
const BODY_TIME: Duration = Duration::from_secs(30);

/// How long a change may wait for another writer.
const LOCK_TIME: Duration = Duration::from_secs(3);

/// How often it tries in that time.
const LOCK_RETRY: Duration = Duration::from_millis(20);

const EXPECTED_OWNER: &str = "x-amz-expected-bucket-owner";

thread_local! {
    /// Limits the lines about refused requests, per worker.
    static LOG: LogLimiter<1> = LogLimiter::default();
}

/// The API of one route.
#[derive(Debug)]
pub struct BucketApi {
    /// The `route` label of metrics and log.
    pub route: Box<str>,
    /// Who may configure which buckets.
    pub keys: Arc<Keys>,
    /// The region that signatures are for.
    pub region: Box<str>,
    /// The account that owns the buckets; `None`: it is not known.
    pub owner: Option<Box<str>>,
    /// Where the documents are.
    pub store: PolicyDirectory,
    /// What documents are checked with.
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
}

/// What a request that succeeds is answered with.
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
                tracing::info!(
                    suppressed,
                    "more requests for CORS configurations were refused"
                );
            })
        });
        if shows {
            tracing::info!(
                route = &*self.route,
                operation = operation.as_str(),
                id,
                code,
                "a request for a bucket's CORS configuration was refused"
            );
        }
    }

    async fn carry_out(
        &self,
        operation: BucketCorsOperation,
        request: ApiRequest<'_>,
    ) -> Result<Done, ApiError> {
        let head = SignedHead {
            method: request.method.as_str(),
            path: request.path,
            query: request.query,
            host: request.host,
            headers: request.headers,
        };
        let verified = verify(&head, &self.keys, &self.region, SystemTime::now())?;
        let bucket = request.bucket.as_deref().ok_or_else(|| {
            let message = "The specified method is not allowed against this resource.";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
                .with("Method", request.method.as_str())
                .with("ResourceType", "SERVICE")
        })?;
        if !is_bucket_name(bucket) {
            let message = "The specified bucket is not valid.";
            return Err(
                ApiError::bad_request("InvalidBucketName", message).with("BucketName", bucket)
            );
        }
        if !verified.key.may_configure(bucket) {
            return Err(ApiError::access_denied("Access Denied"));
        }
        self.check_owner(request.headers)?;
        // A client that is refused has not sent its document for nothing.
        let body = read(request.body).await?;
        checksums::check_signed(&verified, &body)?;
        match operation {
            BucketCorsOperation::Get => self.get(bucket).await,
            BucketCorsOperation::Put => {
                checksums::check_document(&verified, request.headers, &body)?;
                self.check_document(&body)?;
                let before = self.replace(bucket, Some(body.clone())).await?;
                self.audit(
                    operation,
                    &verified.key_id,
                    bucket,
                    before.as_deref(),
                    Some(&body),
                );
                Ok(Done::Stored)
            }
            BucketCorsOperation::Delete => {
                let before = self.replace(bucket, None).await?;
                self.audit(operation, &verified.key_id, bucket, before.as_deref(), None);
                Ok(Done::Removed)
            }
        }
    }

    fn check_owner(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(expected) = headers.get(EXPECTED_OWNER) else {
            return Ok(());
        };
        let expected = expected.as_bytes();
        if expected.len() != 12 || !expected.iter().all(u8::is_ascii_digit) {
            let message =
                "The value of the expected bucket owner parameter must be an AWS account ID.";
            let error = ApiError::bad_request("InvalidBucketOwnerAWSAccountID", message);
            return Err(error.with("AWSAccountID", String::from_utf8_lossy(expected)));
        }
        match self.owner.as_deref() {
            Some(owner) if owner.as_bytes() == expected => Ok(()),
            _ => Err(ApiError::access_denied("Access Denied")),
        }
    }

    /// Refuses a document that S3 refuses, with S3's code and message.
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
        let (store, name) = (self.store.clone(), bucket.to_owned());
        let document = on_disk(move || store.read(&name)).await;
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

    /// Waits for the lock of the store without a thread.
    async fn replace(
        &self,
        bucket: &str,
        document: Option<Bytes>,
    ) -> Result<Option<Vec<u8>>, ApiError> {
        let deadline = Instant::now() + LOCK_TIME;
        loop {
            let (store, name, document) = (self.store.clone(), bucket.to_owned(), document.clone());
            match on_disk(move || store.replace(&name, document.as_deref())).await {
                Ok(before) => return Ok(before),
                Err(StoreError::Busy(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(LOCK_RETRY).await;
                }
                Err(error) => return Err(self.store_failed(&error)),
            }
        }
    }

    fn store_failed(&self, error: &StoreError) -> ApiError {
        let route = &*self.route;
        match error {
            StoreError::Busy(_) => {
                let seconds = LOCK_TIME.as_secs();
                tracing::warn!(route, %error, seconds, "a CORS configuration was not changed");
                let message = "Please reduce your request rate.";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", message)
            }
            _ => {
                tracing::error!(route, %error, "the store of CORS configurations failed");
                internal_error()
            }
        }
    }

    /// Logs a change: who, which bucket, from what to what.
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
            "a bucket's CORS configuration was changed"
        );
    }
}

/// Runs what may wait for the disk, on a thread for that.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Stopped(error)),
    }
}

fn internal_error() -> ApiError {
    let message = "We encountered an internal error. Please try again.";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
}

/// Whether a name is one that a bucket can have, and so is the name of a file, too.
///
/// [S3's rules], except that old buckets may be longer than 63 bytes and have `_` or `..` in them. Capitals,
/// which old buckets may have too, are refused: a load warns of such files.
///
/// [S3's rules]: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
fn is_bucket_name(name: &str) -> bool {
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |byte: &u8| is_end(byte) || matches!(byte, b'.' | b'-' | b'_');
    let bytes = name.as_bytes();
    (3..=250).contains(&bytes.len())
        && bytes.first().is_some_and(is_end)
        && bytes.last().is_some_and(is_end)
        && bytes.iter().all(is_part)
        && name.parse::<Ipv4Addr>().is_err()
}

/// Reads a body of at most [`MAX_DOCUMENT`].
async fn read(body: &mut RequestBody) -> Result<Bytes, ApiError> {
    let limited = Limited::new(body, MAX_DOCUMENT);
    match tokio::time::timeout(BODY_TIME, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::bad_request(
            "MalformedXML",
            crate::cors::MALFORMED_XML,
        )),
        Ok(Err(_)) => {
            let message = "You did not provide the number of bytes specified by the Content-Length \
                           HTTP header.";
            Err(ApiError::bad_request("IncompleteBody", message))
        }
        Err(_) => {
            let message = "Your socket connection to the server was not read from or written to \
                           within the timeout period.";
            Err(ApiError::bad_request("RequestTimeout", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_bucket_name;

    #[test]
    fn a_bucket_has_a_name_that_s3_allows() {
        let (longest, too_long) = ("a".repeat(250), "a".repeat(251));
        let cases = [
            ("photos", true),
            ("my-photos.2024_old", true),
            ("007", true),
            ("1.2.3", true),
            ("pho..tos", true),
            (&*longest, true),
            ("Photos", false),
            ("photoS", false),
            ("PHOTOS", false),
            ("ab", false),
            (&*too_long, false),
            (".photos", false),
            ("-photos", false),
            ("photos-", false),
            ("photos.", false),
            ("_photos", false),
            ("192.168.5.4", false),
            ("phötos", false),
            ("pho tos", false),
            ("pho/tos", false),
            ("pho\0tos", false),
            ("", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_bucket_name(name), expected, "{name:?}");
        }
    }
}
