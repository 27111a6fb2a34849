//! What is wrong with a certificate, its key or an authority.

use std::fmt;

use thiserror::Error;

use super::pem::PemError;

/// Which of a pair's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairFile {
    /// The chain of certificates.
    Certificate,
    /// The key.
    Key,
}

/// Why a certificate cannot be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file is no PEM.
    #[error("{source}")]
    Pem {
        /// Which file.
        file: PairFile,
        /// Where and what.
        source: PemError,
    },
    /// The first file has no certificate.
    #[error("no certificate in it")]
    NoCertificate,
    /// The second file has no key.
    #[error("no private key in it")]
    NoKey,
    /// The key needs a passphrase.
    #[error("encrypted private keys are not supported")]
    EncryptedKey,
    /// The second file has several keys.
    #[error("line {line}: a second private key")]
    SecondKey {
        /// Where it begins.
        line: usize,
    },
    /// A certificate cannot be read.
    #[error("line {line}: no X.509 certificate that can be served")]
    InvalidCertificate {
        /// Where it begins.
        line: usize,
    },
    /// The key cannot be used.
    #[error(
        "line {line}: {problem}; use RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519"
    )]
    InvalidKey {
        /// Where it begins.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The key is another certificate's.
    #[error("the key is not the one of the first certificate")]
    Mismatch,
}

/// What is odd about a certificate that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateWarning {
    /// It is past its end.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It names no host, so it is only served to those that ask for a name that no other has.
    NoNames,
}

/// Why clients' certificates cannot be checked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthoritiesError {
    /// The file is no PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The file has no certificate.
    #[error("no certificate in it")]
    NoCertificate,
    /// A certificate cannot be read.
    #[error("line {line}: no X.509 certificate that can be trusted")]
    InvalidCertificate {
        /// Where it begins.
        line: usize,
    },
}

impl CertificateError {
    /// What to do about it, where that is known; `chain` and `key` are what was read.
    #[must_use]
    pub fn help(&self, chain: &[u8], key: &[u8]) -> Option<&'static str> {
        // A SEQUENCE of ASN.1, which all of these are below their PEM.
        let is_der = |bytes: &[u8]| bytes.starts_with(&[0x30]);
        let has = |bytes: &[u8], mark: &str| {
            let mut parts = bytes.windows(mark.len());
            parts.any(|part| part == mark.as_bytes())
        };
        match self {
            Self::NoCertificate if is_der(chain) => {
                Some("this looks like DER: `openssl x509 -inform DER -in FILE` writes it as PEM")
            }
            Self::NoKey if is_der(key) => {
                Some("this looks like DER: `openssl pkey -inform DER -in FILE` writes it as PEM")
            }
            Self::NoCertificate if has(chain, "PRIVATE KEY-----") => {
                Some("this is a key: `certificate` and `key` may have changed places")
            }
            Self::NoKey if has(key, "-----BEGIN CERTIFICATE-----") => {
                Some("this is a certificate: `certificate` and `key` may have changed places")
            }
            Self::NoCertificate | Self::NoKey => {
                Some("the file has to be PEM, with `-----BEGIN …-----` lines")
            }
            Self::EncryptedKey => Some("`openssl pkey -in FILE` writes it without"),
            Self::Mismatch => Some(
                "the server's own certificate stands first in its file, those that vouch for it \
                 behind; the key has to be the one that it was made with",
            ),
            Self::Pem { .. }
            | Self::SecondKey { .. }
            | Self::InvalidCertificate { .. }
            | Self::InvalidKey { .. } => None,
        }
    }

    /// Which file it is about.
    #[must_use]
    pub fn file(&self) -> PairFile {
        match self {
            Self::Pem { file, .. } => *file,
            Self::NoCertificate | Self::InvalidCertificate { .. } => PairFile::Certificate,
            Self::NoKey
            | Self::EncryptedKey
            | Self::SecondKey { .. }
            | Self::InvalidKey { .. }
            | Self::Mismatch => PairFile::Key,
        }
    }
}

impl CertificateWarning {
    /// Its code in diagnostics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Expired => "certificate-expired",
            Self::NotYetValid => "certificate-not-yet-valid",
            Self::NoNames => "certificate-without-names",
        }
    }
}

impl fmt::Display for CertificateWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the certificate is past its end: clients will refuse it",
            Self::NotYetValid => "the certificate is not valid yet: clients will refuse it",
            Self::NoNames => "the certificate names no host: clients will refuse it",
        })
    }
}
