//! What a route says of its policies, beside the document.

use http::Method;

/// Where S3's own behaviour is a trap for whoever stands behind a cache or is no bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Semantics {
    /// `Vary: Origin` on every response, so that no cache keeps one without CORS fields for a
    /// page that needs them; `OPTIONS` that is no preflight is forwarded.
    #[default]
    Safe,
    /// As Amazon S3: no `Vary` where no rule matched, and every `OPTIONS` is a preflight.
    S3Exact,
}

/// What a policy is compiled with, besides the document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// Safe, or exactly as S3.
    pub semantics: Semantics,
    /// Methods beyond [`S3_METHODS`](super::S3_METHODS) that rules may allow, for upstreams that are not S3.
    pub extra_methods: Vec<Method>,
}
