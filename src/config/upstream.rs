//! A route's checked upstreams: their addresses, and their common settings.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method};
use rustls::pki_types::ServerName;
use toml::Spanned;

use crate::upstream::check_settings::CheckSettings;
use crate::upstream::endpoint::{Timeouts, Upstream, UpstreamLimits, UpstreamSettings};
use crate::upstream::health::HealthSettings;
use crate::upstream::tls::{Pin, UpstreamTls};

use super::address;
use super::diagnostic::{Diagnostic, with_help};
use super::file::Reader;
use super::listener::PairFiles;
use super::named_path::NamedPath;
use super::numbers::usize_of;
use super::table::Table;

/// The shortest timeout.
const LEAST: Duration = Duration::from_millis(1);

/// A route's upstreams.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    pub(super) settings: Vec<UpstreamSettings>,
    /// The place of each upstream.
    pub(super) spans: Vec<Range<usize>>,
    /// The files of their TLS, not read yet.
    pub(super) tls: Option<UpstreamTlsFiles>,
}

/// The files of TLS to a route's upstreams.
#[derive(Clone, Debug)]
pub(super) struct UpstreamTlsFiles {
    /// The trusted authorities.
    pub(super) ca: Option<NamedPath>,
    /// The client certificate and its key.
    pub(super) pair: Option<PairFiles>,
}

/// The common settings of a route's upstreams.
struct Common {
    http2: bool,
    timeouts: Timeouts,
    limits: UpstreamLimits,
    health: HealthSettings,
    check: Option<CheckSettings>,
    server_name: Option<ServerName<'static>>,
    pins: Arc<[Pin]>,
}

/// Reads `upstream` and the keys about it.
pub(super) fn upstreams(table: &mut Table<'_>, base: &Path, reader: &mut Reader<'_>) -> Upstreams {
    let tls_span = table.key_span("upstream_tls");
    let (files, server_name, pins) = tls(table, base, reader);
    let (health, check) = health(table, reader);
    let common = Common {
        health,
        check,
        server_name,
        pins,
        http2: table
            .boolean("upstream_http2", reader)
            .is_some_and(Spanned::into_inner),
        timeouts: timeouts(table, reader),
        limits: limits(table, reader),
    };
    let written = table.strings("upstream", reader);
    let help = "add upstream = [\"http://127.0.0.1:9000\"]";
    table.require(
        "upstream",
        "a route needs an `upstream`",
        Some(help),
        reader,
    );
    let problem = Diagnostic::error("missing-upstream", "a route needs at least one upstream");
    table.fill("upstream", written.as_ref(), problem, reader);
    let Some(written) = written else {
        return Upstreams {
            tls: files,
            ..Upstreams::default()
        };
    };
    let mut upstreams: Vec<UpstreamSettings> = Vec::with_capacity(written.get_ref().len());
    let mut spans = Vec::with_capacity(written.get_ref().len());
    for text in written.into_inner() {
        match upstream(text.get_ref(), base).map(|settings| common.with(settings)) {
            Ok(settings) if upstreams.contains(&settings) => {
                let diagnostic = Diagnostic::warning("duplicate-upstream", "duplicate upstream");
                reader.push(diagnostic, text.span());
            }
            Ok(settings) => {
                upstreams.push(settings);
                spans.push(text.span());
            }
            Err(diagnostic) => reader.push(*diagnostic, text.span()),
        }
    }
    if let Some(span) = tls_span
        && upstreams.iter().all(|upstream| upstream.tls.is_none())
        && !upstreams.is_empty()
    {
        let message = "`upstream_tls` has no effect: no upstream of the route uses https";
        reader.push(Diagnostic::warning("no-https-upstream", message), span);
    }
    Upstreams {
        settings: upstreams,
        spans,
        tls: files,
    }
}

