//! The reserve of file descriptors: clients and upstreams leave it to the admin listener, reloads
//! and logs.
//!
//! The kernel hands out the lowest free number ([open(2)]), so a high number means that nearly all
//! are in use. No count is needed, and the check is one comparison.
//!
//! [open(2)]: https://man7.org/linux/man-pages/man2/open.2.html

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// How many descriptors are kept for uses other than clients and upstreams.
const RESERVE: u64 = 32;

/// With a low limit, the reserve is at most this fraction of it (one in eight).
const MOST_OF_LIMIT: u64 = 8;

/// The first descriptor of the reserve, and the first one above it.
static FIRST_RESERVED: AtomicI32 = AtomicI32::new(i32::MAX);
static END: AtomicI32 = AtomicI32::new(i32::MAX);

/// Reads how many files the process may have open. The limit can change at any time (`prlimit`).
pub(crate) fn read_limit() {
    let limit = getrlimit(Resource::Nofile).current;
    FIRST_RESERVED.store(first_reserved(limit), Ordering::Relaxed);
    let end = limit.and_then(|limit| i32::try_from(limit).ok());
    END.store(end.unwrap_or(i32::MAX), Ordering::Relaxed);
}

/// The descriptors in the reserve.
pub(crate) fn reserved() -> Range<RawFd> {
    FIRST_RESERVED.load(Ordering::Relaxed)..END.load(Ordering::Relaxed)
}

fn first_reserved(limit: Option<u64>) -> i32 {
    let first = limit.map(|limit| limit - reserve(limit));
    first
        .and_then(|first| i32::try_from(first).ok())
        .unwrap_or(i32::MAX)
}

fn reserve(limit: u64) -> u64 {
    RESERVE.min(limit / MOST_OF_LIMIT)
}

/// Whether a descriptor belongs to the reserve.
pub(crate) fn is_reserved(descriptor: &impl AsFd) -> bool {
    let number = descriptor.as_fd().as_raw_fd();
    let is_reserved = || number >= FIRST_RESERVED.load(Ordering::Relaxed);
    is_reserved() && {
        // The limit may just have been raised.
        read_limit();
        is_reserved()
    }
}

/// Refuses a descriptor from the reserve, with the error that the system gives when none is left.
pub(crate) fn outside_reserve<D: AsFd>(descriptor: D) -> io::Result<D> {
    if is_reserved(&descriptor) {
        Err(Errno::MFILE.into())
    } else {
        Ok(descriptor)
    }
}

/// Whether the error means that the process or the system has reached its limit of open files.
pub(crate) fn is_about_descriptors(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_small_and_no_more_than_an_eighth_of_the_limit() {
        for (limit, expected) in [
            (Some(0), 0),
            (Some(8), 7),
            (Some(64), 56),
            (Some(256), 224),
            (Some(1024), 992),
            (Some(1_048_576), 1_048_544),
            (Some(u64::MAX), i32::MAX),
            (None, i32::MAX),
        ] {
            assert_eq!(first_reserved(limit), expected, "{limit:?}");
        }
    }
}
