//! Certificates with their keys, and authorities for client certificates: parsed from PEM and
//! checked.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use webpki::EndEntityCert;

use crate::tls::{provider, validity};

use super::certificate_error::{AuthoritiesError, CertificateError, CertificateWarning, PairFile};
use super::pem;
use super::pem::{Block, Content};

/// A chain of certificates and the key of the first one.
#[derive(Clone)]
pub struct Certificate {
    name: Arc<str>,
    pub(super) key: Arc<CertifiedKey>,
    /// The names that it is valid for, in lower case.
    pub(super) names: Arc<[Box<str>]>,
    not_before: SystemTime,
    not_after: SystemTime,
    unsent: Option<usize>,
}

/// The authorities for client certificates.
#[derive(Clone, Debug)]
pub struct ClientAuthorities {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    certificates: Arc<[CertificateDer<'static>]>,
}

impl Certificate {
    /// Parses a chain, the server's own certificate first, and its key. `name` identifies it in
    /// metrics.
    ///
    /// # Errors
    ///
    /// The first error in the files, or a mismatch of the two.
    pub fn from_pem(name: &str, chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let in_file = |file| move |source| CertificateError::Pem { file, source };
        let blocks = pem::blocks(chain).map_err(in_file(PairFile::Certificate))?;
        let chain = certificates(blocks);
        for (certificate, line) in &chain {
            let invalid = CertificateError::InvalidCertificate { line: *line };
            if EndEntityCert::try_from(certificate).is_err() {
                return Err(invalid);
            }
        }
        let (first, line) = chain.first().ok_or(CertificateError::NoCertificate)?;
        let invalid = || CertificateError::InvalidCertificate { line: *line };
        let (not_before, not_after) = validity::of(first).ok_or_else(invalid)?;
        let parsed = EndEntityCert::try_from(first).map_err(|_| invalid())?;
        let names = parsed.valid_dns_names().map(str::to_ascii_lowercase);
        let names = names.map(String::into_boxed_str).collect();

        let blocks = pem::blocks(key).map_err(in_file(PairFile::Key))?;
        let is_unsent = |block: &&Block| match &block.content {
            Content::Certificate(der) => chain.iter().all(|(one, _)| **one != **der),
            Content::Key(_) | Content::EncryptedKey => false,
        };
        let unsent = blocks.iter().find(is_unsent).map(|block| block.line);
        let (key, line) = private_key(blocks)?;
        let key = provider::any_supported_type(&key).map_err(|_| CertificateError::InvalidKey {
            line,
            problem: unsupported(&key),
        })?;
        let chain = chain.into_iter().map(|(certificate, _)| certificate);
        let key = CertifiedKey::new(chain.collect(), key);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(CertificateError::Mismatch),
        }
        Ok(Self {
            name: name.into(),
            key: Arc::new(key),
            names,
            not_before,
            not_after,
            unsent,
        })
    }

    /// Its name in metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// The chain and its key, in the library's form.
    #[must_use]
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// Its expiry time.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The line of a certificate that is only in the key's file, so it is not sent.
    #[must_use]
    pub fn unsent(&self) -> Option<usize> {
        self.unsent
    }

    /// Its problems at this time.
    #[must_use]
    pub fn warning(&self, now: SystemTime) -> Option<CertificateWarning> {
        if self.not_after < now {
            Some(CertificateWarning::Expired)
        } else if now < self.not_before {
            Some(CertificateWarning::NotYetValid)
        } else if self.names.is_empty() {
            Some(CertificateWarning::NoNames)
        } else {
            None
        }
    }
}

impl ClientAuthorities {
    /// Parses authorities' certificates.
    ///
    /// # Errors
    ///
    /// The first error in the file.
    pub fn from_pem(text: &[u8]) -> Result<Self, AuthoritiesError> {
        let (certificates, roots) = roots(text)?;
        let provider = provider::provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            // The builder could only object to revocation lists, and there are none.
            .map_err(|_| AuthoritiesError::NoCertificate)?;
        Ok(Self {
            verifier,
            certificates: certificates.into(),
        })
    }
}

