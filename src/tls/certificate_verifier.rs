//! Decides whether to trust an upstream's certificate: by its chain to an authority, because it is
//! listed itself, or by its key.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use thiserror::Error;
use webpki::EndEntityCert;

use super::digest::sha256;
use super::{provider, validity};

/// The SHA-256 of a public key in the format of `pin`: `sha256/` and the base64 of the
/// SubjectPublicKeyInfo's hash ([RFC 7469 §2.4]).
///
/// [RFC 7469 §2.4]: https://www.rfc-editor.org/rfc/rfc7469#section-2.4
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

/// The text is not a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a pin must be `sha256/` followed by 32 bytes in base64")]
pub struct InvalidPin;

/// The key of an upstream's certificate is not pinned.
#[derive(Debug, Error)]
#[error("its key {0} is not in `upstream_tls.pin`")]
pub(crate) struct NotPinned(Pin);

impl Pin {
    /// A pin that matches no key.
    pub(crate) const NONE: Self = Self([0; 32]);

    /// The pin of a certificate's key.
    fn of(certificate: &EndEntityCert<'_>) -> Self {
        Self(sha256(&certificate.subject_public_key_info()).0)
    }
}

impl std::str::FromStr for Pin {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        // curl writes two slashes.
        let encoded = text.strip_prefix("sha256/").ok_or(InvalidPin)?;
        let encoded = encoded.strip_prefix('/').unwrap_or(encoded);
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| InvalidPin)?;
        bytes.try_into().map(Self).map_err(|_| InvalidPin)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checks an upstream's certificate against what the config lists.
#[derive(Debug)]
pub(crate) struct CertificateVerifier {
    /// `None`: only the pins decide.
    listed: Option<ListedCertificates>,
    /// If empty, any key that passes the other checks is accepted.
    pins: Arc<[Pin]>,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct ListedCertificates {
    certificates: Arc<[CertificateDer<'static>]>,
    /// The same certificates, as authorities.
    chains: Arc<WebPkiServerVerifier>,
}

impl CertificateVerifier {
    /// Trusts certificates that chain to `certificates`, and these certificates themselves; with
    /// `pins`, only those that also have a pinned key. Without `certificates`, a pinned key is
    /// trusted whatever the certificate's name, dates and issuer.
    pub(crate) fn new(
        certificates: Option<&Arc<[CertificateDer<'static>]>>,
        pins: &Arc<[Pin]>,
    ) -> Result<Self, rustls::Error> {
        let provider = provider::provider();
        let algorithms = provider.signature_verification_algorithms;
        let listed = certificates.map(|certificates| {
            let mut roots = RootCertStore::empty();
            for certificate in certificates.iter() {
                roots.add(certificate.clone())?;
            }
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            let chains = builder
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            Ok::<_, rustls::Error>(ListedCertificates {
                certificates: Arc::clone(certificates),
                chains,
            })
        });
        Ok(Self {
            listed: listed.transpose()?,
            pins: Arc::clone(pins),
            algorithms,
        })
    }
}

impl ListedCertificates {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        // nginx, Go and curl do the same. Chain validation would refuse it: `openssl req -x509`
        // marks it as a CA certificate, which WebPKI accepts from no server, and its issuer need
        // not be listed.
        if self.certificates.contains(certificate) {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return verify_validity(certificate, now);
        }
        let chains = &self.chains;
        chains
            .verify_server_cert(certificate, intermediates, name, ocsp_response, now)
            .map(|_| ())
    }
}

fn verify_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let unix = |time: std::time::SystemTime| {
        let since = time.duration_since(std::time::UNIX_EPOCH);
        UnixTime::since_unix_epoch(since.unwrap_or_default())
    };
    let validity = validity::of(certificate).ok_or(CertificateError::BadEncoding)?;
    let (not_before, not_after) = (unix(validity.0), unix(validity.1));
    let time = now;
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time, not_after }.into());
    }
    Ok(())
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.pins.is_empty() {
            let parsed = EndEntityCert::try_from(certificate);
            let parsed = parsed.map_err(|_| CertificateError::BadEncoding)?;
            let pin = Pin::of(&parsed);
            if !self.pins.contains(&pin) {
                let error = OtherError(Arc::new(NotPinned(pin)));
                return Err(CertificateError::Other(error).into());
            }
        }
        if let Some(listed) = &self.listed {
            listed.verify(certificate, intermediates, name, ocsp_response, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
