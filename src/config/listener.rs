//! A config's checked listeners: their addresses, and how their connections begin.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;

use crate::routing::client::{InvalidProxy, TrustedProxies, TrustedProxy};
use crate::server::{Bind, ListenerSettings};

use super::address::{Listen, invalid_address};
use super::diagnostic::Diagnostic;
use super::file::Reader;
use super::named_path::NamedPath;
use super::table::Table;
use super::{address, bindings};

/// The files of a listener's TLS.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    /// At least one.
    pub(super) pairs: Vec<PairFiles>,
    /// The authorities for client certificates.
    pub(super) client_ca: Option<NamedPath>,
}

/// A chain of certificates and its key.
#[derive(Clone, Debug)]
pub(super) struct PairFiles {
    /// The chain's path as written: the `certificate` label of metrics.
    pub(super) name: Box<str>,
    pub(super) certificate: NamedPath,
    pub(super) key: NamedPath,
}

/// Listeners, each with its TLS files, which are not read yet.
pub(super) type Listeners = Vec<(ListenerSettings, Option<TlsFiles>)>;

/// Reads `trusted_proxies`.
pub(super) fn trusted_proxies(root: &mut Table<'_>, reader: &mut Reader<'_>) -> TrustedProxies {
    let written = root.strings("trusted_proxies", reader);
    let written = written.map(Spanned::into_inner).unwrap_or_default();
    let read = written.into_iter().filter_map(|text| {
        let proxy: Result<TrustedProxy, _> = text.get_ref().parse();
        match &proxy {
            Ok(proxy) if proxy.is_everybody() => {
                let message = "every client is trusted to forward client addresses";
                let diagnostic = Diagnostic::warning("trusts-everybody", message);
                let help = "list only the addresses of the proxies in front of this one";
                reader.push(diagnostic.help(help), text.span());
            }
            Ok(_) => {}
            Err(error) => {
                let help = match error {
                    InvalidProxy::Form(_) => "write 192.0.2.1, 192.0.2.0/24 or unix".to_owned(),
                    InvalidProxy::Within { network, .. } => format!("write {network}"),
                };
                let diagnostic = Diagnostic::error("invalid-proxy", error.to_string());
                reader.push(diagnostic.help(help), text.span());
            }
        }
        proxy.ok()
    });
    read.collect()
}

/// Reads `[[listen]]`.
pub(super) fn listeners(
    root: &mut Table<'_>,
    base: &Path,
    trusted_proxies: &TrustedProxies,
    reader: &mut Reader<'_>,
) -> Listeners {
    let mut listeners = Listeners::new();
    let mut places: Vec<Range<usize>> = Vec::new();
    let mut names: Vec<(Box<str>, Range<usize>)> = Vec::new();
    for mut table in root.tables("listen", reader) {
        let name = table.string("name", reader);
        if let Some(name) = &name {
            bindings::check_name(name, &names, reader);
            names.push(((*name.get_ref()).into(), name.span()));
        }
        let address = table.string("address", reader);
        let proxy_protocol = table.boolean("proxy_protocol", reader);
        if let Some(asked) = proxy_protocol.as_ref().filter(|asked| *asked.get_ref())
            && trusted_proxies.is_empty()
        {
            let message = "`proxy_protocol` needs `trusted_proxies`";
            let diagnostic = Diagnostic::error("missing-key", message);
            let help = "add trusted_proxies = [\"192.0.2.0/24\"] before the first table";
            reader.push(diagnostic.help(help), asked.span());
        }
        let tls = tls(&mut table, base, reader);
        let help = "add address = \"0.0.0.0:8080\"";
        table.require(
            "address",
            "a listener needs an `address`",
            Some(help),
            reader,
        );
        let bind = address
            .as_ref()
            .and_then(|text| bind(text, base, reader).map(|bind| (bind, text.span())));
        if let Some((bind, span)) = bind {
            let known = listeners.iter().zip(&places);
            let known = known.map(|((known, _), place)| (&known.address, place.clone()));
            if let Some((taken, first)) = Taken::by_one_of(known, &bind) {
                let diagnostic = taken.diagnostic(&bind);
                let diagnostic = diagnostic.also(reader.file, first, "first here");
                reader.push(diagnostic, span.clone());
            }
            places.push(span);
            let settings = ListenerSettings {
                proxy_protocol: proxy_protocol.is_some_and(Spanned::into_inner),
                name: name.map(|name| (*name.get_ref()).into()),
                ..ListenerSettings::plain(bind)
            };
            listeners.push((settings, tls));
        }
        table.finish(reader);
    }
    listeners
}

/// An address that conflicts with another one.
pub(super) enum Taken {
    /// Both are the same.
    Same,
    /// One of the two is unspecified: all addresses of the machine.
    Within(Bind),
    /// One is the unspecified IPv6 address, which includes all IPv4 addresses unless
    /// `net.ipv6.bindv6only` is set.
    WithinBoth(Bind),
}

