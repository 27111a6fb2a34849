//! TLS for clients: a listener's certificates, selected by name, replaced while connections
//! continue.
//!
//! A connection keeps the settings of its handshake; the next handshake uses the latest ones. TLS
//! 1.2 and 1.3 with the library's suites, none of which is weak; no renegotiation, no early data
//! (it could be replayed).
//!
//! The name in the handshake (SNI) only selects the certificate: routes and policies depend on
//! the request's host alone, and all names of a listener share one `client_ca`. So a request for
//! another host gains nothing, and browsers can use one HTTP/2 connection for several names of a
//! certificate; a host without a route gets 421 as usual ([RFC 9110 §15.5.20]).
//!
//! [RFC 9110 §15.5.20]: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20

mod by_name;
mod certificate;
mod certificate_error;
mod pem;

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{HandshakeKind, ServerConfig};

use crate::metrics::{Metrics, TlsHandshake};
use crate::tls::provider;

use by_name::ByName;

pub use certificate::{Certificate, ClientAuthorities, authorities};
pub use certificate_error::{AuthoritiesError, CertificateError, CertificateWarning, PairFile};
pub use pem::PemError;

/// The protocols over TLS, in order of preference.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];

/// HTTP/2 in a handshake ([RFC 9113 §3.2]).
///
/// [RFC 9113 §3.2]: https://www.rfc-editor.org/rfc/rfc9113#section-3.2
const HTTP2: &[u8] = b"h2";

/// A listener's certificates and client authorities.
#[derive(Clone, Debug)]
pub struct Tls {
    /// At least one; selected by name, the first is the default.
    pub certificates: Vec<Certificate>,
    /// Clients without a certificate of these authorities are refused.
    pub clients: Option<ClientAuthorities>,
}

impl Tls {
    /// Whether both present and require the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.clients == other.clients && self.certificates == other.certificates
    }
}

/// A listener's TLS settings, replaceable at any time.
///
/// All cells compare equal: whether a listener uses TLS needs a restart to change, but its
/// certificates do not.
#[derive(Clone)]
pub struct TlsCell(Arc<Cell>);

struct Cell {
    published: ArcSwap<Published>,
    /// Where the certificates' expiry times are shown, once the server runs.
    shown: OnceLock<(Arc<Metrics>, Box<str>)>,
}

struct Published {
    tls: Tls,
    config: Arc<ServerConfig>,
}

/// Creates the ticketer for sessions; `before` is the previous one.
///
/// `None`: sessions are not resumed. A client that resumes a session shows no certificate, so it
/// would stay authenticated after its certificate's expiry, and in TLS 1.3 every resumption
/// brings a new ticket.
fn tickets(
    tls: &Tls,
    before: Option<&Published>,
) -> Result<Option<Arc<dyn ProducesTickets>>, rustls::Error> {
    match before {
        _ if tls.clients.is_some() => Ok(None),
        Some(before) if before.tls.clients.is_none() => {
            Ok(Some(Arc::clone(&before.config.ticketer)))
        }
        _ => provider::Ticketer::new().map(|tickets| Some(tickets as _)),
    }
}

impl TlsCell {
    /// A cell with its first settings.
    ///
    /// # Errors
    ///
    /// The system has no random bytes.
    pub fn new(tls: Tls) -> Result<Self, rustls::Error> {
        let tickets = tickets(&tls, None)?;
        let published = Published::new(tls, tickets);
        Ok(Self(Arc::new(Cell {
            published: ArcSwap::from_pointee(published),
            shown: OnceLock::new(),
        })))
    }

    /// Publishes `tls` for new handshakes; existing connections are unaffected.
    ///
    /// Sessions can be resumed across it, unless client certificates are required.
    ///
    /// # Errors
    ///
    /// The system has no random bytes; the previous settings stay.
    pub fn publish(&self, tls: Tls) -> Result<(), rustls::Error> {
        let before = self.0.published.load_full();
        let tickets = tickets(&tls, Some(&before))?;
        self.0
            .published
            .store(Arc::new(Published::new(tls, tickets)));
        self.show();
        Ok(())
    }

    /// The settings for new handshakes.
    #[must_use]
    pub fn current(&self) -> Tls {
        self.0.published.load().tls.clone()
    }

    /// The library's settings for a handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.published.load().config)
    }

    /// Shows the certificates' expiry times under this listener's name from now on.
    pub(super) fn show_in(&self, metrics: &Arc<Metrics>, listener: &str) {
        self.0
            .shown
            .get_or_init(|| (Arc::clone(metrics), listener.into()));
        self.show();
    }

    fn show(&self) {
        let Some((metrics, listener)) = self.0.shown.get() else {
            return;
        };
        let published = self.0.published.load();
        let certificates = published.tls.certificates.iter();
        let ends = certificates.map(|one| (one.name().into(), one.not_after()));
        metrics.certificates(listener, ends.collect());
    }
}

impl Published {
    fn new(tls: Tls, tickets: Option<Arc<dyn ProducesTickets>>) -> Self {
        let builder = ServerConfig::builder_with_provider(provider::provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3");
        let verifier = match &tls.clients {
            Some(authorities) => Arc::clone(&authorities.verifier),
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = builder
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(ByName::new(&tls.certificates)));
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        config.ignore_client_order = true;
        match tickets {
            Some(tickets) => {
                config.ticketer = tickets;
                // Browsers and curl need one ticket per connection; rustls would send two.
                config.send_tls13_tickets = 1;
            }
            None => {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
        }
        Self {
            tls,
            config: Arc::new(config),
        }
    }
}

/// How long the header of a record is ([RFC 8446 §5.1]).
///
/// [RFC 8446 §5.1]: https://www.rfc-editor.org/rfc/rfc8446#section-5.1
pub(super) const RECORD_HEADER: usize = 5;

/// The content type of a record with a handshake message.
pub(super) const HANDSHAKE: u8 = 22;

/// Whether a client's first bytes begin a TLS handshake.
pub(super) fn begins_handshake(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HANDSHAKE)
}

/// Whether a client's first [`RECORD_HEADER`] bytes may begin an HTTP request: a method's
/// letters, then a space and a target's first byte, or more letters.
pub(super) fn may_be_http(bytes: &[u8]) -> bool {
    let letters = bytes.iter().take_while(|byte| byte.is_ascii_uppercase());
    let rest = bytes.get(letters.count()..).unwrap_or_default();
    rest.len() < bytes.len() && (rest.is_empty() || rest.starts_with(b" "))
}

/// Whether a complete handshake resumed a session.
pub(super) fn handshake_kind(connection: &rustls::ServerConnection) -> TlsHandshake {
    match connection.handshake_kind() {
        Some(HandshakeKind::Resumed) => TlsHandshake::Resumed,
        Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => {
            TlsHandshake::Full
        }
    }
}

/// Whether a handshake agreed on HTTP/2.
pub(super) fn is_http2(connection: &rustls::ServerConnection) -> bool {
    connection.alpn_protocol() == Some(HTTP2)
}

impl PartialEq for TlsCell {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for TlsCell {}

impl fmt::Debug for TlsCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.published.load().tls.fmt(f)
    }
}
