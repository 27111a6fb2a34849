//! TLS for clients: a listener's certificates, chosen by name, replaced while connections go on.
//!
//! A connection keeps what its handshake found; the next handshake finds what was published
//! last. TLS 1.2 and 1.3 with the library's suites, none of which is weak; no renegotiation, no
//! early data (it could be replayed).
//!
//! The name that a client asked the handshake for (SNI) chooses a certificate and nothing else:
//! routes and policies go by the request's host alone, and all names of a listener are behind the
//! same `client_ca`. So a host other than the handshake's name gains nobody anything, and browsers
//! that use one HTTP/2 connection for several names of a certificate are served; a host that no
//! route serves gets 421 as ever ([RFC 9110 §15.5.20]).
//!
//! [RFC 9110 §15.5.20]: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.20

mod by_name;
mod certificate;
mod certificate_error;
mod pem;

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};

use crate::metrics::Metrics;
use crate::tls::provider;

use by_name::ByName;

pub use certificate::{Certificate, ClientAuthorities, authorities};
pub use certificate_error::{AuthoritiesError, CertificateError, CertificateWarning, PairFile};
pub use pem::PemError;

/// The protocols that are spoken over TLS, the one that is liked best first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];

/// HTTP/2 in a handshake ([RFC 9113 §3.2]).
///
/// [RFC 9113 §3.2]: https://www.rfc-editor.org/rfc/rfc9113#section-3.2
const HTTP2: &[u8] = b"h2";

/// What a listener shows its clients, and asks of them.
#[derive(Clone, Debug)]
pub struct Tls {
    /// At least one; chosen by name, the first where none has it.
    pub certificates: Vec<Certificate>,
    /// Clients without a certificate of these authorities are refused.
    pub clients: Option<ClientAuthorities>,
}

impl Tls {
    /// Whether clients are shown and asked the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.clients == other.clients && self.certificates == other.certificates
    }
}

/// A listener's TLS, to be replaced at any time.
///
/// All cells are equal: that a listener speaks TLS is a setting that needs a restart to change,
/// with which certificates is none.
#[derive(Clone)]
pub struct TlsCell(Arc<Cell>);

struct Cell {
    published: ArcSwap<Published>,
    /// Where the certificates' ends are shown, once somebody serves.
    shown: OnceLock<(Arc<Metrics>, Box<str>)>,
}

struct Published {
    tls: Tls,
    config: Arc<ServerConfig>,
}

/// What makes the tickets of sessions; `before` was published until now.
///
/// `None`: sessions are not resumed. A client that resumes one shows no certificate, so it would stay
/// authenticated after its certificate's end, and every resumption in TLS 1.3 brings a new ticket.
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
    /// A cell with what is served first.
    ///
    /// # Errors
    ///
    /// Where the system has no random bytes.
    pub fn new(tls: Tls) -> Result<Self, rustls::Error> {
        let tickets = tickets(&tls, None)?;
        let published = Published::new(tls, tickets);
        Ok(Self(Arc::new(Cell {
            published: ArcSwap::from_pointee(published),
            shown: OnceLock::new(),
        })))
    }

    /// Makes `tls` what new handshakes find; connections go on with what theirs found.
    ///
    /// Sessions can be resumed across it, unless clients have to show a certificate.
    ///
    /// # Errors
    ///
    /// Where the system has no random bytes; what was published before stays.
    pub fn publish(&self, tls: Tls) -> Result<(), rustls::Error> {
        let before = self.0.published.load_full();
        let tickets = tickets(&tls, Some(&before))?;
        self.0
            .published
            .store(Arc::new(Published::new(tls, tickets)));
        self.show();
        Ok(())
    }

    /// What new handshakes find.
    #[must_use]
    pub fn current(&self) -> Tls {
        self.0.published.load().tls.clone()
    }

    /// The library's settings for one handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.published.load().config)
    }

    /// Shows the certificates' ends under this listener's name, from now on.
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
                // Browsers and curl open one connection with a ticket; rustls would send two.
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

/// Whether a client's first bytes, as many as [`RECORD_HEADER`], may begin a request of HTTP: a
/// method's letters, then a space, a target's first byte, or more letters.
pub(super) fn may_be_http(bytes: &[u8]) -> bool {
    let letters = bytes.iter().take_while(|byte| byte.is_ascii_uppercase());
    let rest = bytes.get(letters.count()..).unwrap_or_default();
    rest.len() < bytes.len() && (rest.is_empty() || rest.starts_with(b" "))
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