fn tls(
    table: &mut Table<'_>,
    base: &Path,
    reader: &mut Reader<'_>,
) -> (
    Option<UpstreamTlsFiles>,
    Option<ServerName<'static>>,
    Arc<[Pin]>,
) {
    let Some(mut table) = table.table("upstream_tls", reader) else {
        return (None, None, Arc::default());
    };
    let ca = table.string("ca", reader);
    let [certificate, key] = ["certificate", "key"].map(|key| table.string(key, reader));
    for (there, missing) in [("certificate", "key"), ("key", "certificate")] {
        if let (Some(span), None) = (table.key_span(there), table.key_span(missing)) {
            let message = format!("`{there}` needs `{missing}`");
            reader.error("missing-key", span, message);
        }
    }
    let server_name = table.string("server_name", reader).and_then(|text| {
        let name = ServerName::try_from((*text.get_ref()).to_owned());
        if name.is_err() {
            let message = format!("`{}` isn't a host name or address", text.get_ref());
            reader.error("invalid-host", text.span(), message);
        }
        name.ok()
    });
    let pins = pins(&mut table, reader);
    table.finish(reader);
    let pair = certificate
        .zip(key)
        .map(|(certificate, key)| PairFiles::new(&certificate, &key, base));
    let ca = ca.map(|text| NamedPath::new(&text, base));
    let files = (ca.is_some() || pair.is_some()).then_some(UpstreamTlsFiles { ca, pair });
    (files, server_name, pins)
}

fn pins(table: &mut Table<'_>, reader: &mut Reader<'_>) -> Arc<[Pin]> {
    let written = table.strings("pin", reader);
    // Without a pin, more would be trusted than was meant.
    let problem = Diagnostic::error("invalid-value", "`pin` needs at least one key");
    let problem = problem.help("remove `pin` to accept any key");
    table.fill("pin", written.as_ref(), problem, reader);
    let Some(written) = written else {
        return Arc::default();
    };
    let pins = written.into_inner().into_iter().filter_map(|text| {
        let pin = text.get_ref().parse();
        if let Err(error) = &pin {
            let diagnostic = Diagnostic::error("invalid-value", format!("{error}"));
            let help = "openssl x509 -in FILE -noout -pubkey | openssl pkey -pubin -outform DER | \
                        openssl dgst -sha256 -binary | base64";
            reader.push(diagnostic.help(help), text.span());
        }
        pin.ok()
    });
    pins.collect()
}

impl Common {
    fn with(&self, upstream: UpstreamSettings) -> UpstreamSettings {
        UpstreamSettings {
            tls: upstream.tls.map(|tls| UpstreamTls {
                server_name: self.server_name.clone(),
                pins: Arc::clone(&self.pins),
                ..tls
            }),
            http2: self.http2,
            timeouts: self.timeouts,
            limits: self.limits,
            health: self.health,
            check: self.check.clone(),
            ..upstream
        }
    }
}

/// Parses an upstream in the config or a flag.
pub(super) fn upstream(text: &str, base: &Path) -> Result<UpstreamSettings, Box<Diagnostic>> {
    let invalid = |message: String| Diagnostic::error("invalid-upstream", message);
    let (address, tls) = address::upstream(text, base)
        .map_err(|error| Box::new(with_help(invalid(error.to_string()), error.help)))?;
    let settings = UpstreamSettings {
        tls: tls.then(UpstreamTls::default),
        ..UpstreamSettings::plain(address)
    };
    match Upstream::new(settings.clone()) {
        Ok(_) => Ok(settings),
        Err(error) => Err(Box::new(invalid(error.to_string()))),
    }
}

fn timeouts(table: &mut Table<'_>, reader: &mut Reader<'_>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(mut table) = table.table("timeouts", reader) else {
        return timeouts;
    };
    for (key, timeout) in [
        ("queue_seconds", &mut timeouts.queue),
        ("connect_seconds", &mut timeouts.connect),
        ("response_head_seconds", &mut timeouts.response_head),
        ("upstream_idle_seconds", &mut timeouts.upstream_idle),
    ] {
        if let Some(seconds) = table.seconds(key, LEAST, reader) {
            *timeout = seconds;
        }
    }
    // 0: no limit.
    let mut limit = |key| table.seconds(key, Duration::ZERO, reader);
    match limit("body_idle_seconds") {
        Some(Duration::ZERO) => timeouts.body_idle = Timeouts::NO_LIMIT,
        Some(seconds) => timeouts.body_idle = seconds,
        None => {}
    }
    let age = limit("upstream_max_age_seconds");
    timeouts.upstream_max_age = age.filter(|age| !age.is_zero());
    table.finish(reader);
    timeouts
}

