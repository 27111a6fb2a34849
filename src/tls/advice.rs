//! Describes TLS errors and what to do about each.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved,
};

use crate::text::timestamp::Timestamp;

use super::certificate_verifier::NotPinned;

/// Why a handshake with an upstream failed, and what to do.
pub(crate) fn of_upstream(error: &io::Error) -> String {
    if let Some(error) = rustls_error(error) {
        return upstream(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            "it closed the connection during the handshake: check that this port speaks TLS and \
             that it serves this name (`upstream_tls.server_name`)"
                .into()
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            format!("{error} during the handshake: check that this port speaks TLS")
        }
        _ => error.to_string(),
    }
}

fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn upstream(error: &Error) -> String {
    let what = match error {
        Error::InvalidCertificate(error) => return certificate(error),
        Error::AlertReceived(alert) => return upstream_alert(*alert),
        // The first bytes are not a TLS record.
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => "it does not speak TLS, probably plain HTTP: write http://",
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerSentOversizedRecord
        | Error::DecryptError => {
            "it sent an invalid TLS message: check the devices in between, or update the upstream"
        }
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => "it speaks neither TLS 1.2 nor 1.3: update it",
        Error::PeerIncompatible(
            PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon,
        ) => {
            "it accepts none of the signature schemes of the client certificate's key: use another \
             kind of key in `upstream_tls.key`"
        }
        Error::PeerIncompatible(_) => {
            "it has no TLS parameters in common with this proxy (ECDHE with AES-GCM or \
             ChaCha20-Poly1305): allow these in its configuration"
        }
        Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => {
            "it chose an ALPN protocol that was not offered: correct its configuration"
        }
        Error::PeerMisbehaved(_) => "it violates the TLS protocol: update it",
        Error::NoCertificatesPresented => "it sent no certificate: configure one on the upstream",
        Error::UnsupportedNameType => {
            "its name cannot appear in a certificate: set `upstream_tls.server_name`"
        }
        Error::NoApplicationProtocol => {
            "it supports none of the ALPN protocols offered: set `upstream_http2 = false`"
        }
        Error::InconsistentKeys(_) => {
            "`upstream_tls.key` does not match `upstream_tls.certificate`"
        }
        Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes => {
            "the system clock or random source failed: check the clock and /dev/urandom"
        }
        Error::HandshakeNotComplete
        | Error::EncryptError
        | Error::BadMaxFragmentSize
        | Error::InvalidEncryptedClientHello(_)
        | Error::InvalidCertRevocationList(_) => {
            return format!("{error}: please report this as a bug of s3cors");
        }
        Error::General(problem) => {
            return format!(
                "{problem}: check the authorities that the system trusts, or set `upstream_tls.ca`"
            );
        }
        // Includes the details, which come from other code.
        _ => {
            return format!("{error}: check the TLS settings of the upstream");
        }
    };
    what.into()
}

fn certificate(error: &CertificateError) -> String {
    const REISSUE: &str = "issue a new one for the upstream, or list its key in `upstream_tls.pin`";
    let what = match error {
        CertificateError::UnknownIssuer => {
            "its certificate is not signed by a trusted authority: list that authority's \
             certificate, or this certificate itself, in `upstream_tls.ca`"
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            let end = date(*not_after);
            return format!("its certificate expired at {end}: renew it on the upstream");
        }
        CertificateError::Expired => "its certificate expired: renew it on the upstream",
        CertificateError::NotValidYetContext { not_before, .. } => {
            let begin = date(*not_before);
            return format!(
                "its certificate is not valid before {begin}: check the clocks of both machines"
            );
        }
        CertificateError::NotValidYet => {
            "its certificate is not valid yet: check the clocks of both machines"
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => return wrong_name(expected, presented),
        CertificateError::NotValidForName => {
            "its certificate is for another name: set `upstream_tls.server_name` to one it is for"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            return format!(
                "its certificate is not for servers (extended key usage without serverAuth): \
                 {REISSUE}"
            );
        }
        CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => {
            return format!(
                "its certificate is damaged or has features that are not supported: {REISSUE}"
            );
        }
        CertificateError::BadSignature => {
            return format!(
                "the signature of its certificate or handshake is invalid, or an authority with the same \
                 name but another key is listed: check `upstream_tls.ca`, or {REISSUE}"
            );
        }
        #[expect(deprecated, reason = "rustls still returns it")]
        CertificateError::UnsupportedSignatureAlgorithm
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            return format!(
                "its certificate is signed in a way that is not supported (SHA-1, RSA below 2048 \
                 bits): {REISSUE}"
            );
        }
        CertificateError::Revoked => "its certificate is revoked: replace it on the upstream",
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. }
        | CertificateError::InvalidOcspResponse => {
            "the revocation status of its certificate is unknown: check that the system's \
             revocation lists are current"
        }
        CertificateError::ApplicationVerificationFailure => {
            "the system does not trust its certificate: list it in `upstream_tls.ca`"
        }
        CertificateError::Other(other) => return other_certificate(&*other.0),
        _ => return format!("its certificate is not accepted ({error}): {REISSUE}"),
    };
    what.into()
}

