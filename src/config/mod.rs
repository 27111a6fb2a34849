//! Files in, snapshot out: the config, its policies, and changes of either.
//!
//! [`load`] is shared by a start, a reload and `s3cors check`: it reads and checks everything and
//! reports every problem. [`Loaded::snapshot`] builds the snapshot, and
//! [`Reloader`](reload::Reloader) does both when files change. May use all rooms but `cli`.

mod address;
mod bindings;
mod bucket_hosts;
mod build;
mod build_api;
mod certificates;
mod check;
mod config_text;
mod cors_api;
mod diagnostic;
mod file;
mod files;
mod forwarding;
mod in_force;
mod keys_file;
mod limits;
mod listener;
mod loops;
mod named_path;
mod numbers;
mod policies;
mod policy_file;
mod policy_reader;
mod policy_state;
mod policy_store;
mod public_suffix;
mod read;
pub mod reload;
mod reload_log;
mod report;
mod route;
mod schema;
mod shape;
mod source;
mod start_check;
pub mod state_folder;
mod state_setting;
mod table;
mod traces;
mod unclosed;
mod upstream;
mod values;
mod version;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certificates::TlsLoaded;
use config_text::{decode, read_config};
use files::{Before, Files};
use policies::RoutePolicies;

pub use check::{Config, Overrides};
pub use diagnostic::Diagnostic;
pub use named_path::NamedPath;
pub use policies::{check_policy, check_policy_file};
pub use report::Report;
pub use route::{BucketsConfig, RouteConfig};
pub use schema::schema;
pub use source::{Position, SourceFile};
pub use state_setting::StateSetting;
pub use watch::watch;

/// How often a load restarts because files changed meanwhile.
const ATTEMPTS: u32 = 20;

/// What to serve.
#[derive(Clone, Debug)]
pub struct Input {
    /// The source of the routes.
    pub source: Source,
    /// The overrides from flags.
    pub overrides: Overrides,
}

/// The source of the routes.
#[derive(Clone, Debug)]
pub enum Source {
    /// A config file.
    File(PathBuf),
    /// Flags: one route for every host.
    Flags {
        /// The upstreams.
        upstreams: Vec<String>,
        /// The policy's file.
        cors: PathBuf,
    },
    /// No file: one route for every host.
    Inline {
        /// The upstreams.
        upstreams: Vec<String>,
        /// The policy.
        cors: String,
        /// Replaces the policy's file name in messages.
        name: &'static str,
    },
}

/// A config and its policies, read and checked.
#[derive(Debug)]
pub struct Loaded {
    /// All diagnostics.
    pub report: Report,
    /// The config; `None` if it is invalid and there is no earlier one.
    pub config: Option<Config>,
    /// The text of the config; `None` if it is from flags or missing.
    text: Option<Arc<SourceFile>>,
    /// Whether the newest config file cannot be used, so that this is the last good one.
    is_last_good: bool,
    /// The policies of each of the config's routes.
    policies: Vec<RoutePolicies>,
    /// How many of the errors are in bucket policy files.
    bucket_errors: usize,
    /// How many errors the policy files of routes have in whose place the state folder's are used.
    restored_errors: usize,
    /// The certificates of each of the config's listeners.
    tls: Vec<Option<TlsLoaded>>,
    /// The files that were read.
    files: Files,
}

impl Input {
    /// A config file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            source: Source::File(path.into()),
            overrides: Overrides::default(),
        }
    }
}

impl Loaded {
    /// Whether there are errors in the config or in a policy.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.report.errors() > 0
    }

    /// Whether a start must fail: the config or a route's policy is invalid.
    ///
    /// An invalid policy file of a *bucket* does not prevent a start: among thousands of files
    /// from many authors, one is always invalid. That bucket is answered as one without CORS.
    #[must_use]
    pub fn stops_start(&self) -> bool {
        self.report.errors() > self.bucket_errors + self.restored_errors
    }

    /// Records an error without a file as one of the config.
    fn name_what_is_wrong(&mut self, input: &Input) {
        if let Some(error) = self.report.first_error()
            && self.files.rejected().is_empty()
        {
            let path = match &input.source {
                Source::File(path) => path,
                Source::Flags { .. } | Source::Inline { .. } => Path::new("(flags)"),
            };
            self.files.reject(path, error.to_string());
        }
    }

    /// The number of valid policies.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        self.policies.iter().map(RoutePolicies::count).sum()
    }
}

/// Reads and checks a config and everything that it names.
///
/// All files belong together: if one changes while another is read (Kubernetes replaces a whole
/// folder at once), everything is read again.
#[must_use]
pub fn load(input: &Input) -> Loaded {
    load_changes(input, Before::Nothing, None)
}

