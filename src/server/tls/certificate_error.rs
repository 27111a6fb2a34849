//! Errors of a certificate, its key or an authority.

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
    /// A file is not PEM.
    #[error("{source}")]
    Pem {
        /// Which file.
        file: PairFile,
        /// Where and what.
        source: PemError,
    },
    /// The certificate file has no certificate.
    #[error("the file has no certificate")]
    NoCertificate,
    /// The key file has no key.
    #[error("the file has no private key")]
    NoKey,
    /// The key is encrypted.
    #[error("encrypted private keys are not supported")]
    EncryptedKey,
    /// The key file has several keys.
    #[error("line {line}: the file has a second private key")]
    SecondKey {
        /// Where it begins.
        line: usize,
    },
    /// A certificate cannot be read.
    #[error("line {line}: not a usable X.509 certificate")]
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
    /// The key belongs to another certificate.
    #[error("the key does not match the first certificate")]
    Mismatch,
}

/// A problem of a certificate that can still be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateWarning {
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It names no host, so it is served only to clients that ask for a name without a
    /// certificate.
    NoNames,
}

/// Why client certificates cannot be verified.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthoritiesError {
    /// The file is not PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The file has no certificate.
    #[error("the file has no certificate")]
    NoCertificate,
    /// A certificate cannot be parsed.
    #[error("line {line}: not a usable X.509 certificate")]
    InvalidCertificate {
        /// Where it begins.
        line: usize,
    },
}

impl CertificateError {
    /// Advice, if there is any; `chain` and `key` are the contents of the files.
    #[must_use]
    pub fn help(&self, chain: &[u8], key: &[u8]) -> Option<&'static str> {
        // DER begins with an ASN.1 SEQUENCE.
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
                Some("this is a key; `certificate` and `key` may be swapped")
            }
            Self::NoKey if has(key, "-----BEGIN CERTIFICATE-----") => {
                Some("this is a certificate; `certificate` and `key` may be swapped")
            }
            Self::NoCertificate | Self::NoKey => {
                Some("the file must be PEM, with `-----BEGIN …-----` lines")
            }
            Self::EncryptedKey => Some("`openssl pkey -in FILE` decrypts it"),
            Self::Mismatch => Some(
                "put the server's own certificate first in its file, followed by its intermediates; use the key that the certificate was issued for",
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
    /// The code of the diagnostic.
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
            Self::Expired => "the certificate has expired; clients will refuse it",
            Self::NotYetValid => "the certificate is not valid yet; clients will refuse it",
            Self::NoNames => "the certificate names no host; clients will refuse it",
        })
    }
}
