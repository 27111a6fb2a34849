//! Builds a route's API from its config.

use std::sync::Arc;

use crate::bucket_api::{
    Authorize, BucketApi, BucketStore, BucketStoreSettings, MinioCheck, PolicyDirectory, S3Client,
    Store, StoreKey,
};
use crate::cors::Options;
use crate::metrics::{BucketCorsRequests, Metrics};
use crate::routing::cors_api::CorsApi;
use crate::routing::snapshot::{HostHeader, Route};
use crate::tls::digest::sha256;
use crate::upstream::endpoint::Upstream;

use super::cors_api::{AuthorizeBy, CorsApiConfig};
use super::policy_store::PolicyStoreConfig;
use super::route::RouteConfig;

/// The API of a route; `before` if it is unchanged.
pub(super) fn cors_api(
    config: &RouteConfig,
    upstreams: &[Arc<Upstream>],
    metrics: &Metrics,
    before: Option<&Arc<Route>>,
) -> Option<CorsApi> {
    let route = ApiRoute {
        name: &config.name,
        options: &config.options,
        upstreams,
        host_header: config.host_header,
    };
    let before = before.and_then(|before| before.cors_api.as_ref());
    config.cors_api.as_ref()?.build(&route, metrics, before)
}

impl CorsApiConfig {
    /// The API; `before` if it is unchanged, or if the file of keys is invalid.
    fn build(
        &self,
        route: &ApiRoute<'_>,
        metrics: &Metrics,
        before: Option<&CorsApi>,
    ) -> Option<CorsApi> {
        let keys = match (self.authorize, &self.loaded) {
            (AuthorizeBy::Keys, None) => return before.cloned(),
            (AuthorizeBy::Keys, Some(loaded)) => Some(loaded),
            (AuthorizeBy::Upstream, _) => None,
        };
        let store = match &self.store {
            None => None,
            Some(store) => match &store.loaded {
                None => return before.cloned(),
                Some((key, content)) => Some((store, key, content)),
            },
        };
        // A kept upstream is the same object.
        let uses_upstreams = keys.is_none() || store.is_some();
        let upstreams = route.upstreams.iter().filter(|_| uses_upstreams);
        let upstreams: Vec<_> = upstreams
            .map(|upstream| Arc::as_ptr(upstream).addr())
            .collect();
        let description = format!(
            "{:?} {:?} {} {:?} {} {:?} {:?} {:?} {} {upstreams:?} {:?}",
            self.authorize,
            keys.map(|keys| keys.content),
            self.region,
            self.owner,
            self.directory.path.display(),
            self.defaults,
            store.map(|(store, _, content)| (&store.bucket, &store.prefix, store.poll, content)),
            route.options,
            route.name,
            route.host_header,
        );
        let version = sha256(description.as_bytes());
        if let Some(before) = before.filter(|before| before.version == version) {
            return Some(before.clone());
        }
        let authorize = match keys {
            Some(loaded) => Authorize::Keys {
                keys: Arc::clone(&loaded.keys),
                region: self.region.clone(),
            },
            None => Authorize::Minio(MinioCheck::new(
                route.name,
                route.upstreams,
                route.host_header,
            )),
        };
        let requests = metrics.bucket_cors_requests(route.name);
        let api = BucketApi {
            route: route.name.into(),
            authorize,
            owner: self.owner.clone(),
            store: match store {
                None => Store::Directory(PolicyDirectory::new(&self.directory.path)),
                Some((store, key, _)) => self.bucket_store(store, key, route, &requests),
            },
            options: route.options.clone(),
            requests,
        };
        Some(CorsApi {
            handler: Arc::new(api),
            version,
        })
    }
}

impl CorsApiConfig {
    fn bucket_store(
        &self,
        store: &PolicyStoreConfig,
        key: &StoreKey,
        route: &ApiRoute<'_>,
        requests: &BucketCorsRequests,
    ) -> Store {
        let client = S3Client {
            upstreams: route.upstreams.iter().cloned().collect(),
            bucket: store.bucket.clone(),
            prefix: store.prefix.clone(),
            region: self.region.clone(),
            key: key.clone(),
        };
        let settings = BucketStoreSettings {
            route: route.name.into(),
            client,
            cache: store.cache.path.clone(),
            poll: store.poll,
            options: route.options.clone(),
            requests: requests.clone(),
        };
        Store::Bucket {
            store: Box::new(BucketStore::new(settings)),
            defaults: self.defaults.as_deref().map(PolicyDirectory::new),
        }
    }
}

/// The route's properties that an API needs.
struct ApiRoute<'r> {
    name: &'r str,
    options: &'r Options,
    upstreams: &'r [Arc<Upstream>],
    host_header: HostHeader,
}
