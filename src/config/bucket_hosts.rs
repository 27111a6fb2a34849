//! Checks that hosts can name buckets: the upstream must find the same bucket as the route.

use std::ops::Range;

use toml::Spanned;

use crate::routing::bucket::Addressing;
use crate::routing::host::HostPattern;
use crate::routing::snapshot::HostHeader;

use super::diagnostic::Diagnostic;
use super::file::Reader;

/// Checks that a route's hosts define which part of them is the bucket, if any.
pub(super) fn check_hosts(
    addressing: Addressing,
    place: Range<usize>,
    hosts: &[(HostPattern, Range<usize>)],
    reader: &mut Reader<'_>,
) {
    let mut wildcards = hosts
        .iter()
        .filter(|(host, _)| matches!(host, HostPattern::Below(_)));
    match (addressing, wildcards.next()) {
        (Addressing::Path, None) => return,
        (Addressing::Path, Some((wildcard, span))) => {
            let message = format!(
                "buckets are taken from paths only, but the upstream may take one from `{wildcard}` and serve it under another bucket's policy"
            );
            let help = "set buckets.address = \"both\" if the upstream takes buckets from hosts";
            let diagnostic = Diagnostic::warning("wildcard-host-without-bucket", message);
            reader.push(diagnostic.help(help), span.clone());
            return;
        }
        (Addressing::Host | Addressing::Both, Some(_)) => {}
        (Addressing::Host | Addressing::Both, None) => {
            let is_for_any = hosts.iter().any(|(host, _)| *host == HostPattern::Any);
            let diagnostic = if addressing == Addressing::Both && !is_for_any {
                let message =
                    "no host of the route has a wildcard, so buckets are taken from paths only";
                Diagnostic::warning("no-wildcard-host", message)
            } else {
                let message = "no host of the route has a wildcard for buckets";
                Diagnostic::error("no-wildcard-host", message)
            };
            let help =
                "add one: in photos.s3.example.com, \"*.s3.example.com\" finds bucket photos";
            reader.push(diagnostic.help(help), place);
        }
    }
    for (host, span) in hosts {
        let below = hosts.iter().find(|(other, _)| host.is_below(other));
        if let Some((wildcard, first)) = below {
            let message = format!(
                "`{host}` is below `{wildcard}`, so the upstream may take a different bucket from it than the route"
            );
            let diagnostic = Diagnostic::error("ambiguous-host", message)
                .help("remove it, or give it its own route")
                .also(
                    reader.file,
                    first.clone(),
                    "this wildcard determines the bucket",
                );
            reader.push(diagnostic, span.clone());
        }
    }
}

/// Checks that the upstream receives the host that names the bucket.
pub(super) fn check_host_header(
    written: Option<&Spanned<HostHeader>>,
    addressing: Option<Addressing>,
    reader: &mut Reader<'_>,
) {
    let is_replaced = |written: &&Spanned<HostHeader>| *written.get_ref() == HostHeader::Upstream;
    let Some(written) = written.filter(is_replaced) else {
        return;
    };
    let address = match addressing {
        None | Some(Addressing::Path) => return,
        Some(Addressing::Host) => "host",
        Some(Addressing::Both) => "both",
    };
    let message = format!(
        "buckets are taken from the host (buckets.address = \"{address}\"), but the upstream receives its own host instead and serves another bucket"
    );
    let help = "remove host_header, or take buckets from paths only: buckets.address = \"path\"";
    let diagnostic = Diagnostic::error("host-of-bucket-replaced", message);
    reader.push(diagnostic.help(help), written.span());
}
