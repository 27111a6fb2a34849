//! What answers requests for the CORS configurations of a route's buckets, and what it is asked.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode};

use crate::tls::digest::ContentHash;
use crate::upstream::request_body::RequestBody;

/// What answers requests for the CORS configurations of a route's buckets.
#[derive(Clone, Debug)]
pub struct CorsApi {
    /// Answers them.
    pub handler: Arc<dyn BucketCorsApi>,
    /// Differs whenever the answers could differ.
    pub version: ContentHash,
}

/// Answers requests for the CORS configurations of a route's buckets.
pub trait BucketCorsApi: fmt::Debug + Send + Sync {
    /// Answers one.
    fn respond<'r>(
        &'r self,
        request: ApiRequest<'r>,
    ) -> Pin<Box<dyn Future<Output = ApiResponse> + 'r>>;

    /// Background work; dropped when the snapshot no longer has this API.
    fn run(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()>>>;

    /// What it does before anything is served; `None`: nothing. `Err`: why nothing can be.
    fn prepare(&self) -> Option<Preparing<'_>>;

    /// Its state, for `/status`.
    fn status(&self) -> ApiStatus;
}

/// What an API does before anything is served.
pub type Preparing<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// The state of an API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiStatus {
    /// `authorize` of the config.
    pub authorize: &'static str,
    /// What is known of each upstream that is asked.
    pub upstreams: Vec<AskedUpstream>,
    /// Where policies are, if that is a bucket.
    pub store: Option<StoreStatus>,
}

/// How a bucket of policies fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// The bucket.
    pub bucket: String,
    /// How many policies the copy has.
    pub policies: usize,
    /// When the copy was last known to be the same.
    pub polled_at: Option<SystemTime>,
    /// Since when that has not been known.
    pub out_of_date_since: Option<SystemTime>,
    /// Why not.
    pub error: Option<String>,
    /// Objects that are not valid, so that an older copy is in force: bucket and error.
    pub invalid: Vec<(String, String)>,
}

/// An upstream that is asked who may change a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedUpstream {
    /// Its URL.
    pub upstream: String,
    /// `None`: not known yet.
    pub is_on: Option<bool>,
    /// Why the API is off with it.
    pub reason: Option<String>,
    /// Since when.
    pub since: Option<SystemTime>,
}

/// A request for a bucket's CORS configuration, as it was received.
pub struct ApiRequest<'r> {
    /// GET, PUT or DELETE.
    pub method: &'r Method,
    /// Encoded.
    pub path: &'r str,
    /// Without its question mark.
    pub query: &'r str,
    /// How the request names its host.
    pub host: &'r [u8],
    /// All other fields.
    pub headers: &'r HeaderMap,
    /// The fields as an upstream would get them, `Host` included.
    pub forwarded: &'r HeaderMap,
    /// `None`: the request is for the service. `Err`: why stores could read different buckets from it.
    pub bucket: Result<Option<String>, &'static str>,
    /// Not read yet.
    pub body: &'r mut RequestBody,
    /// `RequestId` of an error document.
    pub request_id: &'r str,
    /// `HostId` of an error document.
    pub host_id: &'r str,
}

/// The answer to it.
#[derive(Debug)]
pub struct ApiResponse {
    /// The status.
    pub status: StatusCode,
    /// The body, in XML.
    pub document: Option<String>,
}
