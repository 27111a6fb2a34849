//! Notifies systemd of the process's state; does nothing if systemd did not start it.
//!
//! [sd_notify(3)] describes the messages; the unit is under `deploy/systemd`.
//!
//! [sd_notify(3)]: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html

use std::convert::Infallible;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::config::reload::{Outcome, Progress, Reloader};
use crate::server::Heartbeats;

/// How long a notice of a change waits for systemd to read.
const STATE: Duration = Duration::from_secs(1);

/// How long a sign of life does.
const WATCHDOG: Duration = Duration::from_millis(1);

/// The process serves.
pub(super) fn ready(progress: Progress) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status(progress))]);
}

/// The process ends, once what is under way is done.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Tells systemd's watchdog that the process is alive, as long as the control thread and every
/// worker turn their loops. Silence makes systemd restart the process.
pub(super) async fn watchdog(heartbeats: Heartbeats) -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return std::future::pending().await;
    };
    // Half of the limit, as sd_watchdog_enabled(3) asks for.
    let mut ticks = tokio::time::interval(limit / 2);
    loop {
        ticks.tick().await;
        match heartbeats.stuck() {
            0 => {
                // If systemd does not read now, the next one will do.
                let _ = send(&[NotifyState::Watchdog], WATCHDOG);
            }
            workers => tracing::error!(
                workers,
                "worker threads have not turned their loop for 5 seconds: the watchdog is not notified"
            ),
        }
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
            "serving; configuration {generation} is in force, but some files are not: see the log"
        ),
        Outcome::Rejected => format!(
            "serving; configuration {generation} is in force, the last change is not: see the log"
        ),
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = send(states, STATE) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// Sends a notice, but waits no longer than `patience` for a systemd that does not read: the
/// control thread has the operator to serve. (The crate's own function waits for ever.)
fn send(states: &[NotifyState<'_>], patience: Duration) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(patience))?;
    match path.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.connect_addr(&address)?;
        }
        _ => socket.connect(path)?,
    }
    let notice: String = states.iter().map(|state| format!("{state}\n")).collect();
    socket.send(notice.as_bytes())?;
    Ok(())
}
