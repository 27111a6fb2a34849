//! Why an upstream gave no response, and whether the request may be sent again.

use crate::upstream::balance::InFlight;
use crate::upstream::error::Error;
use crate::upstream::request_body::RequestBody;

/// Why a request got no response on a connection.
pub(crate) struct NoResponse {
    pub(crate) fate: Fate,
    pub(crate) error: Error,
    /// The body from its beginning; `None`: some of it is gone.
    pub(crate) body: Option<RequestBody>,
    /// Whether the connection had carried a request before.
    pub(crate) was_reused: bool,
    pub(crate) in_flight: InFlight,
}

/// What is known of a request that got no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing of it left us.
    Unsent,
    /// The upstream did nothing with it, and said so (HTTP/2).
    Refused {
        /// Whether the connection takes no more requests.
        ends: bool,
    },
    /// The connection ended; whether the upstream did anything with it is not known.
    Cut,
    /// It failed in another way, and another try would not help.
    Unknown,
}
