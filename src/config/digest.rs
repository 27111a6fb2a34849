//! What a file's bytes are, in short.

use rustls::crypto::hash::Hash;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

use crate::proxy::snapshot::ContentHash;

/// The SHA-256 of some bytes, taken from the TLS library, which has it anyway.
#[must_use]
pub fn sha256(bytes: &[u8]) -> ContentHash {
    let digest = hash().hash(bytes);
    ContentHash(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn hash() -> &'static dyn Hash {
    let suite = TLS13_AES_128_GCM_SHA256.tls13();
    suite.expect("a suite of TLS 1.3").common.hash_provider
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of FIPS 180-2, appendix B.
    #[test]
    fn it_is_sha_256() {
        for (text, digest) in [
            (
                "",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                "abc",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
        ] {
            assert_eq!(sha256(text.as_bytes()).to_string(), digest);
        }
    }
}
