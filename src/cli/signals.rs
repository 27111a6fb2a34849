//! The signals of a serving process.
//!
//! TERM, INT and QUIT drain, HUP reloads, USR1 reopens log files. Signals that tools commonly
//! send and that would end the process by default are ignored.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long after a signal another one counts as the same. timeout(1) sends its signal to the
/// process and then to its group; terminals signal the whole group, and the process that runs
/// this one often forwards theirs. All of that takes a few milliseconds; nobody presses Ctrl-C
/// twice as fast.
const ONE_SIGNAL: Duration = Duration::from_millis(100);

/// Ignored signals. XFSZ is the limit on file sizes: the write fails, and the log counts it. The
/// others are timers, I/O notices, power and window changes, and signals that init systems,
/// profilers and log rotation send to everything they run.
const IGNORED: [Number; 9] = [
    Number::USR2,
    Number::ALARM,
    Number::VTALARM,
    Number::PROF,
    Number::IO,
    Number::WINCH,
    Number::XFSZ,
    #[cfg(target_os = "linux")]
    Number::POWER,
    #[cfg(target_os = "linux")]
    Number::STKFLT,
];

/// Real-time signals; the C library uses those below itself.
#[cfg(target_os = "linux")]
const REAL_TIME: std::ops::RangeInclusive<i32> = 35..=64;

/// The signals, caught since [`Signals::catch`].
pub(super) struct Signals {
    pub(super) stop: Stop,
    /// Reload.
    pub(super) hangup: Signal,
    /// Reopen log files.
    pub(super) reopen: Signal,
}

/// The signals that end the process.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    /// Catches the signals: from here on, none ends the process by itself, and early ones are
    /// kept. Call it first, on the runtime that will serve.
    pub(super) fn catch() -> io::Result<Self> {
        let signals = Self {
            stop: Stop::new()?,
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
        };
        for number in IGNORED {
            // The handler outlives its listener.
            drop(signal(SignalKind::from_raw(number.as_raw()))?);
        }
        #[cfg(target_os = "linux")]
        for number in REAL_TIME {
            // Some signals belong to the program that runs the process (valgrind) and cannot be
            // caught.
            let _ = signal(SignalKind::from_raw(number));
        }
        Ok(signals)
    }
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    pub(super) async fn asked_for(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }

    /// Waits for another signal than the one at `first`.
    pub(super) async fn asked_for_again(&mut self, first: Instant) {
        loop {
            self.asked_for().await;
            if first.elapsed() >= ONE_SIGNAL {
                return;
            }
            tracing::info!("another signal within 100 ms counts as the same");
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_signal_within_100_ms_counts_as_the_same_and_a_later_one_does_not() {
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
            () = stop.asked_for_again(just_now) => panic!("it counts as the same"),
            () = std::future::ready(()) => {}
        }

        raise();
        let earlier = Instant::now().checked_sub(ONE_SIGNAL).unwrap();
        stop.asked_for_again(earlier).await;
    }
}
