//! The meaning of a config file: everything is checked, and errors go to the report.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;

use crate::routing::client::TrustedProxies;
use crate::routing::host::Host;
use crate::server::{Bind, DrainSettings, Limits, ListenerSettings};
use crate::telemetry::access_log::{AccessLogFormat, AccessLogSettings, Destination};
use crate::telemetry::traces::TracesSettings;
use crate::{admin, server};

use super::address::{InvalidAddress, invalid_address};
use super::bindings::Known;
use super::diagnostic::{Diagnostic, with_help};
use super::file::Reader;
use super::listener::{Taken, TlsFiles};
use super::numbers::usize_of;
use super::report::Report;
use super::route::RouteConfig;
use super::shape::Shape;
use super::source::SourceFile;
use super::state_setting::StateSetting;
use super::table::Table;
use super::{address, file, limits, listener, route, state_setting, traces, version};

/// The default listen address.
const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// The default admin address.
const DEFAULT_ADMIN: &str = "127.0.0.1:9901";

/// A config that was checked and is valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads, listeners, limits: settings that need a restart to change.
    pub server: server::Settings,
    /// The files of each listener's TLS.
    pub(super) tls: Vec<Option<TlsFiles>>,
    /// The admin listener.
    pub admin: admin::Settings,
    /// Whether the config or a flag sets the admin listener; otherwise it is the default.
    pub admin_asked_for: bool,
    /// The access log; `None` if off.
    pub access_log: Option<AccessLogSettings>,
    /// The proxies whose forwarded client addresses are trusted.
    pub trusted_proxies: TrustedProxies,
    /// Where the last good policies are kept.
    pub state: StateSetting,
    /// Traces; `None`: off.
    pub traces: Option<TracesSettings>,
    /// The routes.
    pub routes: Vec<RouteConfig>,
}

/// Flags that override the config.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The listen address.
    pub listen: Option<String>,
    /// The admin address, or `off`.
    pub admin: Option<String>,
    /// Additional host names for the admin listener.
    pub admin_hosts: Vec<String>,
}

/// Reads and checks a config; returns whether it is valid, and as much of it as could be read.
pub(super) fn check(
    file: &Arc<SourceFile>,
    base: &Path,
    overrides: &Overrides,
    report: &mut Report,
) -> (Config, bool) {
    check_and_record(file, base, overrides, report, None)
}

/// The keys of the config and what each accepts.
///
/// A key that accepts a table and something else is asked for either, so it takes two configs.
pub(super) fn shape() -> Shape {
    let mut shape = Shape::default();
    for text in ["", "[[route]]\n[route.cors_api.store]\n"] {
        let file = SourceFile::new(Path::new("s3cors.toml"), text.as_bytes());
        let (overrides, report) = (Overrides::default(), &mut Report::default());
        check_and_record(&file, Path::new(""), &overrides, report, Some(&mut shape));
    }
    shape
}

