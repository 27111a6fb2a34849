//! The labels of a route's traffic.

/// A direction in which body bytes were transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Request bodies, from clients.
    ClientReceived,
    /// Response bodies, to clients.
    ClientSent,
    /// Request bodies, to upstreams.
    UpstreamSent,
    /// Response bodies, from upstreams.
    UpstreamReceived,
}

impl Transfer {
    /// How many directions there are.
    pub(super) const COUNT: usize = 4;
}

/// Why a request was sent to an upstream again: the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// No connection could be opened.
    Connect,
    /// No connection was free in time.
    Busy,
    /// The upstream closed a kept-alive connection as it was used again.
    Closed,
    /// The upstream did nothing with the request: HTTP/2's REFUSED_STREAM or GOAWAY.
    Refused,
}

impl RetryReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Connect, Self::Busy, Self::Closed, Self::Refused];

    /// The value of the `reason` label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::Refused => "refused",
        }
    }
}
