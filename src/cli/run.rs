//! `s3cors run`: serves until it receives a signal to stop.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::admin::Reloads;
use crate::config::reload::Reloader;
use crate::config::state_folder::StateFolder;
use crate::config::{Input, Loaded, Overrides, load, reload};
use crate::metrics::{DroppedLines, Metrics, ReloadResult};
use crate::routing::snapshot::Current;
use crate::server::socket::Claim;

use super::log::Log;
use super::manual::Manual;
use super::output::{Failure, YES, complain_briefly, count, has_colours};
use super::prepare;
use super::process;
use super::process::Process;
use super::routes::{Routes, USAGE};
use super::signals::Signals;

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "A sidecar: forward port 8080 to port 9000, under one policy",
            "s3cors run --upstream http://127.0.0.1:9000 --cors cors.xml",
        ),
        (
            "Several hosts, a policy per bucket, TLS: with a config",
            "s3cors run --config s3cors.toml",
        ),
        (
            "The same, on all network interfaces, with a JSON log",
            "s3cors run --config s3cors.toml --listen 0.0.0.0:8080 --log-format json",
        ),
    ],
    exit_codes: &[
        ("0", "drained after a signal"),
        ("1", "an address is in use, or serving failed"),
        ("2", "bad usage, or an invalid config: not started"),
    ],
    environment: &[
        (
            "SSL_CERT_FILE",
            "the certificate authorities to trust for upstreams",
        ),
        (
            "NOTIFY_SOCKET",
            "set by systemd: receives READY, RELOADING, STOPPING, STATUS",
        ),
        ("WATCHDOG_USEC", "set by systemd: the watchdog's interval"),
        (
            "STATE_DIRECTORY",
            "systemd's: where the last good policies are kept, unless the config says otherwise",
        ),
        (
            "LISTEN_FDS",
            "set by systemd: the sockets for \"systemd:NAME\"",
        ),
    ],
    files: &[
        ("/etc/s3cors/s3cors.toml", "the config of the service"),
        (
            "/run/s3cors",
            "the service's folder for \"unix:\" addresses",
        ),
        ("/var/log/s3cors", "the service's folder for the access log"),
        (
            "/var/lib/s3cors",
            "the service's state folder: the last good policies",
        ),
    ],
};

/// How long a start may continue after a stop signal, to clean up.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// Serve: answer preflights, forward everything else, add CORS fields to the responses.
///
/// A changed config, policy or certificate is in force within a second; an invalid one is
/// reported and changes nothing. SIGHUP reloads all files; SIGHUP and SIGUSR1 reopen the access
/// log. SIGTERM, SIGINT and SIGQUIT drain: requests under way complete. A second one of these
/// stops at once, unless it follows within 100 ms: then it counts as the same signal.
#[derive(Debug, Args)]
#[command(override_usage = USAGE)]
pub(super) struct Run {
    #[command(flatten)]
    routes: Routes,
    /// The address for clients [default: the config's, or 127.0.0.1:8080].
    #[arg(long, env = "S3CORS_LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
    /// The admin listener's address, or "off" [default: the config's, or 127.0.0.1:9901].
    #[arg(long, env = "S3CORS_ADMIN", value_name = "ADDRESS")]
    admin: Option<String>,
    /// A host name that the admin listener accepts, besides its own address, localhost and the
    /// config's names. Repeatable.
    #[arg(
        long = "admin-host",
        env = "S3CORS_ADMIN_HOSTS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    admin_hosts: Vec<String>,
    /// Start although policies are invalid: their routes are served without CORS.
    #[arg(long, env = "S3CORS_KEEP_GOING", value_parser = BoolishValueParser::new())]
    keep_going: bool,
    /// Take over the addresses of another s3cors of the same user; stop that one afterwards.
    #[arg(long, env = "S3CORS_TAKEOVER", value_parser = BoolishValueParser::new())]
    takeover: bool,
    #[command(flatten)]
    log: Log,
}

impl Run {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let log = self.log.start()?;
        let keep_going = self.keep_going;
        let claim = if self.takeover {
            Claim::Shared
        } else {
            Claim::Free
        };
        let drops = log.dropped.clone();
        process::run(serve(self.input(), keep_going, claim, drops))?
    }

    fn input(self) -> Input {
        Input {
            source: self.routes.0,
            overrides: Overrides {
                listen: self.listen,
                admin: self.admin,
                admin_hosts: names(self.admin_hosts),
            },
        }
    }
}

