//! A CORS request that was refused, as the log shows it.

use crate::cors::{Denial, Kind, RequestedHeaders};
use crate::routing::client::Client;
use crate::routing::snapshot::{RoutePolicy, Snapshot};

/// A refused request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DenialRecord<'r> {
    /// The route's name.
    pub(crate) route: &'r str,
    /// What its bucket can be found in; `None` where no route serves the host.
    pub(crate) snapshot: Option<&'r Snapshot>,
    /// What was refused.
    pub(crate) asking: DeniedRequest<'r>,
    /// Why.
    pub(crate) denial: &'r Denial,
    /// Who says so; `None` where no route serves the host.
    pub(crate) policy: Option<&'r RoutePolicy>,
    /// Under which the client knows the request; empty where it does not.
    pub(crate) request_id: &'r str,
}

/// Who asks for what, as counts and logs tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeniedRequest<'r> {
    pub(crate) kind: Kind,
    /// The request's host, as it came.
    pub(crate) host: &'r [u8],
    /// `Origin`, as it came.
    pub(crate) origin: &'r [u8],
    /// The method that rules were asked for.
    pub(crate) method: &'r [u8],
    pub(crate) path: &'r str,
    /// `Access-Control-Request-Headers`.
    pub(crate) headers: RequestedHeaders<'r>,
    /// Whose connection it is.
    pub(crate) client: Client,
    /// The last line of `X-Forwarded-For`, as it came.
    pub(crate) forwarded_for: Option<&'r [u8]>,
}
