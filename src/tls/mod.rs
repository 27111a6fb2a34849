//! TLS for both sides: the provider, how certificates are checked, and what TLS errors mean. Which
//! certificates the listeners have is in `server::tls`.

pub(crate) mod advice;
pub(crate) mod certificate_verifier;
pub mod digest;
pub mod provider;
pub(crate) mod validity;
