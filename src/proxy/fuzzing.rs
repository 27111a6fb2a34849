//! Entry points for the fuzz targets only; not part of the API.

use http::{Version, request, response};

use super::client::{Client, TrustedProxies};
use super::error::Error;
use super::forward;
use super::host::Host;
use super::snapshot::Forwarding;

/// Makes a request what its upstream gets, as far as that does not depend on the upstream.
///
/// # Errors
///
/// As for any request: its host or its target is none.
pub fn to_upstream(
    request: &mut request::Parts,
    client: Client,
    forwarding: Forwarding,
) -> Result<(), Error> {
    forward::check_target(request)?;
    Host::parse(forward::authority(request)?).map_err(|_| Error::InvalidHost)?;
    if request.version == Version::HTTP_2 {
        forward::join_cookies(&mut request.headers);
    }
    let upgrade = forward::wants_upgrade(request);
    let proxies = TrustedProxies::default();
    forward::to_upstream(request, client, forwarding, &proxies, upgrade);
    Ok(())
}

/// Makes a response what its client gets, the policy's fields apart.
pub fn to_client(response: &mut response::Parts, forwarding: Forwarding) {
    forward::to_client(response, forwarding);
}
