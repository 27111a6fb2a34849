//! TLS for both sides: the provider, certificate verification, and explanations of TLS errors. The
//! listeners' certificates are in `server::tls`.

pub(crate) mod advice;
pub(crate) mod certificate_verifier;
pub mod digest;
pub mod provider;
pub(crate) mod validity;
