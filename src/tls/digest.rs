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

impl ContentHash {
    /// Reads what `Display` writes; `None`: it is something else.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut hash = Self([0; 32]);
        if text.len() != 2 * hash.0.len() {
            return None;
        }
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        for (byte, digits) in hash.0.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = digits else { return None };
            *byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
        }
        Some(hash)
    }
}

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
            let hash = sha256(text.as_bytes());
            assert_eq!(hash.to_string(), digest);
            assert_eq!(ContentHash::parse(digest.as_bytes()), Some(hash));
            assert_eq!(ContentHash::parse(&digest.as_bytes()[1..]), None);
            assert_eq!(
                ContentHash::parse(digest.replace('b', "x").as_bytes()),
                None
            );
        }
    }
}
