//! A process that serves: its threads and listeners, from the start to the end of the drain.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::admin;
use crate::admin::Admin;
use crate::admin::Health;
use crate::admin::Phase;
use crate::admin::Reloads;
use crate::config;
use crate::config::Config;
use crate::config::reload::Reloader;
use crate::metrics::Metrics;
use crate::proxy::access_log::AccessLog;
use crate::proxy::snapshot::Current;
use crate::proxy::traces::Traces;
use crate::server::Bind;
use crate::server::Server;
use crate::server::socket::Claim;

use super::notify;
use super::{Failure, NO, YES, chain};

/// How long after a signal another one is taken for the same. timeout(1) sends its own to the
/// process and then to the group that it is in; terminals tell the whole group, and what runs
/// the process in it often passes that on. All of that takes a few milliseconds; nobody presses
/// Ctrl-C twice as fast as this.
const ONE_SIGNAL: Duration = Duration::from_millis(100);

/// How long the access log's last lines are waited for.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// How long the last spans are waited for.
const TRACES_PATIENCE: Duration = Duration::from_secs(2);

/// A runtime for the control thread: the operator, signals, reloads.
pub(super) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// What serves.
pub(super) struct Process {
    server: Server,
    /// Where clients connect to.
    pub(super) addresses: Vec<Bind>,
    /// Where the operator connects to.
    pub(super) admin_address: Option<Bind>,
    admin: Option<Admin>,
    state: Arc<admin::State>,
    access_log: Option<AccessLog>,
    traces: Option<Traces>,
    signals: Signals,
}

struct Signals {
    stop: Stop,
    hangup: Signal,
}

/// The signals that end the process.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Process {
    /// Takes every address, then serves. Nothing is served where one cannot be had.
    pub(super) fn start(
        config: &Config,
        current: Arc<Current>,
        metrics: Arc<Metrics>,
        reloads: Reloads,
        claim: Claim,
    ) -> Result<Self, Failure> {
        let signals = Signals {
            stop: Stop::new()?,
            hangup: signal(SignalKind::hangup())?,
        };
        let bound = Server::bind(&config.server, claim)?;
        let addresses = bound.addresses();
        let admin = match Admin::bind(&config.admin, claim) {
            Ok(admin) => admin,
            Err(error) if config.admin_asked_for => return Err(error.into()),
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "there is no admin listener, for nobody chose an address and the default is taken"
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
            reloads,
        };
        Ok(Self {
            server,
            addresses,
            admin_address,
            admin,
            state: Arc::new(state),
            access_log,
            traces,
            signals,
        })
    }

    /// Serves until SIGTERM or SIGINT and then drains; another one, [`ONE_SIGNAL`] later or more,
    /// ends it at once.
    pub(super) async fn until_stopped(self, reloader: Option<Reloader>) -> Result<u8, Failure> {
        let Self {
            mut server,
            admin,
            state,
            access_log,
            traces,
            signals: Signals {
                mut stop,
                mut hangup,
            },
            ..
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
        local.spawn_local(notify::watchdog());
        state.enter(Phase::Serving);
        notify::ready(reloads.now());
        let serve = async {
            loop {
                tokio::select! {
                    () = stop.asked_for() => break,
                    _ = hangup.recv() => {
                        tracing::info!("SIGHUP: everything is read anew");
                        reloads.begin();
                        forced.notify_one();
                        if let Some(log) = &access_log {
                            log.reopen();
                        }
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
            tracing::info!("draining; another signal ends it at once");
            tokio::select! {
                drained = server.drain() => Ok(Some(drained.cut)),
                () = stop.asked_for_again(Instant::now()) => Ok(None),
            }
        };
        let cut = local.run_until(serve).await?;
        match cut {
            Some(0) => tracing::info!("drained"),
            Some(cut) => tracing::warn!(
                cut,
                "drained, but some connections were cut at the deadline"
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

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked_for(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for another signal than the one that came at `first`.
    async fn asked_for_again(&mut self, first: Instant) {
        loop {
            self.asked_for().await;
            if first.elapsed() >= ONE_SIGNAL {
                return;
            }
            tracing::info!("a signal right behind the first is taken for the same");
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_signal_right_behind_the_first_is_the_same_and_a_later_one_is_not() {
        let mut stop = Stop::new().unwrap();
        let mut witness = signal(SignalKind::terminate()).unwrap();
        let raise = || kill_process(getpid(), Number::TERM).unwrap();
        raise();
        stop.asked_for().await;
        witness.recv().await;

        raise();
        witness.recv().await;
        let just_now = Instant::now() + Duration::from_secs(3600);
        tokio::select! {
            biased;
            () = stop.asked_for_again(just_now) => panic!("it is the same"),
            () = std::future::ready(()) => {}
        }

        raise();
        let earlier = Instant::now().checked_sub(ONE_SIGNAL).unwrap();
        stop.asked_for_again(earlier).await;
    }
}