impl Taken {
    /// The first of `known` that conflicts with `bind`; certain conflicts first.
    pub(super) fn by_one_of<'a, T>(
        known: impl Iterator<Item = (&'a Bind, T)>,
        bind: &Bind,
    ) -> Option<(Self, T)> {
        let taken = known.filter_map(|(there, place)| Some((Self::by(there, bind)?, place)));
        taken.min_by_key(|(taken, _)| matches!(taken, Self::WithinBoth(_)))
    }

    /// Whether a listener on `there` conflicts with `bind`.
    fn by(there: &Bind, bind: &Bind) -> Option<Self> {
        let (Bind::Tcp(one), Bind::Tcp(other)) = (there, bind) else {
            return (there == bind).then_some(Self::Same);
        };
        if one.port() != other.port() || one.port() == 0 {
            return None;
        }
        if canonical(*one) == canonical(*other) {
            return Some(Self::Same);
        }
        let there = || there.clone();
        let is_any = |one: IpAddr, other: IpAddr| one.is_unspecified() || other.is_unspecified();
        if one.is_ipv6() && other.is_ipv6() && is_any(one.ip(), other.ip()) {
            return Some(Self::Within(there()));
        }
        match (one.ip().to_canonical(), other.ip().to_canonical()) {
            (IpAddr::V6(six), IpAddr::V4(_)) | (IpAddr::V4(_), IpAddr::V6(six)) => {
                six.is_unspecified().then(|| Self::WithinBoth(there()))
            }
            (one, other) => is_any(one, other).then(|| Self::Within(there())),
        }
    }

    /// Makes a diagnostic about `bind`.
    pub(super) fn diagnostic(&self, bind: &Bind) -> Diagnostic {
        const CODE: &str = "duplicate-address";
        match self {
            Self::Same => {
                Diagnostic::error(CODE, format!("two listeners have the address `{bind}`"))
            }
            Self::Within(there) => {
                let message = format!("`{bind}` conflicts with the listener on `{there}`");
                let help = "the unspecified address includes all addresses of the machine; remove one of them";
                Diagnostic::error(CODE, message).help(help)
            }
            Self::WithinBoth(there) => {
                let message = format!("`{bind}` probably conflicts with the listener on `{there}`");
                let help = "`[::]` includes all IPv4 addresses, unless net.ipv6.bindv6only is set; remove one of them";
                Diagnostic::warning(CODE, message).help(help)
            }
        }
    }
}

/// An IPv4-mapped IPv6 address counts as the IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        four @ IpAddr::V4(_) => SocketAddr::new(four, address.port()),
        // Keeps the scope.
        IpAddr::V6(_) => address,
    }
}

fn bind(text: &Spanned<&str>, base: &Path, reader: &mut Reader<'_>) -> Option<Bind> {
    match address::listen(text.get_ref(), base) {
        Ok(Listen::Bind(bind)) => Some(bind),
        Ok(Listen::Systemd(name)) => Some(Bind::Systemd(name)),
        Err(error) => {
            invalid_address(text, error, reader);
            None
        }
    }
}

fn tls(table: &mut Table<'_>, base: &Path, reader: &mut Reader<'_>) -> Option<TlsFiles> {
    let pairs = table.tables("tls", reader).into_iter();
    let pairs: Vec<_> = pairs
        .filter_map(|pair| pair_files(pair, base, reader))
        .collect();
    let client_ca = table.string("client_ca", reader);
    if let Some(span) = table.key_span("client_ca")
        && table.key_span("tls").is_none()
    {
        let message = "`client_ca` needs TLS, but this listener has no certificate";
        let diagnostic = Diagnostic::error("missing-key", message);
        let help = "add tls = [{ certificate = \"site.crt\", key = \"site.key\" }]";
        reader.push(diagnostic.help(help), span);
    }
    let files = TlsFiles {
        pairs,
        client_ca: client_ca.map(|text| NamedPath::new(&text, base)),
    };
    (!files.pairs.is_empty()).then_some(files)
}

fn pair_files(mut table: Table<'_>, base: &Path, reader: &mut Reader<'_>) -> Option<PairFiles> {
    let [certificate, key] = ["certificate", "key"].map(|key| {
        let value = table.string(key, reader);
        let message = format!("a certificate needs a `{key}`: the path of its file");
        table.require(key, message, None, reader);
        value
    });
    table.finish(reader);
    let (certificate, key) = certificate.zip(key)?;
    Some(PairFiles::new(&certificate, &key, base))
}

impl PairFiles {
    pub(super) fn new(certificate: &Spanned<&str>, key: &Spanned<&str>, base: &Path) -> Self {
        Self {
            name: (*certificate.get_ref()).into(),
            certificate: NamedPath::new(certificate, base),
            key: NamedPath::new(key, base),
        }
    }
}
