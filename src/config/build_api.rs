//! The API of a route, made from its config.

use std::sync::Arc;

use crate::metrics::Metrics;
use crate::routing::cors_api::CorsApi;
use crate::routing::snapshot::Route;
use crate::upstream::endpoint::Upstream;

use super::cors_api::ApiRoute;
use super::route::RouteConfig;

/// The API of a route; that of `before` where it is the same.
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