fn other_certificate(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(not_pinned) = error.downcast_ref::<NotPinned>() {
        return format!("{not_pinned}: add it if the upstream's key was changed on purpose");
    }
    const LIST: &str = "list this certificate itself in `upstream_tls.ca`";
    match error.downcast_ref::<webpki::Error>() {
        Some(webpki::Error::CaUsedAsEndEntity) => format!(
            "its certificate is a CA certificate (CA:TRUE, the default of `openssl req -x509`): {LIST}"
        ),
        Some(webpki::Error::EndEntityUsedAsCa) => {
            format!("its certificate's issuer is not a CA: {LIST}")
        }
        Some(webpki::Error::UnsupportedCertVersion) => {
            "its certificate is not X.509 version 3: issue one with a subjectAltName".into()
        }
        Some(webpki::Error::PathLenConstraintViolated | webpki::Error::NameConstraintViolation) => {
            format!(
                "its certificate violates its CA's constraints on names or chain length: {LIST}"
            )
        }
        _ => format!("its certificate is not accepted ({error}): {LIST}"),
    }
}

fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let expected = expected.to_str();
    // webpki's format: `DnsName("a.example")`.
    let names = presented.iter().filter_map(|name| {
        let name = name.split_once('(')?.1.strip_suffix(')')?;
        Some(name.trim_matches('"'))
    });
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return format!(
            "its certificate has no host name (no subjectAltName): issue one for {expected} \
             (`openssl req -x509 -addext subjectAltName=…`), or list its key in `upstream_tls.pin`"
        );
    }
    format!(
        "its certificate is for {}, not for {expected}: set `upstream_tls.server_name` to one of \
         its names",
        names.join(", ")
    )
}

fn date(time: UnixTime) -> Timestamp {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    Timestamp::new(time.unwrap_or(UNIX_EPOCH))
}

fn upstream_alert(alert: AlertDescription) -> String {
    let what = match alert {
        AlertDescription::ProtocolVersion | AlertDescription::InappropriateFallback => {
            "it speaks neither TLS 1.2 nor 1.3: update it"
        }
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            "it refused the handshake: it has no cipher in common (ECDHE with AES-GCM or \
             ChaCha20-Poly1305), or it does not serve this name (`upstream_tls.server_name`)"
        }
        AlertDescription::UnrecognisedName => {
            "it does not serve this name: set `upstream_tls.server_name` to one it serves"
        }
        AlertDescription::CertificateRequired
        | AlertDescription::NoCertificate
        | AlertDescription::CertificateUnobtainable => {
            "it requires a client certificate: set `certificate` and `key` in `upstream_tls`"
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => {
            return format!(
                "it refused the client certificate (alert {alert:?}): set `certificate` and `key` \
                 in `upstream_tls` to ones it trusts"
            );
        }
        AlertDescription::NoApplicationProtocol => {
            "it supports none of the ALPN protocols offered: set `upstream_http2 = false`"
        }
        _ => return format!("it ended the handshake with the alert {alert:?}: see its log"),
    };
    what.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    fn said(error: Error) -> String {
        of_upstream(&io::Error::other(error))
    }

    #[test]
    fn each_error_says_what_to_do_next() {
        let other = |error| CertificateError::Other(OtherError(Arc::new(error)));
        let named = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("minio.internal").unwrap(),
            presented: presented.iter().map(|&name| name.to_owned()).collect(),
        };
        let not_after = UnixTime::since_unix_epoch(Duration::from_secs(1_609_459_199));
        let expired = CertificateError::ExpiredContext {
            time: not_after,
            not_after,
        };
        for (error, expected) in [
            (CertificateError::UnknownIssuer, "in `upstream_tls.ca`"),
            (
                other(webpki::Error::CaUsedAsEndEntity),
                "list this certificate itself in",
            ),
            (
                other(webpki::Error::PathLenConstraintViolated),
                "list this certificate itself in",
            ),
            (
                other(webpki::Error::UnsupportedCertVersion),
                "subjectAltName",
            ),
            (expired, "expired at 2020-12-31T23:59:59"),
            (CertificateError::NotValidYet, "check the clocks"),
            (
                named(&["DnsName(\"a.example\")", "IpAddress(10.0.0.1)"]),
                "for a.example, 10.0.0.1, not for minio.internal: set `upstream_tls.server_name`",
            ),
            (named(&[]), "-addext subjectAltName"),
            (CertificateError::InvalidPurpose, "serverAuth"),
            (CertificateError::BadSignature, "check `upstream_tls.ca`"),
            (CertificateError::BadEncoding, "issue a new one"),
        ] {
            let said = said(Error::InvalidCertificate(error));
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains("Other"), "{said}");
        }
        for (error, expected) in [
            (
                Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "write http://",
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
                "update it",
            ),
            (
                Error::AlertReceived(AlertDescription::ProtocolVersion),
                "update it",
            ),
            (
                Error::AlertReceived(AlertDescription::UnrecognisedName),
                "`upstream_tls.server_name`",
            ),
            (
                Error::AlertReceived(AlertDescription::CertificateRequired),
                "`certificate` and `key`",
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "to ones it trusts",
            ),
            (Error::NoApplicationProtocol, "upstream_http2 = false"),
        ] {
            let said = said(error);
            assert!(said.contains(expected), "{said}");
        }
        let closed = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(of_upstream(&closed).contains("speaks TLS"));
    }
}
