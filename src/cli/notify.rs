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

/// How long a state message waits for systemd to read it.
const STATE: Duration = Duration::from_secs(1);

/// How long a watchdog message waits.
const WATCHDOG: Duration = Duration::from_millis(1);

/// Sends READY: the process serves.
pub(super) fn ready(progress: Progress) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status(progress))]);
}

/// Sends STOPPING: the process drains.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Notifies systemd's watchdog while the control thread and every worker turn their loops.
/// Without these messages, systemd restarts the process.
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
                // If systemd does not read this one, the next one is in time.
                let _ = send(&[NotifyState::Watchdog], WATCHDOG);
            }
            workers => tracing::error!(
                workers,
                "worker threads have not turned their loop for 5 seconds: the watchdog is not notified"
            ),
        }
    }
}

/// Notifies systemd of reloads: their start, their end and their result.
pub(super) struct Reloads {
    /// `None`: nothing is reloaded.
    progress: Option<watch::Receiver<Progress>>,
    /// The numbers of requested and completed reloads when the current one started.
    awaited: Option<u64>,
}

impl Reloads {
    pub(super) fn of(reloader: Option<&Reloader>) -> Self {
        Self {
            progress: reloader.map(Reloader::progress),
            awaited: None,
        }
    }

    /// The results of the reloads so far.
    pub(super) fn now(&self) -> Progress {
        let progress = self.progress.as_ref();
        progress.map_or_else(Progress::default, |progress| *progress.borrow())
    }

    /// Sends RELOADING: a reload was requested.
    pub(super) fn begin(&mut self) {
        let begin = [NotifyState::Reloading, NotifyState::Status("reloading")];
        match NotifyState::monotonic_usec_now() {
            // systemd 253 compares this with the time at which it sent the signal.
            Ok(now) => tell(&[&begin[..], &[now]].concat()),
            Err(_) => tell(&begin),
        }
        if self.progress.is_some() {
            self.awaited = Some(self.now().forced);
        } else {
            ready(Progress::default());
        }
    }

    /// Waits until the next reload is complete, and notifies systemd.
    pub(super) async fn done(&mut self) {
        let changed = match &mut self.progress {
            Some(progress) => progress.changed().await,
            None => return std::future::pending().await,
        };
        if changed.is_err() {
            // The reloader has ended because the process is ending.
            return std::future::pending().await;
        }
        let progress = self.now();
        match self.awaited {
            Some(before) if progress.forced > before => {
                self.awaited = None;
                ready(progress);
            }
            // A file change triggered this reload; the requested one is still to come.
            Some(_) => {}
            None => tell(&[NotifyState::Status(&status(progress))]),
        }
    }
}

/// The status text in `systemctl status`.
fn status(progress: Progress) -> String {
    let generation = progress.generation.max(1);
    match progress.last {
        Outcome::Unchanged | Outcome::Applied => {
            format!("serving configuration {generation}")
        }
        Outcome::InPart => format!(
            "serving configuration {generation}; some files are invalid and not in force: see the log"
        ),
        Outcome::Rejected => {
            format!("serving configuration {generation}; the last change was rejected: see the log")
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = send(states, STATE) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// Sends a message. Waits at most `patience`, because the control thread also serves the admin
/// listener. (The crate's own function waits for ever.)
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
