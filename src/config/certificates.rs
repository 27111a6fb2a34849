//! Reads and checks the certificates in a config. At a reload, an invalid pair leaves the last
//! good one in force.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::server::tls::{
    AuthoritiesError, Certificate, CertificateWarning, ClientAuthorities, PairFile, Tls, TlsCell,
};
use crate::server::{ListenerSettings, tls};
use crate::upstream::tls::{Identity, UpstreamTls};

use super::diagnostic::{Diagnostic, with_help};
use super::files::Files;
use super::listener::{PairFiles, TlsFiles};
use super::named_path::NamedPath;
use super::read::ReadError;
use super::report::Report;
use super::route::RouteConfig;
use super::source::SourceFile;
use super::upstream::UpstreamTlsFiles;

/// The largest certificate file, in bytes: some bundles hold hundreds of authorities.
const MAX_PEM: u64 = 4 * 1024 * 1024;

/// How long before its expiry a certificate gets a warning.
const SOON: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 60 * 60);

/// A listener's TLS files, as read.
#[derive(Clone, Debug)]
pub(super) struct TlsLoaded {
    /// Pairs by name; `None` if a pair is invalid.
    pairs: Vec<(Box<str>, Option<Certificate>)>,
    /// `Err`: configured but unreadable.
    clients: Result<Option<ClientAuthorities>, ()>,
}

impl TlsLoaded {
    /// The certificates to serve, with those of `before` in place of invalid ones; `None` if
    /// there are none.
    fn serve(&self, before: Option<&Tls>) -> Option<Tls> {
        let kept = |name: &str| {
            let certificates = &before?.certificates;
            let mut certificates = certificates.iter();
            certificates.find(|one| one.name() == name).cloned()
        };
        let pairs = self.pairs.iter();
        let pairs = pairs.filter_map(|(name, pair)| pair.clone().or_else(|| kept(name)));
        let certificates: Vec<_> = pairs.collect();
        let clients = match (&self.clients, before) {
            (Ok(clients), _) => clients.clone(),
            // Never weaken the configured check.
            (Err(()), None) => return None,
            (Err(()), Some(before)) => Some(before.clients.clone()?),
        };
        (!certificates.is_empty()).then_some(Tls {
            certificates,
            clients,
        })
    }
}

/// Reads and checks the certificates of every listener, and gives each listener a cell with the
/// valid ones.
pub(super) fn load(
    listeners: &mut [ListenerSettings],
    tls: &[Option<TlsFiles>],
    config: Option<&Arc<SourceFile>>,
    files: &mut Files,
    report: &mut Report,
) -> Vec<Option<TlsLoaded>> {
    let mut loader = Loader {
        config,
        files,
        report,
    };
    let listeners = listeners.iter_mut().zip(tls);
    listeners
        .map(|(listener, tls)| {
            let loaded = loader.listener(tls.as_ref()?);
            let served = loaded.serve(None).unwrap_or(Tls {
                certificates: Vec::new(),
                clients: None,
            });
            match TlsCell::new(served) {
                Ok(cell) => listener.tls = Some(cell),
                Err(error) => loader
                    .report
                    .push(Diagnostic::error("tls", "TLS is unavailable").detail(error.to_string())),
            }
            Some(loaded)
        })
        .collect()
}

/// Reads and checks the authorities and client certificates for the routes' upstreams.
pub(super) fn load_for_upstreams(
    routes: &mut [RouteConfig],
    config: Option<&Arc<SourceFile>>,
    files: &mut Files,
    report: &mut Report,
) {
    let mut loader = Loader {
        config,
        files,
        report,
    };
    for route in routes {
        let Some(files) = &route.upstream_tls else {
            continue;
        };
        let Some(read) = loader.for_upstreams(files) else {
            route.keeps_upstreams = true;
            continue;
        };
        let upstreams = route.upstreams.iter_mut();
        for tls in upstreams.filter_map(|upstream| upstream.tls.as_mut()) {
            tls.authorities.clone_from(&read.authorities);
            tls.identity.clone_from(&read.identity);
        }
    }
}

/// Publishes the certificates of a running listener. Returns whether they changed.
pub(super) fn publish(running: &TlsCell, loaded: &TlsLoaded) -> bool {
    let before = running.current();
    let Some(tls) = loaded.serve(Some(&before)) else {
        return false;
    };
    if tls.is_same(&before) {
        return false;
    }
    if let Err(error) = running.publish(tls) {
        tracing::error!(%error, "cannot apply the certificates");
        return false;
    }
    true
}

/// Reads certificates and reports errors.
struct Loader<'l> {
    config: Option<&'l Arc<SourceFile>>,
    files: &'l mut Files,
    report: &'l mut Report,
}

