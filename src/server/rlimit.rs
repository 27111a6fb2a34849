//! The system's limit on open files, which every connection counts against.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::net::descriptor_reserve;

/// What a connection takes: the client's side and the upstream's.
const A_CONNECTION: u64 = 2;

/// What a process has open beside its connections, amply: listeners, epoll, logs, config watches.
const BESIDE: u64 = 100;

/// The most connections where the config says nothing.
const DEFAULT_CONNECTIONS: usize = 20_000;

/// Raises the limit on open files as far as the process itself may, and returns how many connections
/// may be held: as many as are `configured`, with a warning where the limit is not enough for them;
/// else as many as it is enough for, up to a default.
///
/// The soft limit is what counts, and is as low as 1024 for the sake of programs that use
/// select(2) (setrlimit(2)); this one does not.
pub(super) fn connections(configured: Option<usize>) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            tracing::debug!(%error, "the limit on open files stays as it is");
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
            "fewer files may be open than `limits.connections` needs, two for each connection: \
             raise LimitNOFILE= of the unit, or `ulimit -Hn`, or lower `limits.connections`"
        );
    }
    connections
}

/// How many connections a limit on open files allows; `None` is no limit.
fn room(limit: Option<u64>) -> usize {
    let Some(limit) = limit else {
        return DEFAULT_CONNECTIONS;
    };
    // Of a very low limit, what is open beside connections may take half.
    let files = limit.saturating_sub(BESIDE).max(limit / 2);
    let room = usize::try_from(files / A_CONNECTION).unwrap_or(usize::MAX);
    room.clamp(1, DEFAULT_CONNECTIONS)
}

/// How many files may be open, and how many have to, where the first is less. `None` for a limit
/// is none.
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
