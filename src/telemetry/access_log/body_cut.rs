//! Why a client did not get all of a response's body, as the access log reports it.

/// Which side cut a response's body short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyCut {
    /// The client left or stopped reading, or a drain ended before the response did.
    Client,
    /// The upstream's connection or stream ended too early, or its body was invalid.
    Upstream,
    /// The upstream sent nothing for `route.timeouts.body_idle_seconds`.
    Idle,
}

impl BodyCut {
    /// Its value in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Idle => "idle",
        }
    }
}
