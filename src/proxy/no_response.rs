//! Why an upstream gave no response, and whether the request may be repeated.

use crate::upstream::balance::InFlight;
use crate::upstream::error::Error;
use crate::upstream::request_body::RequestBody;

/// Why a request got no response on a connection.
pub(crate) struct NoResponse {
    pub(crate) fate: Fate,
    pub(crate) error: Error,
    /// The body from its beginning; `None`: part of it is gone.
    pub(crate) body: Option<RequestBody>,
    /// Whether the connection had already carried a request.
    pub(crate) was_reused: bool,
    pub(crate) in_flight: InFlight,
}

/// How much of a failed request the upstream may have processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing of it was sent.
    Unsent,
    /// The upstream refused it without processing it (HTTP/2).
    Refused {
        /// Whether the connection accepts no more requests.
        ends: bool,
    },
    /// The connection ended; the upstream may have processed the request.
    Cut,
    /// It failed in another way, and another try would not help.
    Unknown,
}
