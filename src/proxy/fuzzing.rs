//! Entry points for the fuzz targets only; not part of the API.

use http::{Version, request, response};

use crate::http1::request_rules::requests_upgrade;
use crate::routing::client::{Client, TrustedProxies};
use crate::routing::host::Host;
use crate::routing::snapshot::Forwarding;
use crate::upstream::error::Error;

use super::header_map;

/// Edits a request for its upstream, as far as that does not depend on the upstream.
///
/// # Errors
///
/// The request's host or target is invalid.
pub fn to_upstream(
    request: &mut request::Parts,
    client: Client,
    forwarding: Forwarding,
) -> Result<(), Error> {
    header_map::check_target(request)?;
    if let Some(authority) = header_map::authority(request)? {
        Host::parse(authority).map_err(|_| Error::InvalidHost)?;
    }
    if request.version == Version::HTTP_2 {
        header_map::join_cookies(&mut request.headers);
    }
    let upgrade = requests_upgrade(request.version, &request.headers);
    let proxies = TrustedProxies::default();
    header_map::to_upstream(request, client, forwarding, &proxies, upgrade);
    Ok(())
}

/// Edits a response for its client, except for the policy's fields.
pub fn to_client(response: &mut response::Parts, forwarding: Forwarding) {
    header_map::to_client(response, forwarding);
}
