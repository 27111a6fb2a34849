//! Tells systemd how the process is doing, and nobody where systemd did not start it.
//!
//! What is told is in [sd_notify(3)], how it goes together in the unit under `deploy/systemd`.
//!
//! [sd_notify(3)]: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html

use std::convert::Infallible;

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::config::reload::Outcome;
use crate::config::reload::Progress;
use crate::config::reload::Reloader;

/// The process serves.
pub(super) fn ready(progress: Progress) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status(progress))]);
}

/// The process ends, once what is under way is done.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Says time and again that the control thread is alive, if systemd wants to know. Ends with its
/// future: where that is no longer polled, systemd learns it by the silence.
pub(super) async fn watchdog() -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return std::future::pending().await;
    };
    // Half of the limit, as sd_watchdog_enabled(3) asks for.
    let mut ticks = tokio::time::interval(limit / 2);
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// Tells of reloads: that one which was asked for begins and ends, and what became of each.
pub(super) struct Reloads {
    /// `None`: nothing is ever reloaded.
    progress: Option<watch::Receiver<Progress>>,
    /// How many reloads were asked for and done when the one began that systemd waits for.
    awaited: Option<u64>,
}

impl Reloads {
    pub(super) fn of(reloader: Option<&Reloader>) -> Self {
        Self {
            progress: reloader.map(Reloader::progress),
            awaited: None,
        }
    }

    /// What became of reloads so far.
    pub(super) fn now(&self) -> Progress {
        let progress = self.progress.as_ref();
        progress.map_or_else(Progress::default, |progress| *progress.borrow())
    }

    /// A reload was asked for.
    pub(super) fn begin(&mut self) {
        let begin = [NotifyState::Reloading, NotifyState::Status("reloading")];
        match NotifyState::monotonic_usec_now() {
            // systemd 253 compares it with the time at which it sent the signal.
            Ok(now) => tell(&[&begin[..], &[now]].concat()),
            Err(_) => tell(&begin),
        }
        if self.progress.is_some() {
            self.awaited = Some(self.now().forced);
        } else {
            ready(Progress::default());
        }
    }

    /// Waits for the next reload to be done, and tells of it.
    pub(super) async fn done(&mut self) {
        let changed = match &mut self.progress {
            Some(progress) => progress.changed().await,
            None => return std::future::pending().await,
        };
        if changed.is_err() {
            // Nothing reloads any more: the process is ending.
            return std::future::pending().await;
        }
        let progress = self.now();
        match self.awaited {
            Some(before) if progress.forced > before => {
                self.awaited = None;
                ready(progress);
            }
            // A changed file's: the one that was asked for is still to come.
            Some(_) => {}
            None => tell(&[NotifyState::Status(&status(progress))]),
        }
    }
}

/// What `systemctl status` shows.
fn status(progress: Progress) -> String {
    let generation = progress.generation.max(1);
    match progress.last {
        Outcome::Unchanged | Outcome::Applied => {
            format!("serving; configuration {generation} is in force")
        }
        Outcome::InPart => format!(
            "serving; configuration {generation} is in force, but not all of the last change: see the log"
        ),
        Outcome::Rejected => format!(
            "serving; configuration {generation} is in force, the last change is not: see the log"
        ),
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}