fn check_and_record(
    file: &Arc<SourceFile>,
    base: &Path,
    overrides: &Overrides,
    report: &mut Report,
    shape: Option<&mut Shape>,
) -> (Config, bool) {
    let mut found = Report::default();
    let mut reader = Reader {
        file,
        report: &mut found,
        shape,
        newer: None,
    };
    let document = file::parse(file.text(), &mut reader);
    let mut root = Table::new(document.get_ref(), 0..0);

    version::read(&mut root, &mut reader);
    let state = state_setting::setting(&mut root, base, &mut reader);
    let workers = root.integer("workers", 1, 1024, &mut reader);
    let trusted_proxies = listener::trusted_proxies(&mut root, &mut reader);
    let listeners = listener::listeners(&mut root, base, &trusted_proxies, &mut reader);
    let (admin, admin_place) = admin(&mut root, base, &mut reader);
    let access_log = access_log(&mut root, base, &mut reader);
    let traces = traces::traces(&mut root, base, &mut reader);
    let known = listeners.iter().map(|(listener, tls)| Known {
        name: listener.name.clone(),
        address: listener.address.clone(),
        has_client_ca: tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
    });
    let known: Vec<_> = known.collect();
    let routes = route::routes(&mut root, base, &known, &mut reader);
    let limits = limits::limits(&mut root, &mut reader);
    let drain = limits::drain(&mut root, &mut reader);
    root.finish(&mut reader);

    let (listeners, tls) = if listeners.is_empty() {
        (default_listeners(), vec![None])
    } else {
        listeners.into_iter().unzip()
    };
    let are_overridden = overrides.listen.is_some() || overrides.admin.is_some();
    if let Some(place) = admin_place.as_ref().filter(|_| !are_overridden)
        && let Some(problem) = admin_taken(&listeners, &admin)
    {
        reader.push(problem, place.clone());
    }
    found.drop_followers();
    let mut config = Config {
        server: server::Settings {
            workers: workers.map_or_else(default_workers, |workers| usize_of(*workers.get_ref())),
            listeners,
            limits,
            drain,
        },
        tls,
        admin,
        admin_asked_for: admin_place.is_some(),
        access_log,
        trusted_proxies,
        state,
        traces,
        routes,
    };
    config.apply(overrides, &mut found);
    for (diagnostic, place) in config.loops() {
        found.push(match place {
            Some(place) => diagnostic.at(file, place),
            None => diagnostic,
        });
    }
    found.sort_by_place();
    let is_good = found.errors() == 0;
    report.extend(found);
    (config, is_good)
}

impl Config {
    /// A default config with these routes.
    pub(super) fn with(
        routes: Vec<RouteConfig>,
        overrides: &Overrides,
        report: &mut Report,
    ) -> Self {
        let mut config = Self {
            server: server::Settings {
                workers: default_workers(),
                listeners: default_listeners(),
                limits: Limits::default(),
                drain: DrainSettings::default(),
            },
            tls: vec![None],
            admin: default_admin(),
            admin_asked_for: false,
            access_log: None,
            trusted_proxies: TrustedProxies::default(),
            state: StateSetting::default(),
            traces: None,
            routes,
        };
        config.apply(overrides, report);
        config
            .loops()
            .for_each(|(diagnostic, _)| report.push(diagnostic));
        config
    }

    /// A listener's settings that one from a flag would lack.
    fn guarded_listener(&self) -> Option<String> {
        let listeners = self.server.listeners.iter().zip(&self.tls);
        let mut guards = listeners.filter_map(|(listener, tls)| {
            let has = match tls {
                Some(tls) if tls.client_ca.is_some() => "has `tls` and `client_ca`",
                Some(_) => "has `tls`",
                None if listener.proxy_protocol => "has `proxy_protocol`",
                None => return None,
            };
            Some(format!("{} {has}", listener.address))
        });
        guards.next()
    }

    fn apply(&mut self, overrides: &Overrides, report: &mut Report) {
        // Paths in flags are relative to the working directory.
        let here = Path::new("");
        if let Some(text) = &overrides.listen {
            if let Some(route) = self.routes.iter().find(|route| route.listen.is_some()) {
                let message = format!(
                    "route `{}` is bound to listeners of the config, which --listen replaces",
                    route.name
                );
                report.push(Diagnostic::error("unknown-listener", message).of_flag("--listen"));
            }
            if let Some(replaced) = self.guarded_listener() {
                let message = format!(
                    "--listen (S3CORS_LISTEN) would replace the config's listeners with one without TLS, \
                     and {replaced}"
                );
                let help = "remove the flag, and set `listen.address` in the config";
                let diagnostic = Diagnostic::error("listener-replaced", message).help(help);
                report.push(diagnostic.of_flag("--listen"));
            }
            match address::bind(text, here) {
                Ok(address) => {
                    self.server.listeners = vec![ListenerSettings::plain(address)];
                    self.tls = vec![None];
                }
                Err(error) => report.push(flag_error("--listen", error)),
            }
        }
        if let Some(text) = &overrides.admin {
            self.admin_asked_for = true;
            match admin_address(text, here) {
                Ok(address) => self.admin.address = address,
                Err(error) => report.push(flag_error("--admin", error)),
            }
        }
        for host in &overrides.admin_hosts {
            if Host::parse(host.as_bytes()).is_err() {
                let message = format!("`{host}` isn't a host name");
                let diagnostic = Diagnostic::error("invalid-host", message);
                report.push(diagnostic.of_flag("--admin-host"));
            }
            self.admin.hosts.push(host.clone());
        }
        let flag = match (&overrides.listen, &overrides.admin) {
            (None, None) => return,
            (Some(_), None) => "--listen",
            (_, Some(_)) => "--admin",
        };
        if self.admin_asked_for
            && let Some(problem) = admin_taken(&self.server.listeners, &self.admin)
        {
            report.push(problem.of_flag(flag));
        }
    }
}