impl Loader<'_> {
    fn listener(&mut self, files: &TlsFiles) -> TlsLoaded {
        let pairs = files.pairs.iter();
        TlsLoaded {
            pairs: pairs
                .map(|files| (files.name.clone(), self.pair(files)))
                .collect(),
            clients: match &files.client_ca {
                None => Ok(None),
                Some(file) => self.authorities(file).map(Some).ok_or(()),
            },
        }
    }

    /// `None` if some of it is invalid.
    fn for_upstreams(&mut self, files: &UpstreamTlsFiles) -> Option<UpstreamTls> {
        let authorities = files.ca.as_ref().map(|file| {
            let text = self.read(file)?;
            let certificates = tls::authorities(&text);
            let certificates = certificates.map_err(|error| self.invalid(file, &error));
            Some(Arc::from(certificates.ok()?))
        });
        let identity = files.pair.as_ref().map(|files| {
            let certificate = self.certificate(files)?;
            let warning = certificate.warning(SystemTime::now());
            if let Some(warning) = warning.filter(|it| *it != CertificateWarning::NoNames) {
                let path = files.certificate.path.display();
                let message = format!("`{path}`: the certificate is expired or not yet valid; upstreams will refuse it");
                let diagnostic = Diagnostic::warning(warning.code(), message);
                self.report(diagnostic, &files.certificate);
            }
            Some(Identity(Arc::clone(certificate.certified_key())))
        });
        // Reads both files, so that all errors are reported. A missing option is fine.
        Some(UpstreamTls {
            authorities: authorities.map_or(Some(None), |read| read.map(Some))?,
            identity: identity.map_or(Some(None), |read| read.map(Some))?,
            ..UpstreamTls::default()
        })
    }

    fn certificate(&mut self, files: &PairFiles) -> Option<Certificate> {
        let (chain, key) = (self.read(&files.certificate), self.read(&files.key));
        self.warn_of_readable_key(&files.key);
        let (chain, key) = (chain?, key?);
        let certificate = match Certificate::from_pem(&files.name, &chain, &key) {
            Ok(certificate) => certificate,
            Err(error) => {
                let (code, file) = match error.file() {
                    PairFile::Certificate => ("invalid-certificate", &files.certificate),
                    PairFile::Key => ("invalid-key", &files.key),
                };
                let message = format!("`{}`: {error}", file.path.display());
                let diagnostic = Diagnostic::error(code, message);
                let help = error.help(&chain, &key).map(str::to_owned);
                self.report(with_help(diagnostic, help), file);
                return None;
            }
        };
        if let Some(line) = certificate.unsent() {
            let path = files.key.path.display();
            let message = format!(
                "`{path}`: line {line}: this certificate is not in `{}`, so it is not sent",
                files.certificate.path.display()
            );
            let diagnostic = Diagnostic::warning("certificate-not-sent", message);
            let help = "move it to the certificate's file, after the first certificate";
            self.report(diagnostic.help(help), &files.key);
        }
        Some(certificate)
    }

    fn pair(&mut self, files: &PairFiles) -> Option<Certificate> {
        let certificate = self.certificate(files)?;
        let now = SystemTime::now();
        if let Some(warning) = certificate.warning(now) {
            let message = format!("`{}`: {warning}", files.certificate.path.display());
            let diagnostic = Diagnostic::warning(warning.code(), message);
            self.report(diagnostic, &files.certificate);
        } else if certificate.not_after() < now + SOON {
            let path = files.certificate.path.display();
            let message = format!("`{path}`: the certificate expires within a week");
            let diagnostic = Diagnostic::warning("certificate-ends-soon", message);
            self.report(diagnostic, &files.certificate);
        }
        Some(certificate)
    }

    fn authorities(&mut self, file: &NamedPath) -> Option<ClientAuthorities> {
        let text = self.read(file)?;
        ClientAuthorities::from_pem(&text)
            .map_err(|error| self.invalid(file, &error))
            .ok()
    }

    fn invalid(&mut self, file: &NamedPath, error: &AuthoritiesError) {
        let message = format!("`{}`: {error}", file.path.display());
        self.report(Diagnostic::error("invalid-certificate", message), file);
    }

    fn read(&mut self, file: &NamedPath) -> Option<Vec<u8>> {
        let read = self.files.read(&file.path, MAX_PEM);
        read.inspect_err(|error: &ReadError| {
            let message = format!("`{}` {error}", file.path.display());
            let diagnostic = Diagnostic::error("unreadable-file", message);
            self.report(super::read::readable(diagnostic, error), file);
        })
        .ok()
    }

    fn warn_of_readable_key(&mut self, file: &NamedPath) {
        const BY_EVERYBODY: u32 = 0o004;
        let metadata = fs::metadata(&file.path);
        if metadata.is_ok_and(|metadata| metadata.mode() & BY_EVERYBODY != 0) {
            let path = file.path.display();
            let message = format!("`{path}`: every user of this machine can read the private key");
            let diagnostic = Diagnostic::warning("readable-key", message);
            self.report(diagnostic.help(format!("chmod o-rwx {path}")), file);
        }
    }

    /// Reports at the config's reference to the file: a key's own lines are never shown.
    fn report(&mut self, diagnostic: Diagnostic, file: &NamedPath) {
        let diagnostic = match (self.config, file.span.clone()) {
            (Some(config), Some(span)) => diagnostic.at(config, span),
            _ => diagnostic.of(&SourceFile::unread(&file.path)),
        };
        if diagnostic.is_error() {
            self.files.reject(&file.path, diagnostic.to_string());
        }
        self.report.push(diagnostic);
    }
}
