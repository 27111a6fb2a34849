//! The four S3 API calls that a store of policies needs: get, put and delete an object, and list
//! objects.
//!
//! Requests use the route's own upstreams, with their addresses, TLS settings and limits, and are
//! signed by the code that verifies clients' signatures, which is tested against AWS's examples
//! and botocore. `object_store` would add its own HTTP client, TLS and name lookup (some 190
//! crates more); `rusty-s3` only signs, and adds `url` with IDNA and its Unicode tables, and a
//! date library (some 40 crates), for the few lines of [`sign`].

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HOST, HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use md5::{Digest as _, Md5};

use crate::cors::MAX_DOCUMENT;
use crate::upstream::direct::DirectConn;
use crate::upstream::endpoint::Upstream;
use crate::upstream::error::Error;

use super::listing::Listing;
use super::query::encoded;
use super::sigv4::{SignedHead, hex, sign};
use super::time::BasicTime;
use super::upstream_error::UpstreamError;

/// The time limit for an answer of the store.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest list of 1000 objects, in bytes.
const MAX_LIST: usize = 4 << 20;

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// An access key of the store.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreKey {
    /// Its id.
    pub id: Box<str>,
    /// Its secret.
    pub secret: Box<str>,
}

/// Without the secret.
impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("the store is unreachable: {0}")]
    Unreachable(String),
    /// The key lacks a permission.
    #[error("the store refused `{call}` with 403 {code}")]
    Denied { call: &'static str, code: String },
    #[error("the bucket does not exist in the store")]
    NoSuchBucket,
    /// Another writer was faster.
    #[error("the object was changed at the same time")]
    Changed,
    /// The store does not support conditional requests.
    #[error("the store does not support conditional requests")]
    Unconditional,
    #[error("the store answered `{call}` with status {status} {code}")]
    Unexpected {
        call: &'static str,
        status: u16,
        code: String,
    },
    #[error("the store answered `{0}` with an invalid document")]
    Malformed(&'static str),
    #[error("the bucket has more than {0} policies")]
    TooMany(usize),
}

impl ClientError {
    /// Whether other calls would fail, too.
    pub(super) fn is_about_the_store(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Denied { .. } | Self::NoSuchBucket
        )
    }
}

/// A stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredObject {
    pub(super) document: Bytes,
    /// Without its quotes.
    pub(super) etag: String,
}

/// The precondition of a change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition<'c> {
    Always,
    /// The object has this ETag.
    Is(&'c str),
    /// The object does not exist.
    Absent,
}

/// A bucket of a store, and the key for it.
#[derive(Debug)]
pub struct S3Client {
    /// Tried in this order, healthy ones first.
    pub upstreams: Box<[Arc<Upstream>]>,
    /// The bucket.
    pub bucket: Box<str>,
    /// The prefix of its objects' names.
    pub prefix: Box<str>,
    /// The region that requests are signed for.
    pub region: Box<str>,
    /// The access key.
    pub key: StoreKey,
}

/// A connection to the store.
pub(super) struct Session<'c> {
    client: &'c S3Client,
    conn: DirectConn<'c>,
    host: HeaderValue,
}

/// An unsigned call.
struct Call {
    name: &'static str,
    method: Method,
    path: String,
    query: String,
    fields: HeaderMap,
    body: Bytes,
    most: usize,
}

impl S3Client {
    /// Connects.
    pub(super) async fn open(&self) -> Result<Session<'_>, ClientError> {
        let is_healthy = |upstream: &&Arc<Upstream>| upstream.condition().is_healthy;
        let healthy = self.upstreams.iter().filter(is_healthy);
        let others = self
            .upstreams
            .iter()
            .filter(|upstream| !is_healthy(upstream));
        let mut failure = ClientError::Unreachable("the route has no upstream".into());
        for upstream in healthy.chain(others) {
            match DirectConn::open(upstream, PATIENCE).await {
                Ok(conn) => {
                    return Ok(Session {
                        client: self,
                        conn,
                        host: upstream.authority.clone(),
                    });
                }
                Err(error) => failure = unreachable(&error),
            }
        }
        Err(failure)
    }
}

