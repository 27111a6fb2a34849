//! The interface to the API for CORS configurations of a route's buckets.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode};

use crate::tls::digest::ContentHash;
use crate::upstream::request_body::RequestBody;

/// The API for CORS configurations of a route's buckets.
#[derive(Clone, Debug)]
pub struct CorsApi {
    /// Handles its requests.
    pub handler: Arc<dyn BucketCorsApi>,
    /// Changes whenever the responses could change.
    pub version: ContentHash,
}

/// Handles requests for CORS configurations of a route's buckets.
pub trait BucketCorsApi: fmt::Debug + Send + Sync {
    /// Responds to a request.
    fn respond<'r>(
        &'r self,
        request: ApiRequest<'r>,
    ) -> Pin<Box<dyn Future<Output = ApiResponse> + 'r>>;

    /// Background work, dropped when no snapshot has this API any more.
    fn run(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()>>>;

    /// Work to do before requests are served, if any. `Err`: why none can be served.
    fn prepare(&self) -> Option<Preparing<'_>>;

    /// Its state, for `/status`.
    fn status(&self) -> ApiStatus;
}

/// Work to do before requests are served.
pub type Preparing<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// The state of an API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiStatus {
    /// `authorize` of the config.
    pub authorize: &'static str,
    /// The state of each upstream that authorizes changes.
    pub upstreams: Vec<AuthorizingUpstream>,
    /// The bucket that stores policies, if there is one.
    pub store: Option<StoreStatus>,
}

/// The state of a bucket of policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// The bucket.
    pub bucket: String,
    /// The number of policies in the copy.
    pub policies: usize,
    /// When the copy was last known to be up to date.
    pub polled_at: Option<SystemTime>,
    /// When the copy went out of date, if it is.
    pub out_of_date_since: Option<SystemTime>,
    /// Why it is out of date.
    pub error: Option<String>,
    /// Invalid objects, for which an older copy is in force: bucket and error.
    pub invalid: Vec<(String, String)>,
}

/// The state of an upstream that authorizes changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizingUpstream {
    /// Its URL.
    pub upstream: String,
    /// Whether the API works with it; `None`: unknown so far.
    pub is_on: Option<bool>,
    /// Why the API does not work with it.
    pub reason: Option<String>,
    /// Since when.
    pub since: Option<SystemTime>,
}

/// A request for a bucket's CORS configuration.
pub struct ApiRequest<'r> {
    /// GET, PUT or DELETE.
    pub method: &'r Method,
    /// The path, still encoded.
    pub path: &'r str,
    /// The query, without its question mark.
    pub query: &'r str,
    /// The host of the request.
    pub host: &'r [u8],
    /// All other fields.
    pub headers: &'r HeaderMap,
    /// The fields that an upstream would get, including `Host`.
    pub forwarded: &'r HeaderMap,
    /// `None`: the request addresses the service. `Err`: why stores could find different buckets in
    /// it.
    pub bucket: Result<Option<String>, &'static str>,
    /// The unread body.
    pub body: &'r mut RequestBody,
    /// `RequestId` of an error document.
    pub request_id: &'r str,
    /// `HostId` of an error document.
    pub host_id: &'r str,
}

/// The response.
#[derive(Debug)]
pub struct ApiResponse {
    /// The status.
    pub status: StatusCode,
    /// The body, in XML.
    pub document: Option<String>,
}