/// Like [`load`], but reuses results of an earlier load. If the newest config cannot be used, the
/// text of the last good one is used, so that the files it names are still read.
fn load_changes(input: &Input, before: Before<'_>, last_good: Option<&Arc<SourceFile>>) -> Loaded {
    let attempt = || attempt(input, before, last_good);
    let mut loaded = attempt();
    for _ in 1..ATTEMPTS {
        if !loaded.files.changed_meanwhile() {
            return loaded;
        }
        // Gives the writer a moment to finish.
        std::thread::sleep(Duration::from_millis(5));
        loaded = attempt();
    }
    // A file that keeps changing must not block the others. What matters is that all are of one
    // generation of the folder.
    let folders = loaded.files.real_folders();
    loaded = attempt();
    if loaded.files.real_folders() != folders {
        let message = "the folder keeps changing while its files are read";
        let diagnostic = Diagnostic::error("unreadable-file", message);
        if let Source::File(path) = &input.source {
            loaded.files.reject(path, diagnostic.to_string());
        }
        loaded.files.expect_other();
        loaded.report.push(diagnostic);
        loaded.config = None;
    }
    loaded
}

fn attempt(input: &Input, before: Before<'_>, last_good: Option<&Arc<SourceFile>>) -> Loaded {
    let mut report = Report::default();
    let mut files = Files::default();
    let mut is_last_good = false;
    let (mut config, is_good, text) = match &input.source {
        Source::File(path) => {
            let newest = read_config(path, &mut files, &mut report).map(|text| {
                let (config, is_good) = check_file(path, &text, input, &mut report);
                (config, is_good, text)
            });
            let is_good = newest.as_ref().is_some_and(|(_, is_good, _)| *is_good);
            if !is_good && let Some(error) = report.first_error() {
                files.reject(path, error.to_string());
            }
            match (newest, last_good) {
                (Some((config, true, text)), _) | (Some((config, false, text)), None) => {
                    (config, is_good, Some(text))
                }
                (_, Some(text)) => {
                    is_last_good = true;
                    // Its problems were reported when it was new.
                    let (config, is_good) = check_file(path, text, input, &mut Report::default());
                    (config, is_good, Some(Arc::clone(text)))
                }
                (None, None) => {
                    return Loaded {
                        report,
                        config: None,
                        text: None,
                        is_last_good,
                        policies: Vec::new(),
                        bucket_errors: 0,
                        restored_errors: 0,
                        tls: Vec::new(),
                        files,
                    };
                }
            }
        }
        Source::Flags { upstreams, cors } => {
            let config = from_flags(upstreams, cors, &input.overrides, &mut report);
            (config, report.errors() == 0, None)
        }
        Source::Inline {
            upstreams,
            cors,
            name,
        } => {
            let path = Path::new(name);
            let config = from_flags(upstreams, path, &input.overrides, &mut report);
            let is_good = report.errors() == 0;
            return Loaded {
                config: is_good.then_some(config),
                text: None,
                is_last_good,
                policies: vec![RoutePolicies::inline(path, cors, &mut report)],
                bucket_errors: 0,
                restored_errors: 0,
                tls: vec![None],
                report,
                files,
            };
        }
    };
    // Places in a text that is no longer on disk would mislead.
    let named_in = text.as_ref().filter(|_| !is_last_good);
    let listeners = &mut config.server.listeners;
    let tls = certificates::load(listeners, &config.tls, named_in, &mut files, &mut report);
    let routes = &mut config.routes;
    certificates::load_for_upstreams(routes, named_in, &mut files, &mut report);
    let apis = routes
        .iter_mut()
        .filter_map(|route| route.cors_api.as_mut());
    cors_api::load(apis, named_in, &mut files, &mut report);
    let (policies, bucket_errors) =
        policies::load(&config.routes, named_in, before, &mut files, &mut report);
    Loaded {
        report,
        config: is_good.then_some(config),
        text,
        is_last_good,
        policies,
        bucket_errors,
        restored_errors: 0,
        tls,
        files,
    }
}

/// Checks a config's text; returns whether it is valid.
fn check_file(
    path: &Path,
    text: &Arc<SourceFile>,
    input: &Input,
    report: &mut Report,
) -> (Config, bool) {
    let base = path.parent().unwrap_or(Path::new(""));
    check::check(text, base, &input.overrides, report)
}

/// Checks the text of a config, and reads none of the files that it names.
#[must_use]
pub fn check_text(path: &Path, bytes: &[u8]) -> (Option<Config>, Report) {
    let mut report = Report::default();
    let Some(file) = decode(path, bytes, &mut report) else {
        return (None, report);
    };
    let base = path.parent().unwrap_or(Path::new(""));
    let (config, is_good) = check::check(&file, base, &Overrides::default(), &mut report);
    (is_good.then_some(config), report)
}

fn from_flags(
    upstreams: &[String],
    cors: &Path,
    overrides: &Overrides,
    report: &mut Report,
) -> Config {
    let mut settings = Vec::new();
    for text in upstreams {
        match upstream::upstream(text, Path::new("")) {
            Ok(upstream) => settings.push(upstream),
            Err(diagnostic) => report.push(diagnostic.of_flag("--upstream")),
        }
    }
    let route = RouteConfig::catch_all(settings, cors.to_owned());
    Config::with(vec![route], overrides, report)
}
