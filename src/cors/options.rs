//! A route's settings for its policies.

use http::Method;

/// How to handle S3 behaviours that cause problems with caches, or with hosts that are not buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Semantics {
    /// `Vary: Origin` on every response, so that no cache serves a response without CORS fields to
    /// a page that needs them; `OPTIONS` requests that are not preflights are forwarded.
    #[default]
    Safe,
    /// Like Amazon S3: no `Vary` without a matching rule, and every `OPTIONS` counts as a
    /// preflight.
    S3Exact,
}

/// What a policy is compiled with, besides the document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// Safe, or exactly like S3.
    pub semantics: Semantics,
    /// Methods beyond [`S3_METHODS`](super::S3_METHODS) that rules may allow, for upstreams that are not S3.
    pub extra_methods: Vec<Method>,
}