fn limits(table: &mut Table<'_>, reader: &mut Reader<'_>) -> UpstreamLimits {
    let mut limits = UpstreamLimits::default();
    let Some(mut table) = table.table("limits", reader) else {
        return limits;
    };
    for (key, least, most, limit) in [
        (
            "response_head_bytes",
            1024,
            16 * 1024 * 1024,
            &mut limits.response_head_bytes,
        ),
        (
            "response_header_count",
            1,
            10_000,
            &mut limits.response_header_count,
        ),
        (
            "interim_responses",
            1,
            10_000,
            &mut limits.interim_responses,
        ),
        ("connections", 1, 1_000_000, &mut limits.connections),
        ("queue", 0, 1_000_000, &mut limits.queue),
        (
            "client_share_percent",
            1,
            100,
            &mut limits.client_share_percent,
        ),
    ] {
        if let Some(value) = table.integer(key, least, most, reader) {
            *limit = usize_of(*value.get_ref());
        }
    }
    table.finish(reader);
    limits
}

fn health(
    table: &mut Table<'_>,
    reader: &mut Reader<'_>,
) -> (HealthSettings, Option<CheckSettings>) {
    let mut health = HealthSettings::default();
    let Some(mut table) = table.table("health", reader) else {
        return (health, None);
    };
    if let Some(failures) = table.integer("failures", 1, 1_000_000, reader) {
        health.failures = usize_of(*failures.get_ref());
    }
    if let Some(seconds) = table.seconds("ejection_seconds", LEAST, reader) {
        health.ejection = seconds;
        health.max_ejection = health.max_ejection.max(seconds);
    }
    let span = table.key_span("max_ejection_seconds");
    if let Some(seconds) = table.seconds("max_ejection_seconds", LEAST, reader) {
        if seconds < health.ejection {
            let message = "`max_ejection_seconds` must be at least `ejection_seconds`";
            reader.error("out-of-range", span.unwrap_or_default(), message);
        }
        health.max_ejection = seconds;
    }
    let check = check(&mut table, reader);
    table.finish(reader);
    (health, check)
}

/// `None` if upstreams are not checked.
fn check(table: &mut Table<'_>, reader: &mut Reader<'_>) -> Option<CheckSettings> {
    let path = table.string("check_path", reader);
    let interval = table.seconds("check_seconds", LEAST, reader);
    let mut count = |key| {
        let count = table.integer(key, 1, 1_000_000, reader);
        count.map(|count| usize_of(*count.get_ref()))
    };
    let (passes, failures) = (count("check_passes"), count("check_failures"));
    let host = table.string("check_host", reader).and_then(|text| {
        let host = text.get_ref().parse::<Authority>();
        let host = host.ok().filter(|host| !host.as_str().contains('@'));
        let value = host.and_then(|host| HeaderValue::try_from(host.as_str()).ok());
        if value.is_none() {
            let message = format!("`{}` isn't a host name or address", text.get_ref());
            reader.error("invalid-value", text.span(), message);
        }
        value
    });
    let methods = [Method::GET, Method::HEAD, Method::OPTIONS];
    let methods = methods.each_ref().map(|method| (method.as_str(), method));
    let method = table.choice("check_method", &methods, reader);
    let statuses = table.texts("check_status", reader).map(|written| {
        let parse = |text: &Spanned<String>| {
            let range = status_range(text.get_ref());
            if range.is_none() {
                let message = format!("`{}` isn't a status or a range of statuses", text.get_ref());
                let diagnostic = Diagnostic::error("invalid-value", message);
                reader.push(
                    diagnostic.help("write 200, \"200-399\" or [200, 204]"),
                    text.span(),
                );
            }
            range
        };
        written.iter().filter_map(parse).collect()
    });
    let path = path?;
    if path.get_ref().is_empty() {
        return None;
    }
    let parsed = PathAndQuery::try_from(*path.get_ref());
    let Some(parsed) = parsed.ok().filter(|_| path.get_ref().starts_with('/')) else {
        let message = format!(
            "`{}` isn't a path: it must begin with a slash",
            path.get_ref()
        );
        reader.error("invalid-value", path.span(), message);
        return None;
    };
    Some(CheckSettings {
        path: parsed,
        interval: interval.unwrap_or(Duration::from_secs(5)),
        passes: passes.unwrap_or(2),
        failures: failures.unwrap_or(3),
        host,
        method: method.map_or(Method::GET, |method| (*method.get_ref()).clone()),
        statuses: statuses.unwrap_or_else(|| [200..=399].into()),
    })
}

/// `200` or `200-399`.
fn status_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        text.trim()
            .parse()
            .ok()
            .filter(|status| (100..=599).contains(status))
    };
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some(first..=last)
}
