//! Settings that this build reads and checks, but cannot honour yet.
//!
//! Each is an error, for what is asked for and not done would be a surprise. All of them stand
//! here, so that whoever adds one removes it here.

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::file::{Reader, Table};

/// Reads and checks the settings of a listener that have no effect yet.
pub(super) fn listener(table: &mut Table<'_>, reader: &mut Reader<'_>) {
    let proxy_protocol = table.boolean("proxy_protocol", reader);
    if let Some(value) = proxy_protocol.filter(|value| *value.get_ref()) {
        not_yet("the PROXY protocol", value.span(), reader);
    }
    let certificates = table.tables("tls", reader);
    let has_certificates = !certificates.is_empty();
    for mut certificate in certificates {
        for key in ["certificate", "key"] {
            if certificate.string(key, reader).is_none() && certificate.key_span(key).is_none() {
                let message = format!("a certificate has a `{key}`, the path of its file");
                reader.error("missing-key", certificate.span(), message);
            }
        }
        certificate.finish(reader);
    }
    let span = table.key_span("tls");
    if let Some(span) = span.filter(|_| has_certificates) {
        not_yet("TLS from clients", span, reader);
    }
    let client_ca = table.string("client_ca", reader);
    if let Some(path) = client_ca {
        not_yet("certificates of clients", path.span(), reader);
    }
}

/// A socket that systemd passes.
pub(super) fn systemd(span: Range<usize>, reader: &mut Reader<'_>) {
    not_yet("socket activation", span, reader);
}

fn not_yet(what: &str, span: Range<usize>, reader: &mut Reader<'_>) {
    let message = format!("not supported by this build yet: {what}");
    reader.push(Diagnostic::error("not-supported", message), span);
}
