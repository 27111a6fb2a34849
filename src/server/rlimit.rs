//! The limit on open files, which includes all connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::net::descriptor_reserve;

/// The descriptors of a connection: the client's side and the upstream's.
const A_CONNECTION: u64 = 2;

/// A generous estimate of other open files: listeners, epoll, logs, config watches.
const BESIDE: u64 = 100;

/// The maximum number of connections if the config does not set it.
const DEFAULT_CONNECTIONS: usize = 20_000;

/// Raises the limit on open files as far as the process may, and returns the maximum number of
/// connections: the `configured` number, with a warning if the limit is too low for it; otherwise
/// as many as the limit allows, up to a default.
///
/// The soft limit applies, and is often as low as 1024 for programs that use select(2)
/// (setrlimit(2)); s3cors does not.
pub(super) fn connections(configured: Option<usize>) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit on open files");
            limit.current
        }
    };
    descriptor_reserve::read_limit();
    let Some(connections) = configured else {
        return room(current);
    };
    if let Some((allowed, needed)) = shortfall(current, connections) {
        tracing::warn!(
            allowed,
            needed,
            "the limit on open files is too low for `limits.connections`, which needs two files per connection; raise LimitNOFILE= of the unit or `ulimit -Hn`, or lower `limits.connections`"
        );
    }
    connections
}

/// How many connections a limit on open files allows; `None` is unlimited.
fn room(limit: Option<u64>) -> usize {
    let Some(limit) = limit else {
        return DEFAULT_CONNECTIONS;
    };
    // With a very low limit, other files may take half.
    let files = limit.saturating_sub(BESIDE).max(limit / 2);
    let room = usize::try_from(files / A_CONNECTION).unwrap_or(usize::MAX);
    room.clamp(1, DEFAULT_CONNECTIONS)
}

/// The limit on open files and the required number, if the limit is lower; `None` for the limit
/// is unlimited.
fn shortfall(limit: Option<u64>, connections: usize) -> Option<(u64, u64)> {
    let connections = u64::try_from(connections).unwrap_or(u64::MAX);
    let needed = connections
        .saturating_mul(A_CONNECTION)
        .saturating_add(BESIDE);
    limit
        .filter(|allowed| *allowed < needed)
        .map(|allowed| (allowed, needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_follows_the_limit() {
        for (limit, expected) in [
            (None, 20_000),
            (Some(1_048_576), 20_000),
            (Some(40_100), 20_000),
            (Some(40_099), 19_999),
            (Some(1024), 462),
            (Some(64), 16),
            (Some(0), 1),
        ] {
            assert_eq!(room(limit), expected, "{limit:?}");
        }
    }

    #[test]
    fn a_connection_needs_two_files() {
        assert_eq!(shortfall(Some(1024), 20_000), Some((1024, 40_100)));
        assert_eq!(shortfall(Some(40_099), 20_000), Some((40_099, 40_100)));
        assert_eq!(shortfall(Some(40_100), 20_000), None);
        assert_eq!(shortfall(None, usize::MAX), None);
    }
}
