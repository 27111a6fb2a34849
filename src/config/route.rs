//! A config's routes, checked.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use http::Method;
use toml::Spanned;

use crate::cors::{Options, S3_METHODS, Semantics, ascii_host};
use crate::metrics::NO_ROUTE;
use crate::routing::bucket::Addressing;
use crate::routing::host::HostPattern;
use crate::routing::snapshot::{Forwarding, HostHeader};
use crate::upstream::endpoint::UpstreamSettings;

use super::bindings::{Bindings, Known};
use super::cors_api::{CorsApiConfig, CorsApiTable};
use super::diagnostic::{Diagnostic, with_help};
use super::file::Reader;
use super::named_path::NamedPath;
use super::table::Table;
use super::upstream::UpstreamTlsFiles;
use super::{bindings, bucket_hosts, cors_api, forwarding, upstream};

/// The longest name of a route, in bytes: it is a label of every metric.
const MAX_NAME: usize = 256;

/// A route of the config.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// The `route` label of metrics.
    pub name: Box<str>,
    /// The hosts that it serves.
    pub hosts: Vec<HostPattern>,
    /// Its upstreams.
    pub upstreams: Vec<UpstreamSettings>,
    /// The TLS files for its upstreams.
    pub(super) upstream_tls: Option<UpstreamTlsFiles>,
    /// The place of each upstream; empty if from flags.
    pub(super) upstream_spans: Vec<Range<usize>>,
    /// Whether these TLS files are invalid, so that the last good upstreams stay in force.
    pub(super) keeps_upstreams: bool,
    /// The file of the route's own policy.
    pub cors: Option<NamedPath>,
    /// The policies of its buckets.
    pub buckets: Option<BucketsConfig>,
    /// The S3 API for its buckets' policies.
    pub(super) cors_api: Option<CorsApiConfig>,
    /// The options for compiling its policies.
    pub options: Options,
    /// The listeners that serve it.
    pub(super) listen: Bindings,
    /// The `Host` that the upstream receives.
    pub host_header: HostHeader,
    /// The fields added to forwarded messages.
    pub forwarding: Forwarding,
    /// Whether responses to refused requests carry the reason.
    pub explain_header: bool,
}

/// The place of the policies of a route's buckets.
#[derive(Clone, Debug)]
pub struct BucketsConfig {
    /// The folder of `<bucket>.xml`.
    pub directory: NamedPath,
    /// The copy of a bucket of policies, whose files take precedence; may be the same folder.
    pub cache: Option<NamedPath>,
    /// How a request names its bucket.
    pub addressing: Addressing,
    /// The file of the service root's policy.
    pub root: Option<NamedPath>,
}

impl RouteConfig {
    /// Whether the proxy handles CORS; otherwise the upstream does.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        let has_policy = self.cors.is_some() || self.buckets.is_some();
        has_policy || self.options.semantics == Semantics::S3Exact
    }

    /// The route of `run --upstream … --cors …`: every host.
    pub(super) fn catch_all(upstreams: Vec<UpstreamSettings>, cors: PathBuf) -> Self {
        Self {
            name: "*".into(),
            hosts: vec![HostPattern::Any],
            upstreams,
            upstream_spans: Vec::new(),
            upstream_tls: None,
            keeps_upstreams: false,
            cors: Some(NamedPath {
                path: cors,
                span: None,
            }),
            buckets: None,
            cors_api: None,
            options: Options::default(),
            listen: None,
            host_header: HostHeader::default(),
            forwarding: Forwarding::default(),
            explain_header: false,
        }
    }
}

/// Names and hosts seen so far, with their places: each must be unique.
#[derive(Debug, Default)]
struct Seen {
    names: HashMap<Box<str>, Range<usize>>,
    hosts: HashMap<HostPattern, Range<usize>>,
}

/// Reads and checks every `[[route]]`.
pub(super) fn routes(
    root: &mut Table<'_>,
    base: &Path,
    listeners: &[Known],
    reader: &mut Reader<'_>,
) -> Vec<RouteConfig> {
    let tables = root.tables("route", reader);
    if tables.is_empty() && root.key_span("route").is_none() {
        let diagnostic = Diagnostic::error("no-route", "the config has no route");
        let help = "add one: [[route]] host = [\"*\"] upstream = [\"http://127.0.0.1:9000\"] cors = \"cors.xml\"";
        reader.push(diagnostic.help(help), 0..0);
    }
    let mut seen = Seen::default();
    let mut routes = Vec::with_capacity(tables.len());
    for mut table in tables {
        routes.extend(route(&mut table, base, listeners, &mut seen, reader));
        table.finish(reader);
    }
    let apis = routes.iter().filter_map(|route| route.cors_api.as_ref());
    let policies = routes.iter().flat_map(|route| {
        let root = route.buckets.as_ref().and_then(|it| it.root.as_ref());
        let root = root.map(|root| ("buckets.root", root));
        root.into_iter()
            .chain(route.cors.as_ref().map(|cors| ("cors", cors)))
    });
    cors_api::check_reach(apis, policies, reader);
    routes
}