fn unreachable(error: &Error) -> ClientError {
    ClientError::Unreachable(match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

impl Session<'_> {
    /// An object; `None` if it does not exist.
    pub(super) async fn get(&mut self, name: &str) -> Result<Option<StoredObject>, ClientError> {
        const CALL: &str = "GetObject";
        let call = self.call(CALL, Method::GET, name, Bytes::new());
        let response = self
            .send(Call {
                most: 16 * MAX_DOCUMENT,
                ..call
            })
            .await?;
        match response.status() {
            StatusCode::OK => {
                let etag = etag_of(&response).ok_or(ClientError::Malformed(CALL))?;
                let document = response.into_body();
                Ok(Some(StoredObject { document, etag }))
            }
            StatusCode::NOT_FOUND if code_of(&response) == "NoSuchKey" => Ok(None),
            _ => Err(failure(CALL, &response)),
        }
    }

    /// Writes an object; returns its ETag.
    pub(super) async fn put(
        &mut self,
        name: &str,
        document: &Bytes,
        condition: Condition<'_>,
    ) -> Result<String, ClientError> {
        const CALL: &str = "PutObject";
        let mut call = self.call(CALL, Method::PUT, name, document.clone());
        let md5 = Md5::digest(document);
        insert(&mut call.fields, CONTENT_MD5, &BASE64_STANDARD.encode(md5));
        insert(&mut call.fields, CONTENT_TYPE, "application/xml");
        condition.add(&mut call.fields);
        let response = self.send(call).await?;
        match response.status() {
            StatusCode::OK => Ok(etag_of(&response).unwrap_or_else(|| hex(&md5))),
            _ => Err(conditional(failure(CALL, &response), condition)),
        }
    }

    /// Removes an object.
    pub(super) async fn delete(
        &mut self,
        name: &str,
        condition: Condition<'_>,
    ) -> Result<(), ClientError> {
        const CALL: &str = "DeleteObject";
        let mut call = self.call(CALL, Method::DELETE, name, Bytes::new());
        condition.add(&mut call.fields);
        let response = self.send(call).await?;
        match response.status() {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(conditional(failure(CALL, &response), condition)),
        }
    }

    /// A page of the objects with the prefix.
    pub(super) async fn list(&mut self, after: Option<&str>) -> Result<Listing, ClientError> {
        const CALL: &str = "ListObjectsV2";
        let mut query = String::new();
        if let Some(token) = after {
            // Writing to memory does not fail.
            let _ = write!(
                query,
                "continuation-token={}&",
                encoded(token.as_bytes(), false)
            );
        }
        let prefix = encoded(self.client.prefix.as_bytes(), false);
        let _ = write!(query, "list-type=2&max-keys=1000&prefix={prefix}");
        let call = Call {
            name: CALL,
            method: Method::GET,
            path: format!("/{}", self.client.bucket),
            query,
            fields: HeaderMap::new(),
            body: Bytes::new(),
            most: MAX_LIST,
        };
        let response = self.send(call).await?;
        match response.status() {
            StatusCode::OK => Listing::read(response.body()).ok_or(ClientError::Malformed(CALL)),
            _ => Err(failure(CALL, &response)),
        }
    }

    fn call(&self, name: &'static str, method: Method, object: &str, body: Bytes) -> Call {
        let key = format!("{}{object}", self.client.prefix);
        Call {
            name,
            method,
            path: format!("/{}/{}", self.client.bucket, encoded(key.as_bytes(), true)),
            query: String::new(),
            fields: HeaderMap::new(),
            body,
            most: MAX_DOCUMENT,
        }
    }

    async fn send(&mut self, call: Call) -> Result<Response<Bytes>, ClientError> {
        let Call {
            name,
            method,
            path,
            query,
            mut fields,
            body,
            most,
        } = call;
        let now = SystemTime::now();
        let payload = hex(digest(&SHA256, &body).as_ref());
        insert(&mut fields, X_AMZ_CONTENT_SHA256, &payload);
        insert(&mut fields, X_AMZ_DATE, BasicTime::of(now).as_str());
        let head = SignedHead {
            method: method.as_str(),
            path: &path,
            query: &query,
            host: self.host.as_bytes(),
            headers: &fields,
        };
        let client = self.client;
        let authorization = sign(
            &head,
            (&client.key.id, &client.key.secret),
            &client.region,
            &payload,
            now,
        );
        insert(&mut fields, http::header::AUTHORIZATION, &authorization);
        fields.insert(HOST, self.host.clone());
        let target = match query.is_empty() {
            true => path,
            false => format!("{path}?{query}"),
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().map_err(|_| ClientError::Malformed(name))?;
        *request.headers_mut() = fields;
        let response = self.conn.send(request, most).await;
        response.map_err(|error| match error {
            // The body is too large, or ends too early.
            Error::Unacceptable { .. } => ClientError::Malformed(name),
            error => unreachable(&error),
        })
    }
}

impl Condition<'_> {
    fn add(self, fields: &mut HeaderMap) {
        match self {
            Self::Always => {}
            Self::Is(etag) => insert(fields, IF_MATCH, &format!("\"{etag}\"")),
            Self::Absent => insert(fields, IF_NONE_MATCH, "*"),
        }
    }
}

/// All values here are visible ASCII.
fn insert(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

fn etag_of(response: &Response<Bytes>) -> Option<String> {
    let etag = response.headers().get(ETAG)?.to_str().ok()?;
    Some(etag.trim_matches('"').to_owned())
}

fn code_of(response: &Response<Bytes>) -> String {
    UpstreamError::read(response.body()).map_or_else(String::new, |error| error.code)
}

fn failure(call: &'static str, response: &Response<Bytes>) -> ClientError {
    let (status, code) = (response.status(), code_of(response));
    match (status, &*code) {
        (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, _) => ClientError::Denied { call, code },
        (StatusCode::NOT_FOUND, "NoSuchBucket") => ClientError::NoSuchBucket,
        (StatusCode::PRECONDITION_FAILED, _)
        | (StatusCode::CONFLICT, "ConditionalRequestConflict") => ClientError::Changed,
        _ => ClientError::Unexpected {
            call,
            status: status.as_u16(),
            code,
        },
    }
}

/// A store without conditional requests answers in one of these ways.
fn conditional(error: ClientError, condition: Condition<'_>) -> ClientError {
    match (&error, condition) {
        (_, Condition::Always) => error,
        // If-Match on a deleted object.
        (ClientError::Unexpected { status: 404, .. }, _) => ClientError::Changed,
        (
            ClientError::Unexpected {
                status: 400 | 501, ..
            },
            _,
        ) => ClientError::Unconditional,
        _ => error,
    }
}
