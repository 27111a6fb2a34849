//! What answers requests for the CORS configurations of a route's buckets, and what it is asked.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

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
    /// Answers one; nothing is forwarded.
    fn respond<'r>(
        &'r self,
        request: ApiRequest<'r>,
    ) -> Pin<Box<dyn Future<Output = ApiResponse> + 'r>>;
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
    /// `None`: the request is for the service, or stores could read different buckets from it.
    pub bucket: Option<String>,
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