/// What conflicts with the admin listener's address: a listener for clients.
fn admin_taken(listeners: &[ListenerSettings], admin: &admin::Settings) -> Option<Diagnostic> {
    let address = admin.address.as_ref()?;
    let listeners = listeners.iter().map(|there| (&there.address, ()));
    let (taken, ()) = Taken::by_one_of(listeners, address)?;
    Some(taken.diagnostic(address))
}

/// An error in a flag or in its environment variable.
fn flag_error(flag: &str, error: InvalidAddress) -> Diagnostic {
    let diagnostic = Diagnostic::error("invalid-address", error.to_string());
    with_help(diagnostic, error.help).of_flag(flag)
}

/// One worker per core that the process may use: [`std::thread::available_parallelism`] respects
/// the cgroup's quota and the CPU mask.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn default_listeners() -> Vec<ListenerSettings> {
    let address = DEFAULT_LISTEN.parse().expect("the default address is one");
    vec![ListenerSettings::plain(Bind::Tcp(address))]
}

fn default_admin() -> admin::Settings {
    let address = DEFAULT_ADMIN.parse().expect("the default address is one");
    admin::Settings {
        address: Some(Bind::Tcp(address)),
        hosts: Vec::new(),
    }
}

/// The admin listener, and its place in the config.
fn admin(
    root: &mut Table<'_>,
    base: &Path,
    reader: &mut Reader<'_>,
) -> (admin::Settings, Option<Range<usize>>) {
    let mut settings = default_admin();
    let Some(mut table) = root.table("admin", reader) else {
        return (settings, None);
    };
    let mut place = table.span();
    if let Some(text) = table.string("address", reader) {
        place = text.span();
        match admin_address(text.get_ref(), base) {
            Ok(address) => settings.address = address,
            Err(error) => invalid_address(&text, error, reader),
        }
    }
    for host in table
        .strings("hosts", reader)
        .map(Spanned::into_inner)
        .unwrap_or_default()
    {
        if Host::parse(host.get_ref().as_bytes()).is_err() {
            let message = format!("`{}` isn't a host name", host.get_ref());
            reader.error("invalid-host", host.span(), message);
        }
        settings.hosts.push((*host.get_ref()).to_owned());
    }
    table.finish(reader);
    (settings, Some(place))
}

fn admin_address(text: &str, base: &Path) -> Result<Option<Bind>, InvalidAddress> {
    if text == "off" {
        return Ok(None);
    }
    address::bind(text, base).map(Some)
}

fn access_log(
    root: &mut Table<'_>,
    base: &Path,
    reader: &mut Reader<'_>,
) -> Option<AccessLogSettings> {
    let mut table = root.table("access_log", reader)?;
    let formats = [
        ("off", None),
        ("json", Some(AccessLogFormat::Json)),
        ("combined", Some(AccessLogFormat::Combined)),
    ];
    let format = table.choice("format", &formats, reader);
    let path = table.string("path", reader);
    table.finish(reader);
    let path = match path.as_ref().map(|path| *path.get_ref()) {
        None | Some("-") => Destination::StandardOutput,
        Some(path) => Destination::File(base.join(path)),
    };
    let format = format.and_then(Spanned::into_inner)?;
    Some(AccessLogSettings { format, path })
}