/// `None` if something essential is missing, which was reported.
fn route(
    table: &mut Table<'_>,
    base: &Path,
    listeners: &[Known],
    seen: &mut Seen,
    reader: &mut Reader<'_>,
) -> Option<RouteConfig> {
    let hosts = hosts(table, seen, reader);
    let name = name(table, hosts.first(), seen, reader);
    let upstreams = upstream::upstreams(table, base, reader);
    let cors = table.string("cors", reader);
    let cors = cors.map(|text| NamedPath::new(&text, base));
    let cors_api = cors_api::read(table, base, reader);
    let cache = cors_api.as_ref().and_then(CorsApiTable::cache);
    let buckets = buckets(table, base, &hosts, cache, reader);
    let cors_api = cors_api.and_then(|api| {
        let directory = buckets.as_ref().map(|it| &it.directory);
        api.of_buckets(directory, reader)
    });
    let semantics = [("safe", Semantics::Safe), ("s3-exact", Semantics::S3Exact)];
    let options = Options {
        semantics: table
            .choice("semantics", &semantics, reader)
            .map(Spanned::into_inner)
            .unwrap_or_default(),
        extra_methods: extra_methods(table, reader),
    };
    let host_header = [
        ("preserve", HostHeader::Preserve),
        ("upstream", HostHeader::Upstream),
    ];
    let host_header = table.choice("host_header", &host_header, reader);
    let addressing = buckets.as_ref().map(|buckets| buckets.addressing);
    bucket_hosts::check_host_header(host_header.as_ref(), addressing, reader);
    let host_header = host_header.map(Spanned::into_inner).unwrap_or_default();
    let forwarding = forwarding::read(table, reader);
    let explain_header = table.boolean("explain_header", reader);
    let listen = bindings::read(table, listeners, reader);
    Some(RouteConfig {
        name: name?,
        hosts: hosts.into_iter().map(|(host, _)| host).collect(),
        upstreams: upstreams.settings,
        upstream_spans: upstreams.spans,
        upstream_tls: upstreams.tls,
        keeps_upstreams: false,
        cors,
        buckets,
        cors_api,
        options,
        listen,
        host_header,
        forwarding,
        explain_header: explain_header.is_some_and(Spanned::into_inner),
    })
}

/// A route's hosts, with their places.
fn hosts(
    table: &mut Table<'_>,
    seen: &mut Seen,
    reader: &mut Reader<'_>,
) -> Vec<(HostPattern, Range<usize>)> {
    let written = table.strings("host", reader);
    let help = "add host = [\"photos.example.com\"], or [\"*\"] for every host";
    table.require("host", "a route needs a `host`", Some(help), reader);
    let problem = Diagnostic::error("missing-host", "a route needs at least one host");
    table.fill("host", written.as_ref(), problem, reader);
    let Some(written) = written else {
        return Vec::new();
    };
    let mut hosts = Vec::with_capacity(written.get_ref().len());
    for text in written.into_inner() {
        let host: HostPattern = match text.get_ref().parse() {
            Ok(host) => host,
            Err(error) => {
                let error =
                    Diagnostic::error("invalid-host", format!("`{}`: {error}", text.get_ref()));
                reader.push(with_help(error, host_help(text.get_ref())), text.span());
                continue;
            }
        };
        match seen.hosts.get(&host) {
            Some(first) => {
                let diagnostic = Diagnostic::error(
                    "duplicate-host",
                    format!("`{host}` already belongs to another entry"),
                )
                .help("each host belongs to one route, and is listed once")
                .also(reader.file, first.clone(), "first here");
                reader.push(diagnostic, text.span());
            }
            None => {
                seen.hosts.insert(host.clone(), text.span());
                hosts.push((host, text.span()));
            }
        }
    }
    hosts
}

