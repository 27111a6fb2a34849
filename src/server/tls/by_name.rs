//! Selects a certificate by the name that the client requests (SNI).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// A listener's certificates: exact names take precedence over wildcards, and the first
/// certificate is the default, because a client may know it by another name (an address, or a
/// name of a future certificate).
#[derive(Debug, Default)]
pub(super) struct ByName {
    exact: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// By the name after `*.`, which stands for one label ([RFC 9525 §6.3]).
    ///
    /// [RFC 9525 §6.3]: https://www.rfc-editor.org/rfc/rfc9525#section-6.3
    wildcard: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    all: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    pub(super) fn new(certificates: &[Certificate]) -> Self {
        let mut found = Self::default();
        for certificate in certificates {
            for name in &*certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut found.wildcard, parent),
                    None => (&mut found.exact, &**name),
                };
                let keys = map.entry(name.into()).or_default();
                keys.push(Arc::clone(&certificate.key));
            }
            found.all.push(Arc::clone(&certificate.key));
        }
        found
    }

    /// The certificate for a name; of several, the first whose key type the client supports. If
    /// there is none, any will do: the handshake then fails with the right error.
    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let exact = name.as_deref().and_then(|name| self.exact.get(name));
        let parent = name.as_deref().and_then(|name| name.split_once('.'));
        let wildcard = parent.and_then(|(_, parent)| self.wildcard.get(parent));
        let candidates = [exact, wildcard, Some(&self.all)].into_iter().flatten();
        let mut candidates = candidates.flatten();
        candidates
            .find(|certificate| certificate.key.choose_scheme(schemes).is_some())
            .or(self.all.first())
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(client.server_name(), client.signature_schemes())
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;

    fn certificate(names: &[&str], algorithm: &'static rcgen::SignatureAlgorithm) -> Certificate {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let chain = CertificateParams::new(names).unwrap().self_signed(&key);
        let (chain, key) = (chain.unwrap().pem(), key.serialize_pem());
        Certificate::from_pem("x", chain.as_bytes(), key.as_bytes()).unwrap()
    }

    #[test]
    fn exact_names_precede_wildcards_and_the_first_is_the_default() {
        let all = [
            certificate(&["first.example"], &PKCS_ECDSA_P256_SHA256),
            certificate(&["*.a.example", "a.example"], &PKCS_ECDSA_P256_SHA256),
            certificate(&["exact.a.example"], &PKCS_ECDSA_P256_SHA256),
            certificate(&["exact.a.example"], &PKCS_ED25519),
        ];
        let by_name = ByName::new(&all);
        let ecdsa = [SignatureScheme::ECDSA_NISTP256_SHA256];
        for (name, expected) in [
            (None, 0),
            (Some("first.example"), 0),
            (Some("other.example"), 0),
            (Some("a.example"), 1),
            (Some("x.a.example"), 1),
            (Some("X.A.Example"), 1),
            (Some("x.y.a.example"), 0),
            (Some("exact.a.example"), 2),
        ] {
            let found = by_name.find(name, &ecdsa).unwrap();
            assert!(Arc::ptr_eq(found, &all[expected].key), "{name:?}");
        }
        let ed25519 = [SignatureScheme::ED25519];
        for name in [None, Some("first.example"), Some("exact.a.example")] {
            let found = by_name.find(name, &ed25519).unwrap();
            assert!(Arc::ptr_eq(found, &all[3].key), "{name:?}");
        }
        let rsa = [SignatureScheme::RSA_PSS_SHA256];
        assert!(Arc::ptr_eq(by_name.find(None, &rsa).unwrap(), &all[0].key));
    }
}
