//! A CORS request that was refused, for the log.

use crate::cors::{Denial, Kind, RequestedHeaders};
use crate::routing::client::Client;
use crate::routing::snapshot::{RoutePolicy, Snapshot};

/// A refused request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DenialRecord<'r> {
    /// The route's name.
    pub(crate) route: &'r str,
    /// Used to find the bucket; `None`: no route serves the host.
    pub(crate) snapshot: Option<&'r Snapshot>,
    /// The refused request.
    pub(crate) denied: DeniedRequest<'r>,
    /// Why it was refused.
    pub(crate) denial: &'r Denial,
    /// The policy that refused it; `None`: no route serves the host.
    pub(crate) policy: Option<&'r RoutePolicy>,
    /// The ID that the client knows for the request; empty if it has none.
    pub(crate) request_id: &'r str,
}

/// A refused request, as counts and logs describe it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeniedRequest<'r> {
    pub(crate) kind: Kind,
    /// The request's host, as it came.
    pub(crate) host: &'r [u8],
    /// `Origin`, as it came.
    pub(crate) origin: &'r [u8],
    /// The method that was checked against the rules.
    pub(crate) method: &'r [u8],
    pub(crate) path: &'r str,
    /// `Access-Control-Request-Headers`.
    pub(crate) headers: RequestedHeaders<'r>,
    /// The client's connection.
    pub(crate) client: Client,
    /// The last line of `X-Forwarded-For`, as it came.
    pub(crate) forwarded_for: Option<&'r [u8]>,
}
