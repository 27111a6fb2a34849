//! Why an upstream did not answer a request.

/// Why a request got no complete response from its upstream: the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamFailure {
    /// No connection was free and none could be opened, because of a limit or for lack of file
    /// descriptors.
    Busy,
    /// The name could not be looked up.
    Dns,
    /// No connection was established in time.
    ConnectTimeout,
    /// The connection was refused or failed.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// No response head arrived in time.
    ResponseHeadTimeout,
    /// The connection closed before a response arrived.
    Closed,
    /// The answer is not a valid HTTP response.
    InvalidResponse,
    /// The response's body ended early or stalled.
    Body,
    /// The upstream leads back to this proxy.
    Loop,
}

impl UpstreamFailure {
    /// Every failure.
    pub const ALL: [Self; 10] = [
        Self::Busy,
        Self::Dns,
        Self::ConnectTimeout,
        Self::Connect,
        Self::Tls,
        Self::ResponseHeadTimeout,
        Self::Closed,
        Self::InvalidResponse,
        Self::Body,
        Self::Loop,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Dns => "dns",
            Self::ConnectTimeout => "connect_timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::ResponseHeadTimeout => "response_head_timeout",
            Self::Closed => "closed",
            Self::InvalidResponse => "invalid_response",
            Self::Body => "body",
            Self::Loop => "loop",
        }
    }
}
