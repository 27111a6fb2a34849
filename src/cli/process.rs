//! A serving process: its threads and listeners, from the start to the end of the drain.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::admin::{Admin, Health, Phase, Reloads};
use crate::config::Config;
use crate::config::reload::Reloader;
use crate::metrics::Metrics;
use crate::routing::snapshot::Current;
use crate::server::socket::Claim;
use crate::server::{Bind, Server};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::live::LiveFeed;
use crate::telemetry::traces::Traces;
use crate::{admin, bucket_api, config};

use super::output::{Failure, NO, YES, chain};
use super::signals::Signals;
use super::{late_address, notify, ready};

/// How long to wait for the access log's last lines.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait for the last spans.
const TRACES_PATIENCE: Duration = Duration::from_secs(2);

/// A serving process.
pub(super) struct Process {
    server: Server,
    /// The addresses for clients.
    pub(super) addresses: Vec<Bind>,
    /// The same as URLs.
    urls: Vec<String>,
    /// The admin listener's address.
    pub(super) admin_address: Option<Bind>,
    admin: Option<Admin>,
    state: Arc<admin::State>,
    access_log: Option<AccessLog>,
    traces: Option<Traces>,
}

impl Process {
    /// Binds every address, then serves. Does not serve if an address is unavailable.
    pub(super) fn start(
        config: &Config,
        current: Arc<Current>,
        metrics: Arc<Metrics>,
        reloads: Reloads,
        claim: Claim,
    ) -> Result<Self, Failure> {
        let patience = late_address::PATIENCE;
        let bound = late_address::bind(patience, || Server::bind(&config.server, claim))?;
        let addresses = bound.addresses();
        let urls = bound.urls();
        let patience = match config.admin_asked_for {
            true => patience,
            false => Duration::ZERO,
        };
        let admin = match late_address::bind(patience, || Admin::bind(&config.admin, claim)) {
            Ok(admin) => admin,
            Err(error) if config.admin_asked_for => return Err(error.into()),
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "admin listener disabled: its default address is in use; set one with --admin"
                );
                None
            }
        };
        let admin_address = admin.as_ref().map(Admin::address).transpose()?;
        let settings = config.access_log.as_ref();
        let access_log = settings
            .map(|settings| AccessLog::start(settings, &metrics))
            .transpose()?;
        let settings = config.traces.as_ref();
        let traces = settings
            .map(|settings| Traces::start(settings, &metrics))
            .transpose()?;
        let health = Health::new();
        let entrances = bound.entrances();
        let live = LiveFeed::new(&metrics);
        // Without an admin listener, the events have no reader.
        let bound = match &admin {
            Some(_) => bound.with_live(live.clone()),
            None => bound,
        };
        let server = bound.serve(
            Arc::clone(&current),
            Arc::clone(&metrics),
            access_log.as_ref(),
            traces.as_ref(),
        )?;
        for address in &addresses {
            tracing::info!(%address, "listening");
        }
        if let Some(address) = &admin_address {
            tracing::info!(%address, "listening for the operator");
        }
        let state = admin::State {
            current,
            metrics,
            health,
            heartbeats: server.heartbeats(),
            reloads,
            entrances,
            live,
        };
        Ok(Self {
            server,
            addresses,
            urls,
            admin_address,
            admin,
            state: Arc::new(state),
            access_log,
            traces,
        })
    }

    /// Serves until SIGTERM, SIGINT or SIGQUIT, then drains; a second signal ends it at once.
    /// `is_stopping`: the first signal has come already.
    pub(super) async fn until_stopped(
        self,
        signals: Signals,
        is_stopping: bool,
        reloader: Option<Reloader>,
    ) -> Result<u8, Failure> {
        let Signals {
            mut stop,
            mut hangup,
            mut reopen,
        } = signals;
        let Self {
            mut server,
            addresses,
            urls,
            admin_address,
            admin,
            state,
            access_log,
            traces,
        } = self;
        let local = LocalSet::new();
        if let Some(admin) = admin {
            let state = Arc::clone(&state);
            local.spawn_local(async move {
                let Err(error) = admin.serve(state).await;
                tracing::error!(%error, "the admin listener failed");
            });
        }
        let forced = Arc::new(Notify::new());
        let mut reloads = notify::Reloads::of(reloader.as_ref());
        let watching = reloader
            .map(|reloader| local.spawn_local(config::watch(reloader, Arc::clone(&forced))));
        local.spawn_local(notify::watchdog(state.heartbeats.clone()));
        local.spawn_local(bucket_api::supervise(Arc::clone(&state.current)));
        state.enter(Phase::Serving);
        notify::ready(reloads.now());
        let snapshot = state.current.get();
        local.spawn_local(ready::report(urls, addresses, admin_address, snapshot));
        let serve = async {
            loop {
                tokio::select! {
                    () = std::future::ready(()), if is_stopping => break,
                    () = stop.asked_for() => break,
                    _ = hangup.recv() => {
                        tracing::info!("SIGHUP: reloading all files");
                        reloads.begin();
                        forced.notify_one();
                        reopen_log(access_log.as_ref());
                    }
                    _ = reopen.recv() => {
                        tracing::info!("SIGUSR1: reopening log files");
                        reopen_log(access_log.as_ref());
                    }
                    () = reloads.done() => {}
                    error = server.failed() => return Err(Failure::from(error)),
                }
            }
            if let Some(watching) = watching {
                watching.abort();
            }
            state.enter(Phase::Draining);
            notify::stopping();
            tracing::info!("draining; another signal stops at once");
            let began = Instant::now();
            let mut drained = pin!(server.drain());
            let mut stopped_at_once = pin!(stop.asked_for_again(began));
            loop {
                tokio::select! {
                    drained = &mut drained => return Ok(Some(drained.cut)),
                    () = &mut stopped_at_once => return Ok(None),
                    _ = reopen.recv() => reopen_log(access_log.as_ref()),
                    // A draining process does not reload, but still reopens rotated log files.
                    _ = hangup.recv() => reopen_log(access_log.as_ref()),
                }
            }
        };
        let cut = local.run_until(serve).await?;
        match cut {
            Some(0) => tracing::info!("drained"),
            Some(cut) => tracing::warn!(
                cut,
                "drained, but some connections were closed at the deadline"
            ),
            None => {
                tracing::warn!("stopped at once by a second signal");
                return Ok(NO);
            }
        }
        if access_log.is_some_and(|log| !log.finish(LOG_PATIENCE)) {
            tracing::warn!("the last lines of the access log could not be written");
        }
        if traces.is_some_and(|traces| !traces.finish(TRACES_PATIENCE)) {
            tracing::warn!("the last spans could not be sent");
        }
        Ok(YES)
    }
}

fn reopen_log(log: Option<&AccessLog>) {
    if let Some(log) = log {
        log.reopen();
    }
}

/// Runs a process to its end. Does not wait for threads that still block (on a file system or a
/// name lookup).
pub(super) fn run<T>(process: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(process);
    runtime.shutdown_background();
    Ok(result)
}
