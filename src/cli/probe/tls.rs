//! TLS for the probe: verified as browsers do, or not at all.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::tls::provider::provider;
use crate::upstream::tls::UpstreamTls;

/// The TLS settings: offers HTTP/2 and HTTP/1.1, verifies with the platform's certificates.
pub(super) fn config(insecure: bool) -> Result<Arc<ClientConfig>, Error> {
    if !insecure {
        return UpstreamTls::default().config(true);
    }
    let algorithms = provider().signature_verification_algorithms;
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Explains a failed handshake.
pub(super) fn advice(error: &io::Error) -> String {
    let is_certificate = error
        .get_ref()
        .and_then(|error| error.downcast_ref())
        .is_some_and(|error| matches!(error, Error::InvalidCertificate(_)));
    match is_certificate {
        true => {
            format!("{error}; a browser refuses this certificate too; --insecure skips the check")
        }
        false => format!("{error}; check that this port speaks TLS"),
    }
}

/// `--insecure`: accepts every certificate.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
