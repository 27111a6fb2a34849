//! Failed handshakes: the reason as a metric label and in the log.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Instant;

use rustls::PeerIncompatible;

use crate::metrics::HandshakeFailure;
use crate::telemetry::LogLimiter;

thread_local! {
    /// A worker is a thread.
    static LIMITER: LogLimiter<{ HandshakeFailure::ALL.len() }> = LogLimiter::default();
}

/// Logs a failed handshake, at a limited rate per reason.
pub(super) fn log(
    failure: HandshakeFailure,
    listener: &str,
    client: Option<IpAddr>,
    error: &io::Error,
) {
    let reason = failure.as_str();
    // Port scanners and health checks that only connect: too frequent to log.
    if failure == HandshakeFailure::Closed {
        return tracing::debug!(listener, client = client.map(tracing::field::display), reason, %error, "a handshake failed");
    }
    let index = HandshakeFailure::ALL.iter().position(|one| *one == failure);
    let index = index.unwrap_or(usize::MAX);
    let is_shown = LIMITER.with(|limiter| {
        limiter.take(index, Instant::now(), |suppressed| {
            tell(failure, suppressed)
        })
    });
    if is_shown {
        let client = client.map(tracing::field::display);
        let hint = hint(failure);
        tracing::info!(listener, client, reason, %error, hint, "a handshake failed");
    }
}

/// Logs how many failed handshakes were not logged. Must be called regularly.
pub(super) fn summarise(now: Instant) {
    LIMITER.with(|limiter| {
        limiter.summarise(now, |index, suppressed| {
            if let Some(failure) = HandshakeFailure::ALL.get(index) {
                tell(*failure, suppressed);
            }
        });
    });
}

fn tell(failure: HandshakeFailure, suppressed: u64) {
    let reason = failure.as_str();
    tracing::info!(reason, suppressed, "more handshakes failed");
}

/// The reason of a failed TLS handshake, from the error of the TLS library or the socket.
pub(super) fn tls_failure(error: &io::Error) -> HandshakeFailure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(error) => rustls_failure(error),
        None if error.kind() == ErrorKind::TimedOut => HandshakeFailure::Timeout,
        None => HandshakeFailure::Closed,
    }
}

fn rustls_failure(error: &rustls::Error) -> HandshakeFailure {
    use rustls::Error;
    match error {
        // A client without signature_algorithms, which TLS 1.2 introduced, supports TLS 1.1 at
        // most.
        Error::PeerIncompatible(
            PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => HandshakeFailure::TlsVersion,
        Error::PeerIncompatible(
            PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
            | PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoEcPointFormatsInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon,
        ) => HandshakeFailure::Cipher,
        Error::NoCertificatesPresented => HandshakeFailure::NoClientCertificate,
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => {
            HandshakeFailure::ClientCertificate
        }
        Error::NoApplicationProtocol => HandshakeFailure::Alpn,
        Error::AlertReceived(_) => HandshakeFailure::ClientAlert,
        _ => HandshakeFailure::Tls,
    }
}

/// Advice for the operator.
fn hint(failure: HandshakeFailure) -> Option<&'static str> {
    Some(match failure {
        HandshakeFailure::PlainHttp => "this listener requires TLS; use https://",
        HandshakeFailure::TlsVersion => "the client needs TLS 1.2 or 1.3",
        HandshakeFailure::Cipher => {
            "the client needs an AEAD cipher suite with forward secrecy, and a signature scheme for the certificate's key"
        }
        HandshakeFailure::NoClientCertificate => {
            "the listener's client_ca requires a client certificate"
        }
        HandshakeFailure::ClientCertificate => {
            "the certificate must be valid now and issued by an authority in client_ca"
        }
        HandshakeFailure::Alpn => "the client must offer h2 or http/1.1, or no ALPN",
        HandshakeFailure::ClientAlert => {
            "the client rejected the handshake; check the certificate's names, dates and chain"
        }
        HandshakeFailure::UnlistedProxy => {
            "list the proxy in trusted_proxies, or set proxy_protocol = false"
        }
        HandshakeFailure::ProxyHeader => {
            "enable the PROXY protocol on the proxy, or set proxy_protocol = false"
        }
        HandshakeFailure::Timeout => "limits.handshake_seconds passed",
        HandshakeFailure::NotTls | HandshakeFailure::Tls | HandshakeFailure::Closed => return None,
    })
}