/// Parses a list; in a variable it may have spaces and a trailing comma.
fn names(given: Vec<String>) -> Vec<String> {
    let names = given.iter().map(|name| name.trim());
    let names = names.filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

async fn serve(
    input: Input,
    keep_going: bool,
    claim: Claim,
    log_drops: DroppedLines,
) -> Result<u8, Failure> {
    let mut signals = Signals::catch()?;
    // On its own thread: a hanging file system must not keep a signal from ending the start.
    let starting = tokio::task::spawn_blocking(move || start(input, keep_going, claim, log_drops));
    let mut starting = pin!(starting);
    let (started, is_stopping) = tokio::select! {
        biased;
        started = &mut starting => (started, false),
        () = signals.stop.asked_for() => {
            match tokio::time::timeout(START_PATIENCE, &mut starting).await {
                Ok(started) => (started, true),
                Err(_) => {
                    tracing::warn!("stopped by a signal before the start was complete");
                    return Ok(YES);
                }
            }
        }
    };
    let (process, reloader) = started.map_err(io::Error::other)??;
    process.until_stopped(signals, is_stopping, reloader).await
}

/// Loads all files and binds every address.
fn start(
    input: Input,
    keep_going: bool,
    claim: Claim,
    log_drops: DroppedLines,
) -> Result<(Process, Option<Reloader>), Failure> {
    #[cfg(debug_assertions)]
    block_for_test();
    let mut loaded = load(&input);
    let Some(config) = &loaded.config else {
        return Err(refusal(&loaded));
    };
    let state = StateFolder::open(&config.state)?;
    restore(&mut loaded, state.as_ref());
    if loaded.stops_start() && !keep_going {
        return Err(refusal(&loaded));
    }
    if prepare::policy_stores(&loaded, keep_going)? {
        // They have other files now.
        loaded = load(&input);
        restore(&mut loaded, state.as_ref());
    }
    let (process, reloader) = start_loaded(loaded, input, keep_going, claim, log_drops)?;
    let reloader = match (reloader, state) {
        (Some(reloader), Some(state)) => Some(reloader.with_state(state)?),
        (reloader, _) => reloader,
    };
    Ok((process, reloader))
}

fn restore(loaded: &mut Loaded, state: Option<&StateFolder>) {
    if let Some(state) = state {
        loaded.restore(state);
    }
}

/// Reports why a config cannot be served.
fn refusal(loaded: &Loaded) -> Failure {
    let text = loaded
        .report
        .only_errors()
        .render(has_colours(&io::stderr()));
    complain_briefly(text);
    let errors = count(loaded.report.errors(), "error");
    Failure::Usage(format!(
        "{errors}: not started; fix these, then run `s3cors check`"
    ))
}

/// Binds every address and starts to serve.
fn start_loaded(
    loaded: Loaded,
    input: Input,
    keep_going: bool,
    claim: Claim,
    log_drops: DroppedLines,
) -> Result<(Process, Option<Reloader>), Failure> {
    let Some(config) = &loaded.config else {
        return Err(refusal(&loaded));
    };
    let metrics = Metrics::new(config.server.workers);
    metrics.show_log_drops(log_drops);
    let Some(snapshot) = loaded.snapshot(&metrics, None, 1, keep_going) else {
        return Err(refusal(&loaded));
    };
    let hosts = config.routes.iter().map(|route| route.hosts.len());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        routes = config.routes.len(),
        hosts = hosts.sum::<usize>(),
        policies = loaded.policy_count(),
        "starting"
    );
    reload::log(&loaded.report);
    let reloads = Reloads::default();
    if loaded.has_errors() {
        metrics.reloaded(ReloadResult::Partial, 1);
        tracing::error!(
            errors = loaded.report.errors(),
            "started although policy files are invalid: without a last good version in the state folder, their buckets and routes are served without CORS until the files are fixed; see `out_of_date` in /status"
        );
    }
    let current = Arc::new(Current::new(snapshot));
    let process = Process::start(
        config,
        Arc::clone(&current),
        Arc::clone(&metrics),
        reloads.clone(),
        claim,
    )?;
    let reloader = Reloader::new(input, keep_going, loaded, current, metrics, reloads);
    Ok((process, reloader))
}

/// For a test, blocks the start until the named pipe `S3CORS_TEST_BLOCK_START` has been written
/// to and closed. Release builds do not have it.
#[cfg(debug_assertions)]
fn block_for_test() {
    if let Some(pipe) = std::env::var_os("S3CORS_TEST_BLOCK_START") {
        let _ = std::fs::read(pipe);
    }
}