/// The host that was probably meant.
fn host_help(text: &str) -> Option<String> {
    let host = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = host
        .split(['/', '?', '#'])
        .next()
        .unwrap_or_default()
        .trim();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let host = host
        .strip_prefix('.')
        .map_or_else(|| host.to_owned(), |rest| format!("*.{rest}"));
    let host = ascii_host(&host).unwrap_or(host);
    (host != text && host.parse::<HostPattern>().is_ok()).then(|| format!("write \"{host}\""))
}

fn name(
    table: &mut Table<'_>,
    first: Option<&(HostPattern, Range<usize>)>,
    seen: &mut Seen,
    reader: &mut Reader<'_>,
) -> Option<Box<str>> {
    let written = table.string("name", reader);
    let (name, span) = match &written {
        Some(name) => (Box::<str>::from(*name.get_ref()), name.span()),
        None => {
            let (host, span) = first?;
            (host.to_string().into(), span.clone())
        }
    };
    if name.is_empty()
        || name.len() > MAX_NAME
        || name.chars().any(char::is_control)
        || *name == *NO_ROUTE
    {
        let message = format!(
            "a route's name must have 1 to {MAX_NAME} bytes without control characters, and cannot be \"{NO_ROUTE}\""
        );
        reader.error("invalid-name", span, message);
        return None;
    }
    if let Some(first) = seen.names.get(&name) {
        let diagnostic =
            Diagnostic::error("duplicate-name", format!("two routes are named `{name}`"))
                .help("metrics and /status identify routes by name; the default is the first host")
                .also(reader.file, first.clone(), "first here");
        reader.push(diagnostic, span);
        return Some(name);
    }
    seen.names.insert(name.clone(), span);
    Some(name)
}

fn buckets(
    table: &mut Table<'_>,
    base: &Path,
    hosts: &[(HostPattern, Range<usize>)],
    cache: Option<&NamedPath>,
    reader: &mut Reader<'_>,
) -> Option<BucketsConfig> {
    let mut table = table.table("buckets", reader)?;
    let directory = table.string("directory", reader);
    if cache.is_none() && directory.is_none() && table.key_span("directory").is_none() {
        let diagnostic = Diagnostic::error("missing-key", "`buckets` needs a `directory`");
        reader.push(
            diagnostic.help("it holds a file for each bucket: photos.xml is bucket \"photos\""),
            table.span(),
        );
    }
    let forms = [
        ("path", Addressing::Path),
        ("host", Addressing::Host),
        ("both", Addressing::Both),
    ];
    let written = table.choice("address", &forms, reader);
    let root = table.string("root", reader);
    let place = written.as_ref().map_or(table.span(), Spanned::span);
    table.finish(reader);
    let addressing = written
        .as_ref()
        .map_or(Addressing::Path, |written| *written.get_ref());
    let directory = match (&directory, cache) {
        (Some(directory), _) => NamedPath::new(directory, base),
        (None, cache) => cache?.clone(),
    };
    bucket_hosts::check_hosts(addressing, place, hosts, reader);
    Some(BucketsConfig {
        directory,
        cache: cache.cloned(),
        addressing,
        root: root.map(|root| NamedPath::new(&root, base)),
    })
}

fn extra_methods(table: &mut Table<'_>, reader: &mut Reader<'_>) -> Vec<Method> {
    let written = table
        .strings("extra_methods", reader)
        .map(Spanned::into_inner);
    let mut methods = Vec::new();
    for text in written.unwrap_or_default() {
        let name = *text.get_ref();
        let upper = name.to_ascii_uppercase();
        let invalid = |message: String| Diagnostic::error("invalid-method", message);
        let diagnostic = match Method::from_bytes(name.as_bytes()) {
            Err(_) => invalid(format!("`{name}` isn't a valid method")),
            Ok(_) if ["CONNECT", "TRACE", "TRACK"].contains(&&*upper) => {
                invalid(format!("browsers do not let scripts use {upper}"))
            }
            Ok(_) if S3_METHODS.contains(&&*upper) || (upper != name && upper == "PATCH") => {
                let known = S3_METHODS.contains(&name);
                let diagnostic = invalid(format!("`{name}` isn't an extra method"));
                diagnostic.help(if known {
                    "remove it: S3's rules can use it anyway".to_owned()
                } else {
                    format!("methods are case-sensitive; {upper} is written in upper case")
                })
            }
            Ok(method) => {
                methods.push(method);
                continue;
            }
        };
        reader.push(diagnostic, text.span());
    }
    methods
}