/// Parses authorities' certificates, for servers or clients.
///
/// # Errors
///
/// The first error in the file.
pub fn authorities(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthoritiesError> {
    roots(text).map(|(certificates, _)| certificates)
}

fn roots(text: &[u8]) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), AuthoritiesError> {
    let mut certificates_read = Vec::new();
    let mut roots = RootCertStore::empty();
    for (certificate, line) in certificates(pem::blocks(text)?) {
        roots
            .add(certificate.clone())
            .map_err(|_| AuthoritiesError::InvalidCertificate { line })?;
        certificates_read.push(certificate);
    }
    if roots.is_empty() {
        return Err(AuthoritiesError::NoCertificate);
    }
    Ok((certificates_read, roots))
}

/// Equal chains have equal keys.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.key.cert == other.key.cert
    }
}

/// The same authorities in the same order.
impl PartialEq for ClientAuthorities {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("name", &self.name)
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn certificates(blocks: Vec<Block>) -> Vec<(CertificateDer<'static>, usize)> {
    let certificate = |block: Block| match block.content {
        Content::Certificate(der) => Some((der.into(), block.line)),
        Content::Key(_) | Content::EncryptedKey => None,
    };
    blocks.into_iter().filter_map(certificate).collect()
}

/// The only key of a file, and its line. A file may contain both the key and the chain.
fn private_key(blocks: Vec<Block>) -> Result<(PrivateKeyDer<'static>, usize), CertificateError> {
    let mut found = None;
    for Block { content, line } in blocks {
        match content {
            Content::Certificate(_) => {}
            Content::EncryptedKey => return Err(CertificateError::EncryptedKey),
            Content::Key(_) if found.is_some() => return Err(CertificateError::SecondKey { line }),
            Content::Key(key) => found = Some((key, line)),
        }
    }
    found.ok_or(CertificateError::NoKey)
}

/// Why a DER key is not supported, from the object identifier of its algorithm or curve.
fn unsupported(key: &PrivateKeyDer<'_>) -> &'static str {
    const RSA: &str = "the RSA key is too short, too long or damaged";
    const KINDS: [(&[u8], &str); 6] = [
        // RFC 5480 §2.1.1.1 and SEC 2.
        (
            b"\x06\x05\x2b\x81\x04\x00\x0a",
            "ECDSA keys on the curve secp256k1 are not supported",
        ),
        (
            b"\x06\x05\x2b\x81\x04\x00\x21",
            "ECDSA keys on the curve P-224 are not supported",
        ),
        // RFC 8410 §3.
        (b"\x06\x03\x2b\x65\x71", "Ed448 keys are not supported"),
        // RFC 4055 §3.1.
        (
            b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a",
            "RSA-PSS keys are not supported",
        ),
        // RFC 3279 §2.3.1 and §2.3.2.
        (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", RSA),
        (
            b"\x06\x07\x2a\x86\x48\xce\x38\x04\x01",
            "DSA keys are not supported",
        ),
    ];
    let der = key.secret_der();
    if matches!(key, PrivateKeyDer::Pkcs1(_)) {
        return RSA;
    }
    let has = |oid: &[u8]| der.windows(oid.len()).any(|part| part == oid);
    let known = KINDS.iter().find(|(oid, _)| has(oid));
    known.map_or("the private key is unusable", |(_, problem)| *problem)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key);
        (certificate.unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_pair_has_its_names_and_its_expiry_time() {
        let (chain, key) = pair(&["A.example", "*.b.example", "127.0.0.1"]);
        let both = format!("{key}{chain}");
        let one = Certificate::from_pem("site.crt", both.as_bytes(), both.as_bytes()).unwrap();
        assert_eq!(
            one.names.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["a.example", "*.b.example"]
        );
        let now = SystemTime::now();
        assert_eq!(one.warning(now), None);
        let second = Duration::from_secs(1);
        let ended = one.not_after() + second;
        assert_eq!(one.warning(ended), Some(CertificateWarning::Expired));
        let early = one.not_before - second;
        assert_eq!(one.warning(early), Some(CertificateWarning::NotYetValid));
        let (chain, key) = pair(&[]);
        let nameless = Certificate::from_pem("", chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(nameless.warning(now), Some(CertificateWarning::NoNames));
    }

    #[test]
    fn a_key_that_is_not_supported_is_named() {
        let (chain, _) = pair(&["a.example"]);
        for (oid, expected) in [
            (&b"\x06\x05\x2b\x81\x04\x00\x0a"[..], "curve secp256k1"),
            (b"\x06\x03\x2b\x65\x71", "Ed448"),
            (
                b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01",
                "RSA key is too short",
            ),
        ] {
            let key = PrivateKeyDer::Pkcs8(oid.to_vec().into());
            assert!(
                unsupported(&key).contains(expected),
                "{}",
                unsupported(&key)
            );
        }
        let rsa = "-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n";
        let error = Certificate::from_pem("x", chain.as_bytes(), rsa.as_bytes()).unwrap_err();
        assert!(
            error.to_string().starts_with("line 1: the RSA key is"),
            "{error}"
        );
        assert!(
            error.to_string().contains("use RSA of 2048 bits or more"),
            "{error}"
        );
    }

    #[test]
    fn a_certificate_in_the_key_file_only_is_noticed() {
        let (chain, key) = pair(&["a.example"]);
        let (other, _) = pair(&["b.example"]);
        let read = |key: &str| Certificate::from_pem("x", chain.as_bytes(), key.as_bytes());
        assert_eq!(read(&format!("{chain}{key}")).unwrap().unsent(), None);
        let lines = chain.lines().count() + 1;
        let both = format!("{chain}{other}{key}");
        assert_eq!(read(&both).unwrap().unsent(), Some(lines));
    }

    #[test]
    fn a_swapped_pair_gets_advice() {
        let (chain, key) = pair(&["a.example"]);
        let (other, _) = pair(&["a.example"]);
        let der = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        for (chain, key, expected) in [
            (key.as_bytes(), chain.as_bytes(), "may be swapped"),
            (chain.as_bytes(), chain.as_bytes(), "may be swapped"),
            (other.as_bytes(), key.as_bytes(), "own certificate first"),
            (&der, key.as_bytes(), "openssl x509 -inform DER"),
            (chain.as_bytes(), &der, "openssl pkey -inform DER"),
            (b"nothing", key.as_bytes(), "must be PEM"),
        ] {
            let error = Certificate::from_pem("", chain, key).unwrap_err();
            let help = error.help(chain, key).unwrap();
            assert!(help.contains(expected), "{error}: {help}");
        }
    }

    #[test]
    fn errors_of_a_pair_have_a_line() {
        let (chain, key) = pair(&["a.example"]);
        let (other, _) = pair(&["a.example"]);
        let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let broken_key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let cases = [
            (String::new(), key.clone(), "the file has no certificate"),
            (key.clone(), key.clone(), "the file has no certificate"),
            (chain.clone(), chain.clone(), "the file has no private key"),
            (other, key.clone(), "does not match the first certificate"),
            (
                chain.clone(),
                format!("{key}{key}"),
                "line 6: the file has a second",
            ),
            (broken.into(), key.clone(), "line 1: not a usable X.509"),
            (
                format!("{chain}{broken}"),
                key.clone(),
                ": not a usable X.509",
            ),
            (
                chain.clone(),
                broken_key.into(),
                "line 1: the private key is unusable",
            ),
            (chain.clone(), encrypted.into(), "encrypted private keys"),
            (chain.clone(), key[..60].into(), "line 1: a block without"),
            (chain[..60].into(), key, "line 1: a block without"),
        ];
        for (chain, key, expected) in cases {
            let error = Certificate::from_pem("x", chain.as_bytes(), key.as_bytes());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{error} ~ {expected}");
        }
    }

    #[test]
    fn authorities_are_certificates_and_at_least_one() {
        let (authority, key) = pair(&[]);
        let one = ClientAuthorities::from_pem(authority.as_bytes()).unwrap();
        let same = ClientAuthorities::from_pem(authority.as_bytes()).unwrap();
        let other = ClientAuthorities::from_pem(pair(&[]).0.as_bytes()).unwrap();
        assert!(one == same && one != other);
        let error = ClientAuthorities::from_pem(key.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "the file has no certificate");
    }
}
