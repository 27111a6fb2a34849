//! The cryptography of every TLS connection, to clients and to upstreams: aws-lc-rs.
//!
//! Compared with ring, it adds the hybrid post-quantum key exchange X25519MLKEM768, which browsers
//! offer first, for about the same CPU time.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{CipherSuite, SupportedCipherSuite};

pub use rustls::crypto::aws_lc_rs::Ticketer;
pub use rustls::crypto::aws_lc_rs::sign::any_supported_type;

/// The provider for all configs, with the cheapest cipher suites first.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = default_provider();
        provider.cipher_suites.sort_by_key(cost);
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// AES-128 with SHA-256 comes first: CPUs have instructions for both, but none for SHA-384, which
/// takes a fifth of a new connection's CPU time.
fn cost(suite: &SupportedCipherSuite) -> u8 {
    match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        _ => 1,
    }
}
