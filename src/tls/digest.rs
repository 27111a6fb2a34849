//! The SHA-256 of a file's bytes.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> ContentHash {
    let digest = digest(&SHA256, bytes);
    ContentHash(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// The SHA-256 of some bytes. `Display` is hexadecimal, as `sha256sum` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
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
