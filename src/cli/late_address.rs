//! Waits at a start for addresses that the machine does not have yet: at boot, an interface may come up
//! after this process.

use std::error::Error;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::output::chain;

/// How long a start waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How often it tries.
const PAUSE: Duration = Duration::from_millis(250);

/// Binds. While the machine does not have the address, it tries again for `patience`.
///
/// # Errors
///
/// The error of the last attempt.
pub(super) fn bind<T, E: Error + 'static>(
    patience: Duration,
    mut bind: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let began = Instant::now();
    let mut is_told = false;
    loop {
        match bind() {
            Err(error) if is_missing(&error) && began.elapsed() < patience => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(
                        error = chain(&error),
                        seconds = patience.as_secs(),
                        "the machine does not have a listen address yet; waiting for it"
                    );
                }
                thread::sleep(PAUSE.min(patience));
            }
            bound => return bound,
        }
    }
}

/// Whether the machine does not have the address.
fn is_missing(error: &(dyn Error + 'static)) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref());
    source.is_some_and(|source: &io::Error| source.kind() == io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Bind, StartError};

    fn failure(kind: io::ErrorKind) -> StartError {
        StartError::Bind {
            address: Bind::Tcp("192.0.2.1:80".parse().unwrap()),
            source: kind.into(),
        }
    }

    #[test]
    fn only_a_missing_address_is_retried_and_not_for_ever() {
        let missing = || Err(failure(io::ErrorKind::AddrNotAvailable));
        let mut left = vec![Ok(3), missing(), missing()];
        let bound = bind(Duration::from_secs(60), || left.pop().unwrap());
        assert_eq!(bound.unwrap(), 3);

        let mut tries = 0;
        let bound: Result<(), _> = bind(Duration::from_millis(1), || {
            tries += 1;
            Err(failure(io::ErrorKind::AddrNotAvailable))
        });
        assert!(bound.is_err() && tries >= 2);

        let mut tries = 0;
        let bound: Result<(), _> = bind(Duration::from_secs(60), || {
            tries += 1;
            Err(failure(io::ErrorKind::AddrInUse))
        });
        assert!(bound.is_err() && tries == 1);
    }
}
