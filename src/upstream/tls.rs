//! TLS to upstreams: which certificates are trusted, and which one is sent.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::tls::certificate_verifier::CertificateVerifier;
use crate::tls::provider;

pub use crate::tls::certificate_verifier::{InvalidPin, Pin};

/// TLS settings for an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// The trusted certificates; `None`: those that the platform trusts, unless there are pins.
    pub authorities: Option<Arc<[CertificateDer<'static>]>>,
    /// Accepted public keys of its certificate; empty: any. Without `authorities`, a pinned key is
    /// trusted whatever else the certificate says.
    pub pins: Arc<[Pin]>,
    /// The client certificate for an upstream that requests one, if any.
    pub identity: Option<Identity>,
    /// The name that the upstream's certificate must have; `None`: the upstream's host.
    pub server_name: Option<ServerName<'static>>,
}

/// The proxy's own certificates, with the key of the first one.
#[derive(Clone)]
pub struct Identity(pub Arc<CertifiedKey>);

impl UpstreamTls {
    /// rustls' settings; with `http2`, HTTP/2 is offered by ALPN.
    pub(crate) fn config(&self, http2: bool) -> Result<Arc<ClientConfig>, rustls::Error> {
        static HTTP1: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        static HTTP2: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        if self.authorities.is_some() || self.identity.is_some() || !self.pins.is_empty() {
            return self.make(http2);
        }
        // One for all upstreams: loading the platform's trusted certificates takes memory and time.
        let cell = if http2 { &HTTP2 } else { &HTTP1 };
        if let Some(config) = cell.get() {
            return Ok(Arc::clone(config));
        }
        let config = self.make(http2)?;
        Ok(Arc::clone(cell.get_or_init(|| config)))
    }

    fn make(&self, http2: bool) -> Result<Arc<ClientConfig>, rustls::Error> {
        let builder = builder()?;
        let builder = if self.authorities.is_none() && self.pins.is_empty() {
            builder.with_platform_verifier()?
        } else {
            let verifier = CertificateVerifier::new(self.authorities.as_ref(), &self.pins)?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(Identity(key)) => {
                let resolver = SingleCertAndKey::from(Arc::clone(key));
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        let protocols: &[&[u8]] = if http2 {
            &[b"h2", b"http/1.1"]
        } else {
            &[b"http/1.1"]
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider::provider()).with_safe_default_protocol_versions()
}

/// Compares the chains: a certificate has only one key.
impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.cert.hash(state);
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.0.cert).finish()
    }
}
